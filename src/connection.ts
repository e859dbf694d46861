import { MSG } from "../ffi/constants.ts";
import { ERRNO, SystemError } from "../ffi/errno.ts";
import type { Syscalls } from "../ffi/syscalls.ts";
import type { Address } from "./address.ts";
import { assert } from "./assert.ts";
import { Interest, Readiness } from "./interest.ts";
import { HIGH_WATER_BYTES, READ_BUDGET_BYTES, WRITE_BUDGET_BYTES } from "./limits.ts";
import type { IdleList, IdleNode } from "./idle_list.ts";
import type { Ending, EventLoop } from "./loop.ts";
import { booleanOption, choiceOption, functionOption, integerOption } from "./options.ts";
import type { Source } from "./poller.ts";
import { remoteAddress, shutdownWrite, socketError } from "./socket.ts";
import type { Token } from "./token.ts";
import { WriteQueue } from "./write_queue.ts";

/**
 * What the user wants to be told of a connection; each is optional. A handler may call anything, on this connection or
 * another. One that throws, or returns a promise that rejects, ends its own connection with that error and no other.
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
   * The connection is over, its descriptor released. Called once, at the end of the turn. `error` is what went wrong, a
   * {@linkcode SystemError} or what a handler threw; absent where nothing did.
   */
  close?(connection: Connection<T>, error?: unknown): void | Promise<void>;
}

/** How connections behave. Sizes are bytes. */
export interface ConnectionOptions {
  /** How the socket is watched. @default {"level"} */
  trigger?: "level" | "edge";
  /** Queued bytes at which `write` says false. @default {1 MiB} */
  highWaterBytes?: number;
  /** Queued bytes at which `drain` follows. @default {a quarter of highWaterBytes} */
  lowWaterBytes?: number;
  /** Whether the connection stays when the peer has ended its stream, until `end` or `close`. @default {false} */
  allowHalfOpen?: boolean;
}

/** The keys of {@linkcode ConnectionOptions}, `trigger` apart. */
export const CONNECTION_OPTIONS = ["highWaterBytes", "lowWaterBytes", "allowHalfOpen"] as const;
/** The keys of {@linkcode ConnectionHandlers}. */
export const CONNECTION_HANDLERS = ["open", "data", "drain", "end", "close"] as const;

/** {@linkcode ConnectionOptions}, checked, with its defaults; and the handlers. Shared by many connections. */
export interface ConnectionSettings<T> {
  /** Checked to be functions. */
  readonly handlers: ConnectionHandlers<T>;
  /** `Interest.edge` or 0. */
  readonly triggerBits: number;
  /** See {@linkcode ConnectionOptions}. */
  readonly highWaterBytes: number;
  /** See {@linkcode ConnectionOptions}. */
  readonly lowWaterBytes: number;
  /** See {@linkcode ConnectionOptions}. */
  readonly allowHalfOpen: boolean;
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
  for (const name of CONNECTION_HANDLERS) functionOption(name, handlers[name]);
  const highWaterBytes = integerOption("highWaterBytes", options.highWaterBytes, HIGH_WATER_BYTES, 1);
  const quarter = Math.floor(highWaterBytes / 4);
  return {
    handlers,
    triggerBits: choiceOption("trigger", options.trigger, ["level", "edge"]) === "edge" ? Interest.edge : 0,
    highWaterBytes,
    lowWaterBytes: integerOption("lowWaterBytes", options.lowWaterBytes, quarter, 0, highWaterBytes - 1),
    allowHalfOpen: booleanOption("allowHalfOpen", options.allowHalfOpen, false),
    onError,
    idle,
  };
}

/**
 * `open`: both directions may carry bytes. `ending`: what is queued is sent, nothing is added. `ended`: our stream has
 * ended, the peer's may go on. `closed`: the descriptor is released.
 */
export type ConnectionState = "open" | "ending" | "ended" | "closed";

/** Legal moves; nothing leaves `closed`. */
const NEXT: Readonly<Record<ConnectionState, readonly ConnectionState[]>> = {
  open: ["ending", "closed"],
  ending: ["ended", "closed"],
  ended: ["closed"],
  closed: [],
};

