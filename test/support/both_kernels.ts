/** The fake kernel beside the real one: what is done, is done to both, and must have the same result. */
import { AF, EPOLL, F, MSG, POLL, RLIMIT, SHUT, SO, SOCK, SOL, TCP } from "../../ffi/constants.ts";
import { ERRNO, expectValue } from "../../ffi/errno.ts";
import {
  decodeInt,
  decodeTcpInfo,
  encodeInt,
  encodeLinger,
  PollSet,
  type Rlimit,
  SOCKADDR_MAX_BYTES,
  TCP_INFO_BYTES,
} from "../../ffi/layout.ts";
import { realSyscalls as real, type Syscalls } from "../../ffi/syscalls.ts";
import { openNumbers, outcome } from "./descriptors.ts";
import { type ClientState, type FakeClient, FakeKernel } from "./fake_kernel.ts";
import { bytes, text } from "./sockets.ts";

/** How long the real kernel may take until it shows what the fake one shows at once. */
const SETTLE_MS = 20_000;
/** Between the numbers that are compared and those of the real clients. */
const GAP = 64;
const QUICKACK = encodeInt(1);
const NODELAY = encodeInt(1);

/** All that a fake file can show. */
const ASKED = EPOLL.in | EPOLL.out | EPOLL.rdhup;
const peeked = bytes(4096);

/** How many bytes can be read; 0 beside an error, which looking would take. */
function unreadBytes(sys: Syscalls, fd: number, revents: number): number {
  return (revents & (POLL.in | POLL.err)) === POLL.in ? sys.recv(fd, peeked, MSG.peek | MSG.dontwait) : 0;
}

/** The real counterpart of a FakeClient. It has a number out of the way, and reads when it is told to. */
class RealClient {
  state: ClientState = "connecting";
  received = "";
  isPaused = false;
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** Whether connect(2) has come to an end. */
  get isConnected(): boolean {
    return (this.readiness & POLL.out) !== 0;
  }

  get readiness(): number {
    const set = new PollSet(1);
    set.set(0, this.fd, ASKED);
    real.poll(set, 1, 0);
    return set.revents(0);
  }

  get unreadBytes(): number {
    return unreadBytes(real, this.fd, this.readiness);
  }

  read(): void {
    // The kernel delays some acknowledgements by 40 ms: tcp(7), TCP_QUICKACK
    real.setsockopt(this.fd, SOL.tcp, TCP.quickack, QUICKACK);
    const buffer = bytes(4096);
    while (!this.isPaused && (this.state === "queued" || this.state === "accepted")) {
      const count = real.recv(this.fd, buffer, MSG.dontwait);
      if (count === -ERRNO.EAGAIN[0]) return;
      if (count > 0) this.received += text(buffer, count);
      else this.state = count === 0 ? "end" : "reset";
    }
  }
}

/** A client of both kernels. */
export interface ClientPair {
  readonly fake: FakeClient;
  readonly real: RealClient;
}

/** What one descriptor shows from outside, without a side effect. */
interface Look {
  revents: number;
  unreadBytes: number;
  state: number;
  queue: number;
  backlog: number;
}

/** Both kernels, with equal descriptor tables and equal limits. Nothing of the runtime may run until it is closed. */
export class BothKernels {
  readonly fake: FakeKernel;
  readonly clients: ClientPair[] = [];
  /** What was done so far, with the results. */
  readonly log: string[] = [];
  readonly #limit: Rlimit;
  readonly #clientBase: number;
  /** Numbers of the real kernel that are ours. */
  readonly #owned = new Set<number>();
  /** Numbers of the real clients. */
  readonly #clientFds = new Set<number>();

