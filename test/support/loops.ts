/** Loops that tests turn by hand. */
import { MSG } from "../../ffi/constants.ts";
import { ERRNO, expectValue } from "../../ffi/errno.ts";
import { realSyscalls, recv, type Syscalls } from "../../ffi/syscalls.ts";
import type { Host } from "../../ffi/host.ts";
import type { CloseReason } from "../../src/close_reason.ts";
import { Connection } from "../../src/connection.ts";
import { type ConnectionHandlers, type ConnectionOptions, resolveConnection } from "../../src/connection_options.ts";
import { EventLoop, type EventLoopOptions } from "../../src/loop.ts";
import { until } from "./conditions.ts";
import { disown } from "./descriptors.ts";
import { pattern } from "./patterns.ts";
import { concat, socketPair, tcpPair } from "./sockets.ts";

const DEADLINE_MS = 20_000;
const BLOCKING_BYTES = 64 * 1024;

/** Takes turns of `loop` until `isDone`, and fails with `what` if that takes too long. */
export function turnUntil(loop: EventLoop, isDone: () => boolean, what: string): void {
  const deadline = performance.now() + DEADLINE_MS;
  while (!isDone()) {
    if (performance.now() > deadline) throw new Error(`Waited too long for ${what}`);
    loop.turn(5);
  }
}

/** Waits until the runtime has opened what it opens in its first moments, so that what is kept free for that stays the same. */
export async function runtimeSettled(loop: EventLoop): Promise<void> {
  await until(() => loop.settlingDescriptors === 0, "the runtime settled");
}

/** Takes turns until one in which nothing happened. */
export function turnUntilQuiet(loop: EventLoop): void {
  while (loop.turn(5));
}

/** A connection that a test holds the other end of. */
export interface Rig<T> {
  readonly loop: EventLoop;
  readonly connection: Connection<T>;
  /** The connection's own end. */
  readonly fd: number;
  /** The other end, closed when the test ends. */
  readonly peer: number;
  /** Handlers that were called, in order: `"data 5"`, `"close ECONNRESET"`. */
  readonly log: string[];
  /** Why it closed, once it has: what the `close` handler was told. */
  readonly reasons: CloseReason[];
  /** What reached the loop's `onError`. */
  readonly errors: unknown[];
}

/** How {@linkcode rig} makes its connection. */
export interface RigOptions extends ConnectionOptions {
  /** Calls that are to behave otherwise than the kernel's. */
  sys?: Partial<Syscalls>;
  /** What connects the two ends. @default {"tcp"} */
  over?: "tcp" | "unix";
  /** What stands in for the runtime. */
  host?: Host;
  /** How the loop behaves. */
  loop?: EventLoopOptions;
}

/** Runs `test` with a connection and its peer, and releases everything after it. */
export async function rig<T = undefined>(
  { sys, over = "tcp", host, loop: loopOptions, ...options }: RigOptions,
  handlers: ConnectionHandlers<T>,
  test: (rig: Rig<T>) => void | Promise<void>,
): Promise<void> {
  const log: string[] = [];
  const errors: unknown[] = [];
  const [peer, fd] = over === "tcp" ? tcpPair() : socketPair();
  const reasons: CloseReason[] = [];
  const onError = (error: unknown) => void errors.push(error);
  const loop = new EventLoop({ onError, ...loopOptions }, { ...realSyscalls, ...sys }, host);
  const settings = resolveConnection(options, logged(handlers, log, reasons), (error) => loop.report(error));
  const connection = new Connection<T>(loop, disown(fd), settings);
  try {
    connection.start();
    await test({ loop, connection, fd, peer, log, reasons, errors });
  } finally {
    connection.close();
    await loop.close();
  }
}

/** `handlers`, each call of which is logged before it is made. */
function logged<T>(handlers: ConnectionHandlers<T>, log: string[], reasons: CloseReason[]): ConnectionHandlers<T> {
  return {
    open(connection) {
      log.push("open");
      return handlers.open?.(connection);
    },
    data(connection, bytes) {
      log.push(`data ${bytes.byteLength}`);
      return handlers.data?.(connection, bytes);
    },
    drain(connection) {
      log.push("drain");
      return handlers.drain?.(connection);
    },
    end(connection) {
      log.push("end");
      return handlers.end?.(connection);
    },
    close(connection, error, reason) {
      reasons.push(reason);
      log.push(
        error === undefined ? "close" : `close ${(error as { code?: string }).code ?? (error as Error).message}`,
      );
      return handlers.close?.(connection, error, reason);
    },
  };
}

/** Everything that `fd` has to read now, without waiting for more. */
export function receiveAll(fd: number, reset: "fails" | "ends it" = "fails"): Uint8Array {
  const chunks: Uint8Array[] = [];
  const buffer = new Uint8Array(new ArrayBuffer(64 * 1024));
  for (;;) {
    const received = recv(fd, buffer, MSG.dontwait);
    if (received === 0 || received === -ERRNO.EAGAIN[0]) break;
    if (received === -ERRNO.ECONNRESET[0] && reset === "ends it") break;
    chunks.push(buffer.slice(0, expectValue(received, "receive in a test", "recv")));
  }
  return concat(...chunks);
}

/** Writes the pattern until the kernel takes no more. @returns How much of it. */
export function block<T>({ connection }: Pick<Rig<T>, "connection">): number {
  let written = 0;
  while (connection.queuedBytes === 0) {
    connection.write(pattern(BLOCKING_BYTES, written));
    written += BLOCKING_BYTES;
  }
  return written;
}

/** Reads at the peer, while the loop turns, until `count` bytes are there. */
export function readAtPeer({ loop, peer }: Pick<Rig<unknown>, "loop" | "peer">, count: number): Uint8Array {
  const all = new Uint8Array(count);
  let at = 0;
  turnUntil(loop, () => {
    const received = receiveAll(peer);
    all.set(received, at);
    at += received.byteLength;
    return at >= count;
  }, `${count} bytes at the peer`);
  return all;
}
