import type { CloseReason } from "./close_reason.ts";
import type { Connection } from "./connection.ts";
import type { TimeoutSettings } from "./deadlines.ts";
import type { IdleList } from "./idle_list.ts";
import { Interest } from "./interest.ts";
import { GATHER_MAX_BYTES, HIGH_WATER_BYTES, TIMER_MAX_MS } from "./limits.ts";
import { booleanOption, choiceOption, functionOption, integerOption } from "./options.ts";

/**
 * What the user wants to be told of a connection; each is optional. A handler may call anything, on this connection or
 * another. One that throws, or returns a promise that rejects, ends its own connection with that error and no other; if
 * that is over by then, `onError` is told.
 */
export interface ConnectionHandlers<T = undefined> {
  /** The connection has begun. Set `connection.data` here. */
  open?(connection: Connection<T>): void | Promise<void>;
  /**
   * Bytes have arrived. `bytes` is borrowed: it is overwritten once this returns, and for an `async` handler at its
   * first `await`; `bytes.slice()` keeps them.
   */
  data?(connection: Connection<T>, bytes: Uint8Array): void | Promise<void>;
  /** The write queue has fallen to the low-water mark, after `write` said false. */
  drain?(connection: Connection<T>): void | Promise<void>;
  /**
   * The peer has ended its stream: no more `data`. Unless `allowHalfOpen`, what is queued is sent, then the connection
   * closes.
   */
  end?(connection: Connection<T>): void | Promise<void>;
  /**
   * The connection is over, its descriptor released. Called once, at the end of the turn. `error` is what went wrong: a
   * {@linkcode SystemError}, a {@linkcode ConnectionError}, what a handler threw, or what `close` was given; `undefined`
   * where nothing did. What this throws goes to `onError`; without it, so does what another handler threw.
   */
  close?(connection: Connection<T>, error: unknown, reason: CloseReason): void | Promise<void>;
}

/** How connections behave. Sizes are bytes, times are milliseconds, and a timeout of 0 is off. */
export interface ConnectionOptions {
  /** How the socket is watched. @default {"level"} */
  trigger?: "level" | "edge";
  /** Queued bytes at which `write` says false. @default {1 MiB} */
  highWaterBytes?: number;
  /** Queued bytes at which `drain` follows. @default {a quarter of highWaterBytes} */
  lowWaterBytes?: number;
  /**
   * Queued bytes that a peer may be behind: more, and it is cut off with a reset. At least `highWaterBytes`.
   * @default {unlimited}
   */
  maxQueuedBytes?: number;
  /**
   * How long the queue may take from `highWaterBytes` down to `lowWaterBytes`, which is from a `write` that said false to
   * its `drain`, before the peer is cut off with a reset. @default {0}
   */
  slowReaderMs?: number;
  /** Whether the connection stays when the peer has ended its stream, until `end` or `close`. @default {false} */
  allowHalfOpen?: boolean;
  /** How long nothing may be received, and nothing taken by the kernel, before the connection is closed. @default {0} */
  idleTimeoutMs?: number;
  /**
   * How long the peer may take over one message, from its first byte on, before the connection is closed, however
   * steadily the bytes trickle in. Where a message ends is yours to say: call `connection.progress()` for each one, or
   * every connection is over this long after its first byte. Stands still while reading is paused, or held to its rate.
   * @default {0}
   */
  readTimeoutMs?: number;
  /** How long the kernel may refuse queued bytes before the connection is cut off with a reset. @default {0} */
  writeTimeoutMs?: number;
  /** How long the peer may take to send its first byte before the connection is closed. @default {0} */
  handshakeTimeoutMs?: number;
  /** Bytes read in a second, and at once after a quiet one; what is beyond waits at the peer. @default {unlimited} */
  bytesInPerSecond?: number;
  /** Bytes sent in a second, and at once after a quiet one; what is beyond is queued. @default {unlimited} */
  bytesOutPerSecond?: number;
}