  /** `free` numbers are left. */
  constructor(free: number) {
    this.#limit = real.getrlimit(RLIMIT.nofile) as Rlimit;
    const occupied = openNumbers();
    const taken = new Set(occupied);
    let soft = 0;
    for (let left = free; left > 0 || taken.has(soft); soft++) if (!taken.has(soft)) left--;
    this.#clientBase = Math.max(soft, ...occupied) + GAP;
    this.fake = new FakeKernel({ ...this.#limit, occupied });
    this.both("setrlimit", (sys) => sys.setrlimit(RLIMIT.nofile, { ...this.#limit, soft }));
  }

  /** Numbers that both have open and that are not the runtime's, ascending. */
  get numbers(): number[] {
    return this.fake.descriptors.filter((fd) => this.#owned.has(fd));
  }

  /** The lowest numbers that are not open, as many as fit under the limit and two beyond. */
  get freeNumbers(): number[] {
    const { soft } = this.fake.getrlimit(RLIMIT.nofile) as Rlimit;
    const taken = new Set(this.fake.descriptors);
    return Array.from({ length: soft + 2 }, (_, fd) => fd).filter((fd) => !taken.has(fd));
  }

  /** Does `what` to both; throws if the results differ. Returns the result. */
  both<T>(what: string, run: (sys: Syscalls) => T): T {
    const faked = run(this.fake);
    const found = run(real);
    this.log.push(`${what} = ${show(found)}`);
    if (show(faked) !== show(found)) this.differ(`${what} = ${show(found)}: the fake kernel says ${show(faked)}`);
    return found;
  }

  /** As {@linkcode both}, for a call that makes a descriptor. */
  opening(what: string, run: (sys: Syscalls) => number): number {
    const found = this.both(what, (sys) => {
      const fd = run(sys);
      if (sys === real && fd >= 0) this.#owned.add(fd);
      return fd;
    });
    return found;
  }

  close(fd: number): void {
    this.#owned.delete(fd);
    this.both(`close ${fd}`, (sys) => sys.close(fd));
  }

  /** A client of `listener` in both kernels; one that finds the queue full goes away. */
  connect(listener: number): void {
    const fake = this.fake.connectClient(listener);
    const sockaddr = new Uint8Array(new ArrayBuffer(SOCKADDR_MAX_BYTES));
    const length = expectValue(real.getsockname(listener, sockaddr), "find a listener", "getsockname");
    const client = new RealClient(this.#clientSocket());
    const result = real.connect(client.fd, sockaddr.slice(0, length));
    this.log.push(`connect to ${listener} = ${outcome(result)}, ${fake.state}`);
    if (fake.state === "connecting") {
      if (client.isConnected) this.differ("a client did not find the queue full");
      this.#closeClient(client);
      fake.close();
      return;
    }
    this.#until(() => client.isConnected, "a client that is connected or refused");
    const error = encodeInt(0);
    real.getsockopt(client.fd, SOL.socket, SO.error, error);
    const errno = result === -ERRNO.EINPROGRESS[0] ? decodeInt(error) : -result;
    client.state = errno === 0 ? "queued" : "refused";
    if ((client.state === "refused") !== (fake.state === "refused")) {
      this.differ(`a client is ${client.state}, the fake one ${fake.state}`);
    }
    if (errno === 0) this.clients.push({ fake, real: client });
    else this.#closeClient(client);
  }

  send({ fake, real: client }: ClientPair, message: string): void {
    const [faked, found] = [fake.send(message), real.send(client.fd, bytes(message), MSG.nosignal | MSG.dontwait)];
    this.log.push(`client ${client.fd} sends = ${outcome(found)}`);
    if (faked !== found) this.differ(`the fake client's send returned ${outcome(faked)}`);
  }

  end({ fake, real: client }: ClientPair): void {
    const [faked, found] = [fake.end(), real.shutdown(client.fd, SHUT.wr)];
    this.log.push(`client ${client.fd} ends = ${outcome(found)}`);
    if (faked !== found) this.differ(`the fake client's end returned ${outcome(faked)}`);
  }

  /** Stops or goes on reading. */
  toggle({ fake, real: client }: ClientPair): void {
    client.isPaused = !client.isPaused;
    this.log.push(`client ${client.fd} ${client.isPaused ? "pauses" : "resumes"}`);
    client.isPaused ? fake.pause() : fake.resume();
  }

  leave(client: ClientPair, isAbortive: boolean): void {
    this.log.push(`client ${client.real.fd} ${isAbortive ? "resets" : "closes"}`);
    this.clients.splice(this.clients.indexOf(client), 1);
    isAbortive ? client.fake.reset() : client.fake.close();
    if (isAbortive) real.setsockopt(client.real.fd, SOL.socket, SO.linger, encodeLinger(true, 0));
    this.#closeClient(client.real);
  }

  /** Waits until the real kernel shows, to the clients and through every descriptor, what the fake one shows. */
  settle(): void {
    const numbers = this.numbers.filter((fd) => this.fake.describe(fd)!.kind !== "epoll");
    const expected = show([look(this.fake, numbers), this.clients.map(({ fake }) => seen(fake, fake.text))]);
    const found = () => {
      for (const { real } of this.clients) real.read();
      const clients = this.clients.map(({ real }) => seen(real, real.received));
      return show([look(real, numbers), clients]);
    };
    const isSame = () => found() === expected;
    if (isSame()) return;
    this.#until(isSame, () => `${numbers} and the clients show\n  ${expected}\n  but do show\n  ${found()}`);
  }

  /** Compares what only the end of a connection tells, closes everything, and restores the limit. */
  release(isFailed: boolean): void {
    const differences: string[] = [];
    for (const { fake, real: client } of this.clients) {
      const error = encodeInt(0);
      real.getsockopt(client.fd, SOL.socket, SO.error, error);
      if (decodeInt(error) !== fake.error) {
        differences.push(`client ${client.fd} has error ${decodeInt(error)}, the fake one ${fake.error}`);
      }
    }
    for (const fd of [...this.#owned, ...this.#clientFds]) real.close(fd);
    expectValue(real.setrlimit(RLIMIT.nofile, this.#limit), "restore the limit", "setrlimit");
    if (!isFailed && differences.length > 0) this.differ(differences.join("; "));
  }

  differ(difference: string): never {
    throw new Error(`The kernels differ: ${difference}\n${this.log.join("\n")}`);
  }

  /** A socket whose number is out of the way. */
  #clientSocket(): number {
    const limit = real.getrlimit(RLIMIT.nofile) as Rlimit;
    real.setrlimit(RLIMIT.nofile, this.#limit);
    const low = expectValue(real.socket(AF.inet, SOCK.stream | SOCK.nonblock | SOCK.cloexec, 0), "connect", "socket");
    const fd = expectValue(real.fcntl(low, F.dupfdCloexec, this.#clientBase), "connect", "fcntl");
    real.setsockopt(fd, SOL.tcp, TCP.nodelay, NODELAY); // else one small message waits for the next
    this.#clientFds.add(fd);
    real.close(low);
    real.setrlimit(RLIMIT.nofile, limit);
    return fd;
  }

  #closeClient({ fd }: RealClient): void {
    this.#clientFds.delete(fd);
    real.close(fd);
  }

  #until(isDone: () => boolean, what: string | (() => string)): void {
    const deadline = performance.now() + SETTLE_MS;
    while (!isDone()) {
      if (performance.now() > deadline) this.differ(`waited too long for ${typeof what === "string" ? what : what()}`);
    }
  }
}

/** What clients cannot tell apart is the same. */
function seen({ state, readiness, unreadBytes }: FakeClient | RealClient, received: string): string {
  return `${state === "accepted" ? "queued" : state} ${readiness} ${
    readiness & POLL.err ? 0 : unreadBytes
  } ${received}`;
}

function look(sys: Syscalls, numbers: readonly number[]): Look[] {
  const set = new PollSet(numbers.length);
  for (const [i, fd] of numbers.entries()) set.set(i, fd, ASKED);
  sys.poll(set, numbers.length, 0);
  const info = new Uint8Array(new ArrayBuffer(TCP_INFO_BYTES));
  return numbers.map((fd, i) => {
    const { state, unacked, sacked } = sys.getsockopt(fd, SOL.tcp, TCP.info, info) < 0
      ? { state: 0, unacked: 0, sacked: 0 }
      : decodeTcpInfo(info);
    const isListener = state === 10;
    const revents = set.revents(i);
    const unread = state === 0 || isListener ? 0 : unreadBytes(sys, fd, revents);
    return { revents, unreadBytes: unread, state, queue: isListener ? unacked : 0, backlog: isListener ? sacked : 0 };
  });
}

function show(value: unknown): string {
  return typeof value === "number" ? String(outcome(value)) : JSON.stringify(value);
}
