/**
 * The clients of bench/connections.ts: very many connections, few of which say anything. Does what the lines on standard
 * input say, and answers each with a line of JSON:
 *
 * - `warm`: a few clients talk for a moment and leave, so that the server has compiled what it runs.
 * - `open`: all clients connect; each is answered once.
 * - `talk`: one in a hundred sends, steadily, and waits for each answer.
 *
 * Usage: `bun bench/connections_load.ts PORT CONNECTIONS PER_ADDRESS MESSAGES_PER_SECOND SECONDS`; PER_ADDRESS clients
 * each come from 127.0.0.1, 127.0.0.2, and so on.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { AF, MSG, RLIMIT, SO, SOCK, SOL } from "../ffi/constants.ts";
import { ERRNO, expectValue, SystemError } from "../ffi/errno.ts";
import { decodeInt, encodeInt, encodeSockaddr, type Rlimit } from "../ffi/layout.ts";
import * as sys from "../ffi/syscalls.ts";
import { Interest } from "../src/interest.ts";
import { Poller, type Source } from "../src/poller.ts";
import type { Token } from "../src/token.ts";
import { quantile } from "./figures.ts";

const [port, connections, perAddress, perSecond, seconds] = process.argv.slice(2).map(Number) as [
  ...[port: number, connections: number, perAddress: number, perSecond: number, seconds: number],
];

const MESSAGE = new Uint8Array(new ArrayBuffer(64)).fill(0x2e);
/** One in so many talks. */
const TALKING = 100;
/** That have not been answered yet, at a time: fewer than the smallest backlog. */
const CONNECTING = 64;
const WARM_CLIENTS = 64;
const WARM_MESSAGES = 50;
/** Nobody was answered for so long: something is wrong. */
const SILENCE_MS = 10_000;
const SPARE_DESCRIPTORS = 64;
/** Lets connect(2) choose the port when it knows both ends, so that each address has all of them: ip(7). */
const IP_BIND_ADDRESS_NO_PORT = 24;

const poller = new Poller();
const received = new Uint8Array(new ArrayBuffer(4096));
const server = encodeSockaddr({ family: "inet", address: new Uint8Array([127, 0, 0, 1]), port });
const clients: Client[] = [];
let latenciesMs: number[] = [];

class Client implements Source {
  /** When the next message is due; those that talk only. */
  dueAtMs = Infinity;
  readonly #fd: number;
  readonly #token: Token;
  #isConnected = false;
  /** Bytes of the answer that are missing. */
  #missing = MESSAGE.byteLength;
  #sentAtMs = 0;