/** One stream, TCP or Unix, and its descriptor, which it owns. Its handlers run on its loop's thread. */
export class Connection<T = undefined> implements Source, Ending, IdleNode {
  /** The user's own. `undefined` until `open` sets it. */
  data: T = undefined as T;
  /** For the idle list. */
  olderIdle: Connection<T> | undefined = undefined;
  /** For the idle list. */
  newerIdle: Connection<T> | undefined = undefined;
  /** For the idle list. */
  busyAtMs: number = 0;
  readonly #loop: EventLoop;
  readonly #sys: Syscalls;
  readonly #settings: ConnectionSettings<T>;
  readonly #onClosed: (connection: Connection<T>, fd: number) => void;
  readonly #queue: WriteQueue = new WriteQueue();
  readonly #fd: number;
  /** Absent while nothing is waited for, and once closed. */
  #token: Token | undefined;
  #state: ConnectionState = "open";
  #error: unknown;
  /** What the poller was last told. */
  #interest: number;
  #isPaused = false;
  /** The peer has ended its stream, and `end` has been told. */
  #isReadEnded = false;
  /** `write` has said false, and `drain` has not followed yet. */
  #isDrainDue = false;
  /** Nobody is to read any more: the queue is flushed, then the connection closes. */
  #isFinishing = false;
  #isReadPosted = false;

  /**
   * Takes `fd`, a connected non-blocking socket, over.
   *
   * @param onClosed Called once, when the descriptor has been released and before the `close` handler.
   * @throws {SystemError} If the socket cannot be watched. `fd` is then the caller's.
   */
  constructor(
    loop: EventLoop,
    fd: number,
    settings: ConnectionSettings<T>,
    onClosed: (connection: Connection<T>, fd: number) => void = () => {},
  ) {
    this.#loop = loop;
    this.#sys = loop.sys;
    this.#fd = fd;
    this.#settings = settings;
    this.#onClosed = onClosed;
    this.#interest = Interest.readable | settings.triggerBits;
    this.#token = this.#register();
    settings.idle?.touch(this, loop.now);
  }

  /** Where it is in its life. */
  get state(): ConnectionState {
    return this.#state;
  }

  /** Bytes written that the kernel has not taken yet. */
  get queuedBytes(): number {
    return this.#queue.queuedBytes;
  }

  /** Whether reading is paused. */
  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** The peer's address, asked of the kernel now; `undefined` once the peer or the connection is gone. */
  get remoteAddress(): Address | undefined {
    return this.#state === "closed" ? undefined : remoteAddress(this.#fd, this.#sys);
  }

  /** Tells `open`. Called once, by whoever made the connection. */
  start(): void {
    try {
      this.#watch(this.#settings.handlers.open?.(this));
    } catch (error) {
      this.close(error);
    }
  }

