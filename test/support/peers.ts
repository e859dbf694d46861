/**
 * The other ends of connections, as slow, rude or silent as a test wants them: sockets that do nothing by themselves, of
 * a server whose loop and clock the test moves.
 */
import { Buffer } from "node:buffer";
import process from "node:process";
import { MSG, RLIMIT, SO, SOL } from "../../ffi/constants.ts";
import { ERRNO, expectValue } from "../../ffi/errno.ts";
import { encodeInt, type Rlimit } from "../../ffi/layout.ts";
import * as sys from "../../ffi/syscalls.ts";
import type { Address } from "../../src/address.ts";
import { EventLoop, type EventLoopOptions } from "../../src/loop.ts";
import { serve, type Server, type ServerOptions } from "../../src/server.ts";
import { closeNow, disown, openNumbers } from "./descriptors.ts";
import { ManualHost } from "./hosts.ts";
import { turnUntil } from "./loops.ts";
import { bytes, loopback, reset, tcpListener, tcpSocket } from "./sockets.ts";

/** How much longer tests of endurance last than they need to. */
export const ENDURANCE = Number(process.env.ENDURANCE ?? 1);

/** Of the stream's bytes. Prime, so that no power of two of lost bytes goes unseen. */
const PERIOD_BYTES = 65_521;
const SPARE_DESCRIPTORS = 64;
const BACKLOG = 511;
const SEND_BUFFER_BYTES = 32 * 1024;

const stream = bytes(2 * PERIOD_BYTES).map((_, i) => ((i % PERIOD_BYTES) * 2654435761) >>> 24);
const received = bytes(PERIOD_BYTES);

/** `length` bytes, at most 65,521, of an endless stream that tell their place, from `from` on. Not to be changed. */
export function streamBytes(length: number, from: number): Uint8Array {
  return stream.subarray(from % PERIOD_BYTES, from % PERIOD_BYTES + length);
}

/** A connected socket that expects the stream of {@linkcode streamBytes}, or whatever comes. */
export class Peer {
  /** How its connection ended, as it sees it. */
  ending: "end" | "reset" | undefined;
  /** Bytes so far. */
  received = 0;
  /** Where they first differed from the stream. */
  wrongAt: number | undefined;
  readonly fd: number = tcpSocket();

  /** @param bufferBytes Size of its receive buffer; by default the kernel's business. */
  constructor(address: Address, bufferBytes?: number) {
    if (bufferBytes !== undefined) sys.setsockopt(this.fd, SOL.socket, SO.rcvbuf, encodeInt(bufferBytes));
    if (address.transport !== "tcp") throw new Error("Cannot connect a peer: the server does not listen on TCP");
    const result = sys.connect(this.fd, loopback(address.port));
    if (result !== -ERRNO.EINPROGRESS[0]) expectValue(result, "connect a peer", "connect");
  }

  /** Sends all of `text`. */
  send(text: string | Uint8Array): void {
    const sent = sys.send(this.fd, typeof text === "string" ? bytes(text) : text, MSG.nosignal);
    expectValue(sent, "send as a peer", "send");
  }

  /** Reads what is there, at most `most` bytes. Returns how many came. */
  read(most: number = received.byteLength): number {
    if (this.ending !== undefined) return 0;
    const count = sys.recv(this.fd, received.subarray(0, most));
    if (count === -ERRNO.EAGAIN[0]) return 0;
    if (count <= 0) {
      this.ending = count === 0 ? "end" : "reset";
      return 0;
    }
    if (this.wrongAt === undefined && Buffer.compare(received.subarray(0, count), streamBytes(count, this.received))) {
      this.wrongAt = this.received;
    }
    this.received += count;
    return count;
  }

  /** Closes its socket, in good order. */
  close(): void {
    closeNow(this.fd);
  }

  /** Closes its socket with a reset. */
  reset(): void {
    reset(this.fd);
  }
}

/** A server that does nothing but in turns that the test takes, at a time that the test tells. */
export interface Hand<T> {
  readonly server: Server<T>;
  readonly loop: EventLoop;
  readonly host: ManualHost;
  /** What reached `onError`. */
  readonly errors: unknown[];
}

/**
 * Runs `test` with a server, and stops it after that. The kernel takes little of what its connections write, or it would
 * take megabytes before a queue grows.
 */
export async function byHand<T>(
  options: ServerOptions<T>,
  test: (hand: Hand<T>) => void | Promise<void>,
  loopOptions: EventLoopOptions = {},
): Promise<void> {
  const listener = tcpListener(BACKLOG);
  sys.setsockopt(listener, SOL.socket, SO.sndbuf, encodeInt(SEND_BUFFER_BYTES)); // what it accepts inherits that
  const errors: unknown[] = [];
  const host = new ManualHost();
  const loop = new EventLoop({ onError: (error) => void errors.push(error), ...loopOptions }, sys.realSyscalls, host);
  const server = serve<T>({ ...options, loop, fd: disown(listener) });
  try {
    await test({ server, loop, host, errors });
  } finally {
    let isStopped = false;
    server.stop({ timeoutMs: 0 }).then(() => isStopped = true);
    while (!isStopped) {
      loop.turn(0);
      await Promise.resolve();
    }
    await loop.close();
  }
}

/** Connects peers one by one, so that the server has them in their order. */
export function connectPeers<T>({ server, loop }: Hand<T>, count: number, bufferBytes?: number): Peer[] {
  return Array.from({ length: count }, () => {
    const before = server.connections.size;
    const peer = new Peer(server.address, bufferBytes);
    turnUntil(loop, () => server.connections.size > before, "a peer's connection");
    return peer;
  });
}

/** How many of `wanted` pairs of descriptors this process may open; raises its soft limit for them. */
export function roomForPairs(wanted: number): number {
  const limit = sys.getrlimit(RLIMIT.nofile) as Rlimit;
  const taken = openNumbers().length + SPARE_DESCRIPTORS;
  const soft = Math.min(limit.hard, Math.max(limit.soft, taken + 2 * wanted));
  expectValue(sys.setrlimit(RLIMIT.nofile, { ...limit, soft }), "raise the descriptor limit", "setrlimit");
  return Math.min(wanted, Math.floor((soft - taken) / 2));
}