  /** Begins to connect, as client number `index`, and sends a message once it is. */
  constructor(index: number) {
    const flags = SOCK.stream | SOCK.nonblock | SOCK.cloexec;
    this.#fd = expectValue(sys.socket(AF.inet, flags, 0), "make a client", "socket");
    const address = new Uint8Array([127, 0, 0, 1 + Math.floor(index / perAddress)]);
    expectValue(sys.setsockopt(this.#fd, SOL.ip, IP_BIND_ADDRESS_NO_PORT, encodeInt(1)), "make a client", "setsockopt");
    expectValue(sys.bind(this.#fd, encodeSockaddr({ family: "inet", address, port: 0 })), "make a client", "bind");
    const result = sys.connect(this.#fd, server);
    if (result !== -ERRNO.EINPROGRESS[0]) expectValue(result, "connect a client", "connect");
    const token = poller.add(this.#fd, Interest.readable | Interest.writable | Interest.edge, this);
    if (typeof token === "number") throw new SystemError("watch a client", "epoll_ctl", -token);
    this.#token = token;
  }

  get isAnswered(): boolean {
    return this.#missing === 0;
  }

  onReady(): void {
    if (!this.#isConnected) {
      const error = encodeInt(0);
      sys.getsockopt(this.#fd, SOL.socket, SO.error, error);
      if (decodeInt(error) !== 0) throw new SystemError("connect a client", "connect", decodeInt(error));
      this.#isConnected = true;
      this.send(performance.now());
    }
    for (let count; (count = sys.recv(this.#fd, received)) !== -ERRNO.EAGAIN[0];) {
      if (count <= 0) throw new Error(`Cannot go on: the server ended a connection, recv(2) returned ${count}`);
      this.#missing -= count;
      if (this.#missing === 0) this.#answered();
    }
  }

  sendIfDue(nowMs: number): void {
    if (nowMs >= this.dueAtMs && this.#missing === 0) this.#sendNext(nowMs);
  }

  send(nowMs: number): void {
    this.#sentAtMs = nowMs;
    this.#missing = MESSAGE.byteLength;
    expectValue(sys.send(this.#fd, MESSAGE, MSG.nosignal), "send as a client", "send");
  }

  close(): void {
    poller.remove(this.#token);
    sys.close(this.#fd);
  }

  #answered(): void {
    const nowMs = performance.now();
    latenciesMs.push(nowMs - this.#sentAtMs);
    // The next one was due while this one was under way: the wait for that is the server's fault.
    if (nowMs >= this.dueAtMs) this.#sendNext(this.dueAtMs);
  }

  #sendNext(fromMs: number): void {
    this.dueAtMs += 1_000 / perSecond;
    this.send(fromMs);
  }
}

function turn(timeoutMs: number): void {
  poller.wait(timeoutMs);
  let failure: unknown;
  poller.dispatch((error) => failure ??= error);
  if (failure !== undefined) throw failure;
}

/** Lets clients go on until each of `expected` is answered. */
function untilAnswered(expected: readonly Client[]): void {
  let waiting = expected;
  for (let deadline = performance.now() + SILENCE_MS; waiting.length > 0;) {
    const left = waiting.filter(({ isAnswered }) => !isAnswered);
    if (left.length < waiting.length) deadline = performance.now() + SILENCE_MS;
    else if (performance.now() > deadline) throw new Error(`Cannot go on: ${left.length} clients wait for an answer`);
    else turn(100);
    waiting = left;
  }
}

function connect(from: number, count: number): Client[] {
  const made = Array.from({ length: count }, (_, i) => new Client(from + i));
  untilAnswered(made);
  return made;
}

const PHASES: Record<string, () => object> = {
  warm() {
    const warm = connect(0, Math.min(WARM_CLIENTS, connections));
    for (let i = 0; i < WARM_MESSAGES; i++) {
      for (const client of warm) client.send(performance.now());
      untilAnswered(warm);
    }
    for (const client of warm) client.close();
    return {};
  },

  open() {
    const startedAtMs = performance.now();
    while (clients.length < connections) {
      clients.push(...connect(clients.length, Math.min(CONNECTING, connections - clients.length)));
    }
    return { seconds: (performance.now() - startedAtMs) / 1_000 };
  },

  talk() {
    const talking = clients.filter((_, i) => i % TALKING === 0);
    latenciesMs = [];
    const startedAtMs = performance.now();
    const endAtMs = startedAtMs + 1_000 * seconds;
    for (const client of talking) client.dueAtMs = startedAtMs + Math.random() * 1_000 / perSecond;
    for (let nowMs = startedAtMs; nowMs < endAtMs; nowMs = performance.now()) {
      for (const client of talking) client.sendIfDue(nowMs);
      turn(1);
    }
    for (const client of talking) client.dueAtMs = Infinity;
    untilAnswered(talking);
    const elapsed = (performance.now() - startedAtMs) / 1_000;
    return {
      messages: latenciesMs.length,
      perSecond: latenciesMs.length / elapsed,
      p50Ms: quantile(latenciesMs, 0.5),
      p99Ms: quantile(latenciesMs, 0.99),
    };
  },
};

const limit = sys.getrlimit(RLIMIT.nofile) as Rlimit;
const soft = Math.min(limit.hard, Math.max(limit.soft, connections + SPARE_DESCRIPTORS));
expectValue(sys.setrlimit(RLIMIT.nofile, { ...limit, soft }), "raise the descriptor limit", "setrlimit");
for await (const line of createInterface(process.stdin)) console.log(JSON.stringify(PHASES[line]!()));