  /**
   * Sends `chunk`, a string as UTF-8, after everything written before. Takes all of it, always: what the kernel does
   * not take now is copied, so the caller may reuse its buffer at once.
   *
   * @returns Whether there is room for more. `false` at or over the high-water mark: wait for `drain`. Also `false`
   * after `end` or `close`, or if the peer is found gone: the bytes are dropped, and `close` tells.
   */
  write(chunk: Uint8Array | string): boolean {
    const bytes = typeof chunk === "string" ? this.#loop.encode(chunk) : chunk;
    if (!(bytes instanceof Uint8Array)) throw new TypeError("Cannot write: the chunk must be a string or a Uint8Array");
    if (this.#state !== "open") return false;
    let sent = 0;
    if (this.#queue.queuedBytes === 0 && bytes.byteLength > 0) {
      sent = this.#send(bytes);
      if (sent < 0) return false;
    }
    if (sent < bytes.byteLength) {
      this.#queue.push(bytes, sent);
      this.#setInterest(this.#interest | Interest.writable);
    }
    if (this.#queue.queuedBytes < this.#settings.highWaterBytes) return true;
    this.#isDrainDue = true;
    return false;
  }

  /** Stops reading before the next read of this connection. What the peer sends waits in the kernel, then at the peer. */
  pause(): void {
    this.#isPaused = true; // what is waited for changes with the next event, if one comes
  }

  /** Reads again. */
  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    if (this.#state === "closed" || this.#isReadEnded || this.#isFinishing) return;
    if ((this.#interest & Interest.readable) === 0) this.#setInterest(this.#interest | Interest.readable);
    else if (this.#settings.triggerBits !== 0) this.#postRead(); // an edge that came meanwhile was ignored
  }

  /**
   * Ends our stream: what is queued is sent, then the peer reads end of stream. The peer may go on; when it ends too,
   * the connection closes.
   *
   * @param chunk Written first.
   */
  end(chunk?: Uint8Array | string): void {
    if (this.#state !== "open") return;
    if (chunk !== undefined) this.write(chunk);
    if (this.#state !== "open") return;
    this.#advance("ending");
    if (this.#queue.queuedBytes === 0) this.#endStream();
  }

  /**
   * Sends what is queued, then closes, without waiting for the peer. Nothing is read any more.
   */
  finish(): void {
    if (this.#state === "closed") return;
    this.#isFinishing = true;
    if (this.#queue.queuedBytes > 0) {
      if (this.#state === "open") this.#advance("ending");
      this.#setInterest(this.#interest & ~Interest.readable);
      return;
    }
    // Unread bytes would turn the close into a reset, and what was sent last might be lost with it.
    this.#sys.recv(this.#fd, this.#loop.receiveBuffer, MSG.trunc | MSG.dontwait);
    this.close();
  }

  /**
   * Releases the descriptor now, dropping what is queued. Safe twice, from inside any handler, and at any time. The
   * `close` handler follows at the end of the turn.
   *
   * @param error Handed to the `close` handler.
   */
  close(error?: unknown): void {
    if (this.#state === "closed") return;
    this.#forget(error);
    this.#sys.close(this.#fd);
    this.#onClosed(this, this.#fd);
  }

  /**
   * As `close`, but leaves the descriptor open: it is the caller's now.
   *
   * @param error Handed to the `close` handler.
   * @returns The descriptor. The connection must not be closed yet.
   */
  surrender(error?: unknown): number {
    assert(this.#state !== "closed", "a connection that is surrendered has a descriptor");
    this.#forget(error);
    this.#onClosed(this, this.#fd);
    return this.#fd;
  }

  /** For the poller. */
  onReady(readiness: number): void {
    if (this.#queue.queuedBytes > 0 && readiness & (Readiness.writable | Readiness.hungUp)) this.#flush();
    if (this.#state === "closed") return;
    if ((readiness & (Readiness.readable | Readiness.readEnded | Readiness.hungUp)) === 0) return;
    if (this.#isPaused || this.#isReadEnded || this.#isFinishing) this.#ignore(readiness);
    else this.#read((readiness & (Readiness.readEnded | Readiness.hungUp)) !== 0);
  }

  /** For the loop. */
  onTurnEnd(): void {
    const { handlers, onError } = this.#settings;
    if (handlers.close === undefined) return;
    // There is nothing left to end: what fails here goes to `onError`.
    try {
      const result: unknown = handlers.close(this, this.#error);
      if (isPromise(result)) result.then(undefined, onError);
    } catch (error) {
      onError(error);
    }
  }

  /** All of closing but the descriptor. */
  #forget(error: unknown): void {
    this.#advance("closed");
    this.#error = error;
    this.#queue.clear();
    this.#settings.idle?.remove(this);
    this.#unregister(); // before close(2): the number is reused at once
    this.#loop.afterTurn(this);
  }

  /** @param mayHaveEnded A short read then does not mean that nothing is left: the end of stream is. */
  #read(mayHaveEnded: boolean): void {
    for (let budget = READ_BUDGET_BYTES; budget > 0;) {
      const buffer = this.#loop.receiveBuffer;
      const received = this.#sys.recv(this.#fd, buffer);
      if (received > 0) {
        this.#settings.idle?.touch(this, this.#loop.now);
        this.#deliver(buffer.subarray(0, received));
        if (this.#state === "closed" || this.#isPaused || this.#isFinishing) return;
        if (received < buffer.byteLength && !mayHaveEnded) return; // the kernel had no more: epoll(7), questions, 9
        budget -= received;
      } else if (received === 0) {
        return this.#readEnd();
      } else if (received === -ERRNO.EAGAIN[0]) {
        return;
      } else if (received !== -ERRNO.EINTR[0]) {
        return this.close(new SystemError("receive", "recv", -received));
      }
    }
    // The budget is spent, and an edge does not come again.
    if (this.#settings.triggerBits !== 0) this.#postRead();
  }

  #deliver(bytes: Uint8Array): void {
    try {
      this.#watch(this.#settings.handlers.data?.(this, bytes));
    } catch (error) {
      this.close(error);
    }
  }

  #readEnd(): void {
    this.#isReadEnded = true;
    try {
      this.#watch(this.#settings.handlers.end?.(this));
    } catch (error) {
      return this.close(error);
    }
    if (this.#state === "closed") return;
    if (this.#state === "ended") return this.close();
    // End of stream is readable for ever.
    this.#setInterest(this.#interest & ~Interest.readable);
    if (!this.#settings.allowHalfOpen) this.end();
  }

  /** Sends from the queue until it is empty, the kernel is full, or the budget is spent. */
  #flush(): void {
    for (let budget = WRITE_BUDGET_BYTES; budget > 0 && this.#queue.queuedBytes > 0;) {
      const head = this.#queue.head();
      const sent = this.#send(head);
      if (sent < 0) return; // closed
      this.#queue.consume(sent);
      // The kernel is full. Under edge triggering only EAGAIN proves it, and that an edge will come.
      if (sent === 0 || (sent < head.byteLength && this.#settings.triggerBits === 0)) return this.#drained();
      budget -= sent;
    }
    if (this.#queue.queuedBytes === 0) this.#setInterest(this.#interest & ~Interest.writable);
    else if (this.#settings.triggerBits !== 0) this.#loop.post(() => this.#flushAgain());
    this.#drained();
  }

  #flushAgain(): void {
    if (this.#state !== "closed" && this.#queue.queuedBytes > 0) this.#flush();
  }

  /** Tells `drain` where it is due, and ends what waited for an empty queue. */
  #drained(): void {
    if (this.#queue.queuedBytes === 0) {
      if (this.#isFinishing) return this.finish();
      if (this.#state === "ending") return this.#endStream();
    }
    if (!this.#isDrainDue || this.#queue.queuedBytes > this.#settings.lowWaterBytes || this.#state !== "open") return;
    this.#isDrainDue = false;
    try {
      this.#watch(this.#settings.handlers.drain?.(this));
    } catch (error) {
      this.close(error);
    }
  }

  #endStream(): void {
    if (this.#isReadEnded) return this.close();
    shutdownWrite(this.#fd, this.#sys);
    this.#advance("ended");
  }

  /** @returns Bytes the kernel took, 0 if it is full, -1 if the connection is closed now. */
  #send(bytes: Uint8Array): number {
    for (;;) {
      const sent = this.#sys.send(this.#fd, bytes, MSG.nosignal);
      if (sent >= 0) {
        this.#settings.idle?.touch(this, this.#loop.now);
        return sent;
      }
      switch (-sent) {
        case ERRNO.EINTR[0]:
          continue;
        case ERRNO.EAGAIN[0]:
        case ERRNO.ENOBUFS[0]: // no memory for it now: waited for like room
        case ERRNO.ENOMEM[0]:
          return 0;
      }
      this.close(new SystemError("send", "send", -sent));
      return -1;
    }
  }

  /** Stops waiting for what nobody wants to read now. */
  #ignore(readiness: number): void {
    const isHungUp = (readiness & Readiness.hungUp) !== 0;
    if (isHungUp && (this.#isReadEnded || this.#isFinishing)) return this.close(this.#pendingError());
    if (this.#settings.triggerBits !== 0) return; // an edge is reported once
    this.#setInterest(this.#interest & ~Interest.readable);
    // A hang-up is reported for ever, asked for or not (epoll_ctl(2)): out of sight until `resume` wants to read it.
    if (isHungUp) this.#unregister();
  }

  /** What the kernel holds against this socket, by SO_ERROR; reading clears it. */
  #pendingError(): SystemError | undefined {
    const errno = socketError(this.#fd, this.#sys);
    return errno === 0 ? undefined : new SystemError("use a connection", "epoll_wait", errno);
  }

  #unregister(): void {
    if (this.#token === undefined) return;
    this.#loop.poller.remove(this.#token);
    this.#token = undefined;
  }

  #setInterest(interest: number): void {
    if (interest === this.#interest && this.#token !== undefined) return;
    this.#interest = interest;
    try {
      if (this.#token === undefined) this.#token = this.#register();
      else this.#loop.poller.modify(this.#token, interest);
    } catch (error) {
      this.close(error);
    }
  }

  #register(): Token {
    const token = this.#loop.poller.add(this.#fd, this.#interest, this);
    if (typeof token === "number") throw new SystemError("watch a connection", "epoll_ctl", -token);
    return token;
  }

  #postRead(): void {
    if (this.#isReadPosted) return;
    this.#isReadPosted = true;
    this.#loop.post(() => {
      this.#isReadPosted = false;
      if (this.#state === "closed" || this.#isPaused || this.#isReadEnded || this.#isFinishing) return;
      this.#read(true);
    });
  }

  /** Has a rejected promise of a handler end the connection. Handlers return what they like: `(c, b) => c.write(b)`. */
  #watch(result: unknown): void {
    if (isPromise(result)) result.then(undefined, (error: unknown) => this.close(error));
  }

  #advance(next: ConnectionState): void {
    assert(NEXT[this.#state].includes(next), `a connection that is ${this.#state} may become ${next}`);
    this.#state = next;
  }
}

/** Whether a handler was `async`: what it returned may be rejected. */
export function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}
