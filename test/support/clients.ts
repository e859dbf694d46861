/**
 * Clients of an echo server, through our own system calls: the same in every runtime, exact about the bytes that the
 * kernel took, and about how each connection ended.
 */
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers/promises";
import { AF, MSG, POLL, SHUT, SO, SOCK, SOL } from "../../ffi/constants.ts";
import { ERRNO, errnoName } from "../../ffi/errno.ts";
import { decodeInt, encodeInt, PollSet } from "../../ffi/layout.ts";
import * as sys from "../../ffi/syscalls.ts";
import { closeNow, own } from "./descriptors.ts";
import { addressOf, bytes, reset, text } from "./sockets.ts";

const DEADLINE_MS = 40_000;
const SLICE_MS = 5;
/** Characters of {@linkcode EchoClient.head}, about. */
const HEAD_LENGTH = 64;
const READ_BUDGET_BYTES = 256 * 1024;
const received = bytes(64 * 1024);

/**
 * `connecting`; `open`; `ended`: the server's end of stream was read; `refused` and `reset`: by the kernel, before and
 * after the handshake was through; `closed`: by ourselves.
 */
export type ClientState = "connecting" | "open" | "ended" | "refused" | "reset" | "closed";

/** What a client does beside sending. */
export interface ClientOptions {
  /** Whether it ends its stream once all is sent. */
  readonly endsStream?: boolean;
  /** The most bytes for the next send. */
  readonly pieceBytes?: () => number;
  /** Size of both socket buffers, set before connecting: no tuning by the kernel. The kernel doubles it. */
  readonly bufferBytes?: number;
  /** Whether it reads; may be changed later. @default {true} */
  readonly isReading?: boolean;
}

/** Sends a stream, and expects every byte of it back. */
export class EchoClient {
  state: ClientState = "connecting";
  /** Bytes that the kernel took. */
  sent = 0;
  /** Bytes that came back. */
  received = 0;
  /** The first of them, as text; all that a farewell is. */
  head = "";
  /** Set where they were not those sent. */
  difference: string | undefined;
  isReading: boolean;
  readonly fd: number;
  readonly #sockaddr: Uint8Array;
  readonly #endsStream: boolean;
  readonly #pieceBytes: () => number;
  #stream: Uint8Array;

  /** Begins to connect. `stream` is sent once {@linkcode drive} is called. */
  constructor(sockaddr: Uint8Array, stream: Uint8Array, options: ClientOptions = {}) {
    this.#sockaddr = sockaddr;
    this.#stream = stream;
    this.#endsStream = options.endsStream ?? false;
    this.#pieceBytes = options.pieceBytes ?? (() => stream.byteLength);
    this.isReading = options.isReading ?? true;
    const family = new DataView(sockaddr.buffer, sockaddr.byteOffset).getUint16(0, true);
    this.fd = own(sys.socket(family === AF.unix ? AF.unix : AF.inet, SOCK.stream | SOCK.nonblock | SOCK.cloexec, 0));
    if (options.bufferBytes !== undefined) {
      const size = encodeInt(options.bufferBytes);
      sys.setsockopt(this.fd, SOL.socket, SO.sndbuf, size);
      sys.setsockopt(this.fd, SOL.socket, SO.rcvbuf, size);
    }
    this.#connect();
  }

  /** Every byte is back, and was right. */
  get isAnswered(): boolean {
    return this.received === this.#stream.byteLength && this.difference === undefined;
  }

  /** The server, or the kernel for it, has ended the connection. */
  get isGone(): boolean {
    return this.state === "ended" || this.state === "refused" || this.state === "reset";
  }

  /** The port it has; 0 for a Unix socket. */
  get port(): number {
    const address = addressOf(this.fd);
    return address.family === "unix" ? 0 : address.port;
  }

  /** Size of the send buffer, as the kernel counts it. */
  get sendBufferBytes(): number {
    const size = encodeInt(0);
    sys.getsockopt(this.fd, SOL.socket, SO.sndbuf, size);
    return decodeInt(size);
  }

  /** Sends another stream, once the last one is back. */
  ask(stream: Uint8Array): void {
    this.#stream = stream;
    this.sent = this.received = 0;
  }

  /** Closes its socket, in good order. */
  close(): void {
    if (this.state === "closed") return;
    this.state = "closed";
    closeNow(this.fd);
  }

  /** Closes its socket with a reset. */
  reset(): void {
    this.state = "closed";
    reset(this.fd);
  }