/** The keys of {@linkcode ConnectionOptions}, `trigger` apart. */
export const CONNECTION_OPTIONS = [
  ...["highWaterBytes", "lowWaterBytes", "maxQueuedBytes", "slowReaderMs", "allowHalfOpen"] as const,
  ...["idleTimeoutMs", "readTimeoutMs", "writeTimeoutMs", "handshakeTimeoutMs"] as const,
  ...["bytesInPerSecond", "bytesOutPerSecond"] as const,
] as const;
/** The keys of {@linkcode ConnectionHandlers}. */
export const CONNECTION_HANDLERS = ["open", "data", "drain", "end", "close"] as const;

/** {@linkcode ConnectionOptions}, checked, with its defaults; and the handlers. Shared by many connections. */
export interface ConnectionSettings<T> {
  /** Checked to be functions. */
  readonly handlers: ConnectionHandlers<T>;
  /** `Interest.edge` or 0. */
  readonly triggerBits: number;
  /** Queued bytes that are offered to the kernel before the turn ends; at most `highWaterBytes`. */
  readonly gatherBytes: number;
  /** See {@linkcode ConnectionOptions}. */
  readonly highWaterBytes: number;
  /** See {@linkcode ConnectionOptions}. */
  readonly lowWaterBytes: number;
  /** `Infinity` for no limit. */
  readonly maxQueuedBytes: number;
  /** See {@linkcode ConnectionOptions}. */
  readonly allowHalfOpen: boolean;
  /** Absent where every timeout is off. */
  readonly timeouts: TimeoutSettings | undefined;
  /** `Infinity` for no limit. */
  readonly bytesInPerSecond: number;
  /** `Infinity` for no limit. */
  readonly bytesOutPerSecond: number;
  /** Receives what a `close` handler throws. */
  readonly onError: (error: unknown) => void;
  /** Keeps the connections in the order in which they were busy last. Absent where nobody asks. */
  readonly idle: IdleList<Connection<T>> | undefined;
}

/**
 * Defaults applied and every value checked, once; code past this point trusts the result.
 *
 * @throws {TypeError | RangeError} If a value is wrong.
 */
export function resolveConnection<T>(
  options: ConnectionOptions,
  handlers: ConnectionHandlers<T>,
  onError: (error: unknown) => void,
  idle?: IdleList<Connection<T>>,
): ConnectionSettings<T> {
  checkHandlers(handlers);
  const highWaterBytes = integerOption("highWaterBytes", options.highWaterBytes, HIGH_WATER_BYTES, 1);
  const quarter = Math.floor(highWaterBytes / 4);
  return {
    handlers,
    triggerBits: choiceOption("trigger", options.trigger, ["level", "edge"]) === "edge" ? Interest.edge : 0,
    gatherBytes: Math.min(GATHER_MAX_BYTES, highWaterBytes),
    highWaterBytes,
    lowWaterBytes: integerOption("lowWaterBytes", options.lowWaterBytes, quarter, 0, highWaterBytes - 1),
    maxQueuedBytes: integerOption("maxQueuedBytes", options.maxQueuedBytes, Infinity, highWaterBytes),
    allowHalfOpen: booleanOption("allowHalfOpen", options.allowHalfOpen, false),
    timeouts: resolveTimeouts(options),
    bytesInPerSecond: integerOption("bytesInPerSecond", options.bytesInPerSecond, Infinity, 1),
    bytesOutPerSecond: integerOption("bytesOutPerSecond", options.bytesOutPerSecond, Infinity, 1),
    onError,
    idle,
  };
}

/** @throws {TypeError} If one of `handlers` is not a function. */
export function checkHandlers<T>(handlers: ConnectionHandlers<T>): void {
  for (const name of CONNECTION_HANDLERS) functionOption(name, handlers[name]);
}

function resolveTimeouts(options: ConnectionOptions): TimeoutSettings | undefined {
  const timeout = (name: keyof TimeoutSettings) => integerOption(name, options[name], 0, 0, TIMER_MAX_MS);
  const timeouts: TimeoutSettings = {
    idleTimeoutMs: timeout("idleTimeoutMs"),
    readTimeoutMs: timeout("readTimeoutMs"),
    writeTimeoutMs: timeout("writeTimeoutMs"),
    handshakeTimeoutMs: timeout("handshakeTimeoutMs"),
    slowReaderMs: timeout("slowReaderMs"),
  };
  return Object.values(timeouts).some((ms) => ms > 0) ? timeouts : undefined;
}

/** Whether a handler was `async`: what it returned may be rejected. */
export function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}