  /** What it waits for: poll(2). */
  get events(): number {
    if (this.state === "connecting") return POLL.out;
    const unsent = this.sent < this.#stream.byteLength ? POLL.out : 0;
    return unsent | (this.isReading ? POLL.in : 0);
  }

  onReady(readiness: number): void {
    if (this.state === "connecting") return this.#finishConnect();
    if (this.isReading && readiness & (POLL.in | POLL.hup | POLL.err)) this.#read();
    if (this.state === "open" && readiness & POLL.out) this.#write();
  }

  #connect(): void {
    const result = sys.connect(this.fd, this.#sockaddr);
    if (result === -ERRNO.EINPROGRESS[0]) return;
    // A Unix socket whose server has a full backlog: tried again by #finishConnect
    if (result !== -ERRNO.EAGAIN[0]) this.#connected(-result);
  }

  #finishConnect(): void {
    const error = encodeInt(0);
    sys.getsockopt(this.fd, SOL.socket, SO.error, error);
    const errno = decodeInt(error);
    if (errno === 0 && this.#sockaddr[0] === AF.unix) this.#connect();
    else this.#connected(errno);
  }

  #connected(errno: number): void {
    if (errno === 0) this.state = "open";
    else if (errno === ERRNO.ECONNREFUSED[0]) this.state = "refused";
    else if (errno === ERRNO.ECONNRESET[0]) this.state = "reset";
    else throw new Error(`Cannot connect a client: connect(2) returned ${errnoName(errno)}`);
  }

  #read(): void {
    for (let budget = READ_BUDGET_BYTES; budget > 0;) {
      const count = sys.recv(this.fd, received);
      if (count === -ERRNO.EAGAIN[0]) return;
      if (count <= 0) {
        this.state = count === 0 ? "ended" : "reset";
        return;
      }
      if (this.head.length < HEAD_LENGTH) this.head += text(received, Math.min(count, HEAD_LENGTH));
      const expected = this.#stream.subarray(this.received, this.received + count);
      if (this.difference === undefined && Buffer.compare(expected, received.subarray(0, count)) !== 0) {
        this.difference = `of ${count} bytes from ${this.received}`;
      }
      this.received += count;
      budget -= count;
    }
  }

  #write(): void {
    while (this.sent < this.#stream.byteLength) {
      const piece = this.#stream.subarray(this.sent, this.sent + this.#pieceBytes());
      const count = sys.send(this.fd, piece, MSG.nosignal);
      if (count === -ERRNO.EAGAIN[0]) return;
      if (count < 0) {
        this.state = "reset";
        return;
      }
      this.sent += count;
      if (count < piece.byteLength) return;
    }
    if (this.#endsStream) sys.shutdown(this.fd, SHUT.wr);
  }
}

/** How many clients are in each state, and how many are answered, for messages. */
export function summary(clients: readonly EchoClient[]): string {
  const counts: Record<string, number> = {};
  for (const client of clients) {
    const name = client.state === "open" ? client.isAnswered ? "answered" : "hanging" : client.state;
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return JSON.stringify(counts);
}

/** Lets clients connect, send and read until `done`; throws if that takes too long. */
export async function drive(clients: readonly EchoClient[], done: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  const set = new PollSet(clients.length);
  const polled: EchoClient[] = [];
  while (!done()) {
    if (performance.now() > deadline) {
      throw new Error(`Cannot see ${what}: it did not happen within ${DEADLINE_MS} ms; clients: ${summary(clients)}`);
    }
    polled.length = 0;
    for (const client of clients) {
      if (client.state !== "connecting" && client.state !== "open") continue;
      set.set(polled.length, client.fd, client.events);
      polled.push(client);
    }
    sys.poll(set, polled.length, SLICE_MS);
    for (const [i, client] of polled.entries()) {
      const readiness = set.revents(i);
      if (readiness !== 0) client.onReady(readiness);
    }
    await setImmediate();
  }
}

/** Lets clients go on until each is answered; one that is gone or got other bytes fails the test. */
export async function allAnswered(clients: readonly EchoClient[], what: string): Promise<void> {
  const isSettled = (client: EchoClient) => client.isAnswered || client.isGone || client.difference !== undefined;
  await drive(clients, () => clients.every(isSettled), what);
  for (const client of clients) {
    if (!client.isAnswered) throw new Error(`Cannot see ${what}: ${client.difference ?? summary(clients)}`);
  }
}
