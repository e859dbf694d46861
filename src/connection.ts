import { MSG } from "../ffi/constants.ts";
import { ERRNO, SystemError } from "../ffi/errno.ts";
import type { Address } from "./address.ts";
import { assert } from "./assert.ts";
import { type CloseReason, ConnectionError } from "./close_reason.ts";
import { checkHandlers, type ConnectionHandlers, type ConnectionSettings, isPromise } from "./connection_options.ts";
import { type DeadlineName, Deadlines, type Expiring } from "./deadlines.ts";
import type { IdleNode } from "./idle_list.ts";
import { Interest, Readiness } from "./interest.ts";
import { FINISH_CHECK_MS, FINISH_MS, NO_MEMORY_MS, READ_BUDGET_BYTES, TIMER_MAX_MS } from "./limits.ts";
import type { Ending, EventLoop, Flushing } from "./loop.ts";
import { integerOption, knownOptions } from "./options.ts";
import { Outbox } from "./outbox.ts";
import type { Source } from "./poller.ts";
import type { Queued } from "./queue_budget.ts";
import { SharedBytes } from "./shared_bytes.ts";
import {
  isDelivered,
  isUnix,
  localAddress,
  remoteAddress,
  resetOnClose,
  shutdownWrite,
  socketError,
} from "./socket.ts";
import { Throttle } from "./throttle.ts";
import type { Timer } from "./timers.ts";
import type { Token } from "./token.ts";

/**
 * `open`: both directions may carry bytes. `ending`: what is queued is sent, nothing is added. `ended`: our stream is
 * over, the peer's may go on. `closed`: the descriptor is released.
 */
export type ConnectionState = "open" | "ending" | "ended" | "closed";

/** Legal moves; nothing leaves `closed`. */
const NEXT: Readonly<Record<ConnectionState, readonly ConnectionState[]>> = {
  open: ["ending", "ended", "closed"],
  ending: ["ended", "closed"],
  ended: ["closed"],
  closed: [],
};

/** What may be written: bytes, text as UTF-8, or bytes shared with other connections. */
export type Chunk = Uint8Array | string | SharedBytes;

/** Options for {@linkcode Connection.finish}. */
export interface FinishOptions {
  /** How long the peer may take to acknowledge everything, once it is sent, in ms; 0 does not wait. @default {5_000} */
  timeoutMs?: number;
  /** What the `close` handler is told. @default {"close"} */
  reason?: CloseReason;
}

// Bits of `#flags`. There are many connections, and most are idle: what each of them has is to be small.

/** Reading is paused. */
const PAUSED = 1 << 0;
/** The peer has ended its stream, and `end` has been told. */
const READ_ENDED = 1 << 1;
/** The loop will call us to read on. */
const READ_POSTED = 1 << 2;
/** The loop will call `onFlush`. */
const FLUSH_POSTED = 1 << 3;
/** It is being told of its own readiness, and flushes when that is over: the peer need not wait for all others. */
const BUSY = 1 << 4;
/** A flush was asked for meanwhile. */
const FLUSH_DUE = 1 << 5;
/** What is in the loop's scratch memory is ours. There is no outbox then. */
const GATHERED = 1 << 6;
/** `write` has said false, and `drain` has not followed yet. */
const DRAIN_DUE = 1 << 7;
/** Whether it is a Unix socket is known. */
const FAMILY_KNOWN = 1 << 8;
/** It is a Unix socket. */
const UNIX = 1 << 9;

/** What few connections have, or for a short time only: made when it is first needed. */
class Extras<T> {
  /** Those that have replaced the settings'. */
  handlers: ConnectionHandlers<T> | undefined = undefined;
  deadlines: Deadlines | undefined = undefined;
  intake: Throttle | undefined = undefined;
  /** What the user has given back. */
  unread: Uint8Array | undefined = undefined;
  /** The kernel has refused our stream for good; what the peer sent before that is still to be read. */
  sendError: SystemError | undefined = undefined;
  /** Nobody is to read any more: the queue is flushed, then the connection closes. */
  finish: { readonly timeoutMs: number; readonly reason: CloseReason } | undefined = undefined;
  finishTimer: Timer | undefined = undefined;
  /** While the kernel lacks memory for what is queued. */
  retryTimer: Timer | undefined = undefined;
  local: Address | undefined = undefined;
  remote: Address | undefined = undefined;
  /** Of outboxes that it had before, and without one. */
  bytesDropped = 0;
  /** For the `close` handler. */
  reason: CloseReason = "close";
  /** For the `close` handler. */
  error: unknown = undefined;
}

/**
 * One stream, TCP or Unix, and its descriptor, which it owns. Its handlers run on its loop's thread, one at a time.
 *
 * Every method may be called at any time: inside any handler of any connection, twice, and after `close`.
 */
export class Connection<T = undefined> implements Source, Token, Ending, Flushing, Queued, IdleNode, Expiring {
  /** The user's own. `undefined` until `open` sets it. */
  data: T = undefined as T;
  /** For the poller; -1 while nothing is waited for, and once closed. */
  slot: number = -1;
  /** For the poller. */
  generation: number = 0;
  /** For the idle list. */
  olderIdle: Connection<T> | undefined = undefined;
  /** For the idle list. */
  newerIdle: Connection<T> | undefined = undefined;
  /**
   * When bytes were received, or taken by the kernel, last: ms on the clock of the loop, rounded up. V8 keeps whole numbers
   * in the object itself, and each other number in one of its own.
   */
  busyAtMs: number = 0;
  readonly #loop: EventLoop;
  readonly #settings: ConnectionSettings<T>;
  readonly #onClosed: (connection: Connection<T>, fd: number) => void;
  readonly #fd: number;
  /** Rounded up, too. */
  readonly #openedAtMs: number = 0;
  #state: ConnectionState = "open";
  /** Above. */
  #flags = 0;
  /** What the poller was last told. */
  #interest: number;
  /** While something is held back, or the sending rate is limited. */
  #outbox: Outbox | undefined;
  #extras: Extras<T> | undefined;
  /** Without what the outbox has sent since it is ours. */
  #bytesSent = 0;
  #bytesReceived = 0;

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
    onClosed: (connection: Connection<T>, fd: number) => void = tellNobody,
  ) {
    this.#loop = loop;
    this.#fd = fd;
    this.#settings = settings;
    this.#onClosed = onClosed;
    this.#interest = Interest.readable | settings.triggerBits;
    if (settings.triggerBits !== 0) this.#interest |= Interest.urgent; // no edge comes for what is behind
    this.#register();
    this.#openedAtMs = this.busyAtMs = this.#nowMs;
    settings.idle?.touch(this, this.#openedAtMs);
    if (settings.timeouts !== undefined) this.#needExtras().deadlines = new Deadlines(loop, settings.timeouts, this);
    if (settings.bytesInPerSecond !== Infinity) this.#setIntake(settings.bytesInPerSecond);
    if (settings.bytesOutPerSecond !== Infinity) this.#setOutput(settings.bytesOutPerSecond);
    loop.leaks?.made(this, fd);
  }

  /** Where it is in its life. */
  get state(): ConnectionState {
    return this.#state;
  }

  /** Bytes written that the kernel has not taken yet. Exact at any time. */
  get queuedBytes(): number {
    const gatheredBytes = this.#flags & GATHERED ? this.#loop.sender.scratch.byteLength : 0;
    return gatheredBytes + (this.#outbox?.queuedBytes ?? 0);
  }

  /** Bytes received, those that `finish` throws away included. */
  get bytesReceived(): number {
    return this.#bytesReceived;
  }

  /** Bytes that the kernel took. That the peer has got them is not known. */
  get bytesSent(): number {
    return this.#bytesSent + (this.#outbox?.bytesSent ?? 0);
  }

  /** Bytes that were written in vain: after `end` or `close`, or still queued when the connection was over. */
  get bytesDropped(): number {
    return (this.#extras?.bytesDropped ?? 0) + (this.#outbox?.bytesDropped ?? 0);
  }

  /** Milliseconds since it began. */
  get ageMs(): number {
    return Math.max(0, this.#loop.now - this.#openedAtMs);
  }

  /** Milliseconds since bytes were received, or taken by the kernel. */
  get idleMs(): number {
    return Math.max(0, this.#loop.now - this.busyAtMs);
  }

  /** Whether reading is paused. */
  get isPaused(): boolean {
    return (this.#flags & PAUSED) !== 0;
  }

  /** Our address. Asked of the kernel once, and known from then on; `undefined` if first asked for after the end. */
  get localAddress(): Address | undefined {
    if (this.#state !== "closed") this.#needExtras().local ??= localAddress(this.#fd, this.#loop.sys);
    return this.#extras?.local;
  }

  /**
   * The peer's address. Asked of the kernel once, and known from then on: ask in `open` what `close` is to log.
   * `undefined` if first asked for when the peer or the connection is gone.
   */
  get remoteAddress(): Address | undefined {
    if (this.#state !== "closed") this.#needExtras().remote ??= remoteAddress(this.#fd, this.#loop.sys);
    return this.#extras?.remote;
  }

  /** Tells `open`. Called once, by whoever made the connection. */
  start(): void {
    try {
      this.#watch(this.#handlers.open?.(this));
    } catch (error) {
      this.close(error, "handler error");
    }
  }

  /**
   * Sends `chunk`, a string as UTF-8, after everything written before. Takes all of it, always, and copies what is not
   * sent before this returns, so the caller may reuse its buffer at once.
   *
   * Small chunks are gathered: what a connection writes while it is told of its own events leaves with one call after
   * that; what is written to it otherwise, at the end of the turn; outside a turn, when the JavaScript job is over.
   *
   * @returns Whether there is room for more. `false` at or over the high-water mark: wait for `drain`. Also `false`
   * after `end` or `close`, or if the peer is found gone: the bytes are dropped, and `close` tells.
   * @throws {TypeError} If `chunk` is none, or its buffer was transferred away.
   * @throws {RangeError} If there is no memory to copy it to; the connection is aborted then.
   */
  write(chunk: Chunk): boolean {
    if (this.#flags & BUSY && this.#outbox === undefined && this.#state === "open" && this.#gather(chunk)) {
      this.#flags |= GATHERED | FLUSH_DUE;
      return true;
    }
    const { bytesSent } = this;
    if (typeof chunk === "string" && this.#state === "open" && this.#needOutbox().writeShort(chunk)) {
      return this.#written(bytesSent);
    }
    const bytes = this.#bytesOf(chunk);
    if (this.#state !== "open") return this.#drop(bytes.byteLength);
    try {
      this.#needOutbox().write(bytes, chunk instanceof SharedBytes);
    } catch (error) {
      throw this.#torn(error);
    }
    return this.#written(bytesSent);
  }

  /**
   * As `write` for each of `chunks` in order, but large ones leave together, in one call and without a copy.
   *
   * @throws {TypeError} If one of them is no chunk; nothing is written then.
   */
  writev(chunks: readonly Chunk[]): boolean {
    const all = chunks.map((chunk) => this.#bytesOf(chunk));
    const byteLength = all.reduce((sum, bytes) => sum + bytes.byteLength, 0);
    if (this.#state !== "open") return this.#drop(byteLength);
    const { bytesSent } = this;
    try {
      this.#needOutbox().writev(all, byteLength);
    } catch (error) {
      throw this.#torn(error);
    }
    return this.#written(bytesSent);
  }

  /** Holds everything that is written back, beyond the turn, until `uncork` was called as often. */
  cork(): void {
    if (this.#state === "open") this.#needOutbox().cork();
  }

  /** Takes one `cork` back; after the last one, what was held is sent at the end of the turn. */
  uncork(): void {
    if (this.#state !== "open") return;
    this.#outbox?.uncork();
    this.#flushLater();
  }

  /** Stops reading before the next read of this connection. What the peer sends waits in the kernel, then at the peer. */
  pause(): void {
    if (this.#flags & PAUSED) return;
    this.#flags |= PAUSED; // what is waited for changes with the next event, if one comes
    this.#timeReading();
    if (this.#extras?.sendError !== undefined) this.#postRead(); // it ends there, unless it is resumed by then
  }

  /** Reads again. */
  resume(): void {
    if ((this.#flags & PAUSED) === 0) return;
    this.#flags &= ~PAUSED;
    if (this.#extras?.finish !== undefined || this.#state === "closed") return;
    this.#timeReading();
    this.#readOn();
  }

  /**
   * Gives `bytes` back, to be delivered again before anything else, in the next turn, and to the handlers that there are
   * by then. For a handler that has got more than it wants, such as those of the next protocol. They are copied.
   *
   * Nothing else is read while a handler gives back: one that waits for the rest of a message keeps the bytes itself, as
   * framers do, or pauses. After `end` nothing is delivered any more.
   *
   * @throws {TypeError} If `bytes` is no Uint8Array.
   */
  unread(bytes: Uint8Array): void {
    if (!(bytes instanceof Uint8Array)) throw new TypeError("Cannot unread: the bytes must be a Uint8Array");
    if (bytes.byteLength === 0 || this.#state === "closed") return;
    const extras = this.#needExtras();
    const before = extras.unread;
    const all = new Uint8Array(new ArrayBuffer(bytes.byteLength + (before?.byteLength ?? 0)));
    all.set(bytes);
    if (before !== undefined) all.set(before, bytes.byteLength);
    extras.unread = all;
    this.#postRead();
  }

  /**
   * Says that a whole message has been taken, which `readTimeoutMs` waits for.
   *
   * @param unfinishedBytes Bytes that are here of the next message: its time begins now. With 0 it begins with the next
   * byte that comes.
   */
  progress(unfinishedBytes: number = 0): void {
    this.#extras?.deadlines?.completed(this.#nowMs, unfinishedBytes > 0);
  }

  /**
   * Replaces every handler, from the next event on: another protocol begins. `open` is not told again. What the old
   * `data` handler has read beyond the end of its protocol it gives back with `unread`.
   *
   * @throws {TypeError} If a handler is not a function.
   */
  setHandlers(handlers: ConnectionHandlers<T>): void {
    checkHandlers(handlers);
    this.#needExtras().handlers = handlers;
  }

  /**
   * Ends our stream: what is queued is sent, corked or not, then the peer reads end of stream. The peer may go on; when
   * it ends too, the connection closes.
   *
   * @param chunk Written first.
   */
  end(chunk?: Chunk): void {
    if (chunk !== undefined) this.write(chunk);
    if (this.#state !== "open") return;
    this.#outbox?.uncork(true);
    this.#advance("ending");
    this.#flushLater();
  }

  /**
   * Closes in good order: sends what is queued, ends our stream, and closes once the peer's kernel has acknowledged all
   * of it, or `timeoutMs` later. What the peer sends meanwhile is thrown away, since a close with unread bytes would be
   * a reset. How long the queue may take is up to `writeTimeoutMs`.
   *
   * @throws {TypeError | RangeError} If an option is wrong.
   */
  finish(options: FinishOptions = {}): void {
    knownOptions("finish a connection", options, ["timeoutMs", "reason"]);
    const timeoutMs = integerOption("timeoutMs", options.timeoutMs, FINISH_MS, 0, TIMER_MAX_MS);
    if (this.#state === "closed" || this.#extras?.finish !== undefined) return;
    const sendError = this.#extras?.sendError;
    if (sendError !== undefined) return this.#release("reset", sendError);
    const extras = this.#needExtras();
    extras.finish = { timeoutMs, reason: options.reason ?? "close" };
    extras.unread = undefined;
    this.#timeReading(); // no more messages are waited for
    this.end();
    this.#discard();
    if (this.#isEnded()) this.#checkDelivered();
  }

  /**
   * Releases the descriptor now. What was written in this turn is offered to the kernel once; what it does not take, and
   * what was queued before, is dropped: use `finish` to have it sent. Safe twice. The `close` handler follows at the end
   * of the turn.
   *
   * @param error Handed to the `close` handler.
   * @param reason Handed to the `close` handler. Unless it is `"close"`, a peer of whose bytes some are dropped sees a
   * reset, as with a handler that throws.
   */
  close(error?: unknown, reason: CloseReason = "close"): void {
    if (this.#state === "closed") {
      // There is nothing left to end; nor is it to be lost.
      if (reason === "handler error") this.#report(error);
      return;
    }
    this.#offerLast(reason);
    this.#release(reason, error);
  }

  /**
   * Releases the descriptor now, drops what is queued, and has the peer of a TCP connection see a reset: RFC 9293,
   * section 3.10.7. Safe twice. A Unix socket has no reset: its peer reads end of stream, or ECONNRESET if it has sent
   * bytes that were not read.
   *
   * @param error Handed to the `close` handler.
   */
  abort(error?: unknown): void {
    if (this.#state === "closed") return;
    resetOnClose(this.#fd, this.#loop.sys);
    this.#release("abort", error);
  }

  /**
   * As `close`, but leaves the descriptor open: it is the caller's now, and set to reset its peer where bytes were dropped.
   *
   * @param error Handed to the `close` handler, with the reason `"overload"`.
   * @returns The descriptor. The connection must not be closed yet.
   */
  surrender(error?: unknown): number {
    assert(this.#state !== "closed", "a connection that is surrendered has a descriptor");
    this.#offerLast("overload");
    this.#forget("overload", error);
    this.#onClosed(this, this.#fd);
    return this.#fd;
  }

  /** For the poller. */
  onReady(readiness: number): void {
    this.#attend(readiness);
  }

  /** For the loop. */
  onFlush(): void {
    this.#flags &= ~FLUSH_POSTED;
    this.#flush();
  }

  /** For the loop. */
  onTurnEnd(): void {
    const { error, reason } = this.#needExtras();
    const handlers = this.#handlers;
    if (handlers.close === undefined) {
      if (reason === "handler error") this.#report(error); // else nobody would hear of it
      return;
    }
    // There is nothing left to end: what fails here goes to `onError`.
    try {
      const result: unknown = handlers.close(this, error, reason);
      if (isPromise(result)) result.then(undefined, (error) => this.#report(error));
    } catch (error) {
      this.#report(error);
    }
  }

  /** For the loop's queue budget. */
  cutOff(): void {
    this.#cutOff(
      "slow reader",
      `Cannot keep ${this.queuedBytes} bytes for a slow peer: all queues of the loop may hold ` +
        `${this.#loop.queueBudget.maxBytes} (maxQueuedBytes), and this one is the largest`,
    );
  }

  /** For its deadlines. Who has sent something in time does not pay for our being late to read it. */
  onDeadline(name: DeadlineName, isPatient: boolean): boolean {
    if (isPatient && READ_DEADLINES.includes(name) && this.#isReading() && this.#hasInput()) {
      this.#postRead();
      return false;
    }
    const ms = this.#settings.timeouts![name];
    this.#cutOff(name === "slowReaderMs" ? "slow reader" : "timeout", `Cannot keep a connection ${EXPIRED[name](ms)}`);
    return true;
  }

  /** Deals with `readiness`, or with a read that was posted; what is written meanwhile leaves after it. */
  #attend(readiness: number | undefined): void {
    this.#flags |= BUSY;
    try {
      if (readiness !== undefined) this.#onReady(readiness);
      else if (!this.#take(true)) this.#settleFailure();
    } finally {
      this.#flags &= ~BUSY;
    }
    if (this.#flags & FLUSH_DUE) this.#flush();
  }

  #onReady(readiness: number): void {
    if (readiness & (Readiness.writable | Readiness.hungUp) && this.#outbox?.isBlocked) {
      this.#outbox.unblock();
      this.#flush();
    }
    if (this.#state === "closed") return;
    if ((readiness & (Readiness.readable | Readiness.readEnded | Readiness.hungUp)) === 0) return;
    // The end of the stream, the mark of urgent data (tcp(7)) and a failure of ours are found behind what a read returns.
    const isMore = (readiness & (Readiness.readEnded | Readiness.hungUp | Readiness.urgent)) !== 0;
    if (!this.#take(isMore || this.#extras?.sendError !== undefined)) this.#ignore(readiness);
  }

  /** Takes what the peer has sent, to deliver it or to throw it away. @returns Whether anybody is to. */
  #take(isMore: boolean): boolean {
    if (this.#isReading()) this.#read(isMore);
    else if (this.#extras?.finish !== undefined && (this.#flags & READ_ENDED) === 0) this.#discard();
    else return false;
    return true;
  }

  // Rates: where there are none, no connection pays for the functions.

  #setIntake(bytesPerSecond: number): void {
    this.#needExtras().intake = new Throttle(this.#loop, bytesPerSecond, () => {
      this.#timeReading();
      this.#readOn();
    });
  }

  #setOutput(bytesPerSecond: number): void {
    this.#needOutbox(new Throttle(this.#loop, bytesPerSecond, () => this.#flush()));
  }

  // Writing

  #gather(chunk: Chunk): boolean {
    const { gatherBytes } = this.#settings;
    const { scratch } = this.#loop.sender;
    if (typeof chunk === "string") return scratch.gatherText(chunk, gatherBytes);
    return chunk instanceof Uint8Array && scratch.gather(chunk, gatherBytes);
  }

  /** For what is to wait: the outbox, with what was gathered in it. `throttle` is for the first one. */
  #needOutbox(throttle?: Throttle): Outbox {
    const outbox = this.#outbox ??= Outbox.take(this.#loop, this.#fd, this.#settings.triggerBits !== 0, throttle);
    if (this.#flags & GATHERED) {
      this.#flags &= ~GATHERED;
      outbox.push(this.#loop.sender.scratch.take());
    }
    return outbox;
  }

  #bytesOf(chunk: Chunk): Uint8Array {
    if (typeof chunk === "string") return this.#loop.encode(chunk);
    const bytes = chunk instanceof SharedBytes ? chunk.bytes : chunk;
    if (!(bytes instanceof Uint8Array)) throw new TypeError("Cannot write: the chunk must be a string or a Uint8Array");
    if (bytes.byteLength === 0 && (bytes.buffer as ArrayBuffer).detached) {
      throw new TypeError("Cannot write: the chunk's buffer is detached, its bytes are gone");
    }
    return bytes;
  }

  /** There is no memory to queue all that was written: nothing may follow the part that the peer gets. @returns `error`. */
  #torn(error: unknown): unknown {
    this.abort(error);
    return error;
  }

  #drop(byteLength: number): false {
    if (byteLength > 0) this.#needExtras().bytesDropped += byteLength;
    return false;
  }

  /** Bytes were handed to the outbox, when `sentBefore` were sent. @returns Whether there is room for more. */
  #written(sentBefore: number): boolean {
    const { gatherBytes, highWaterBytes, maxQueuedBytes } = this.#settings;
    const outbox = this.#outbox!;
    const { errno, isHeld } = outbox;
    if (outbox.queuedBytes < gatherBytes && !isHeld && this.bytesSent === sentBefore && errno === 0) {
      this.#flushLater(); // queued, and nothing else has changed
      return true;
    }
    outbox.offer();
    this.#offered(sentBefore);
    if (this.#state !== "open") return false;
    const { queuedBytes } = this;
    if (queuedBytes > maxQueuedBytes) {
      const message = `Cannot keep ${queuedBytes} bytes for a slow peer: maxQueuedBytes is ${maxQueuedBytes}`;
      this.#cutOff("slow reader", message);
      return false;
    }
    if ((queuedBytes > 0 || this.#flags & DRAIN_DUE) && !this.#outbox?.isHeld) this.#flushLater();
    if (queuedBytes < highWaterBytes) return true;
    this.#flags |= DRAIN_DUE;
    this.#extras?.deadlines?.over(this.#nowMs, true);
    return false;
  }

  #flushLater(): void {
    if (this.#flags & BUSY) return void (this.#flags |= FLUSH_DUE);
    if (this.#flags & FLUSH_POSTED) return;
    this.#flags |= FLUSH_POSTED;
    this.#loop.flushLater(this);
  }

  #flush(): void {
    this.#flags &= ~FLUSH_DUE;
    if (this.#state === "closed") return;
    if (this.#flags & GATHERED) this.#flushGathered();
    else this.#flushQueue(this.bytesSent);
  }

  /** Offers what was gathered; what the kernel does not take, the outbox does. */
  #flushGathered(): void {
    const { sender } = this.#loop;
    const { bytes, byteLength } = sender.scratch;
    const sent = sender.send(this.#fd, bytes, byteLength);
    if (sent !== byteLength) {
      const { bytesSent } = this;
      this.#needOutbox().took(sent);
      return this.#flushQueue(bytesSent);
    }
    sender.scratch.clear();
    this.#flags &= ~GATHERED;
    this.#bytesSent += sent;
    const nowMs = this.#touch();
    this.#extras?.deadlines?.sent(nowMs);
    if (this.#flags & DRAIN_DUE || this.#state !== "open") this.#drained();
  }

  /** Offers what is queued, if anything is, and tells what comes of it. */
  #flushQueue(sentBefore: number): void {
    this.#outbox?.offer();
    this.#offered(sentBefore);
    if (this.#isClosed()) return;
    if (this.#outbox !== undefined && this.queuedBytes > 0 && !this.#outbox.isHeld) {
      this.#flushLater(); // the budget is spent
    }
    this.#drained();
  }

  /** The kernel may have been offered bytes by the outbox, when `sentBefore` were sent. Calls no handler. */
  #offered(sentBefore: number): void {
    if (this.#outbox === undefined) return;
    const { errno, isBlocked, lacksMemory, queuedBytes } = this.#outbox;
    if (errno !== 0) return this.#sendFailed(errno);
    if (this.bytesSent > sentBefore) {
      const nowMs = this.#touch();
      this.#extras?.deadlines?.sent(nowMs);
      if (queuedBytes <= this.#settings.lowWaterBytes) this.#extras?.deadlines?.over(nowMs, false);
    }
    this.#extras?.deadlines?.blocked(this.#nowMs, isBlocked);
    if (lacksMemory) this.#retryLater();
    const waitsForRoom = isBlocked && !lacksMemory;
    if (waitsForRoom !== ((this.#interest & Interest.writable) !== 0)) {
      this.#setInterest(this.#interest ^ Interest.writable);
    }
    this.#count();
    if (this.#outbox?.isIdle) this.#giveOutbox();
  }

  /** The kernel lacks memory. */
  #retryLater(): void {
    this.#needExtras().retryTimer ??= this.#loop.setTimer(NO_MEMORY_MS, () => {
      this.#extras!.retryTimer = undefined;
      this.#outbox?.unblock();
      this.#flush();
    });
  }

  /** Has the loop count what is held back now, and cut off somebody, maybe us, if that is too much. */
  #count(): void {
    const outbox = this.#outbox;
    if (outbox === undefined) return;
    const before = outbox.countedBytes;
    const bytes = outbox.isHeld ? outbox.queuedBytes : 0;
    if (bytes === before) return;
    outbox.countedBytes = bytes;
    this.#loop.queueBudget.count(this, before, bytes);
  }

  /** Nothing is to be held back any more; what still is, is dropped. */
  #giveOutbox(): void {
    const outbox = this.#outbox;
    if (outbox === undefined) return;
    outbox.clear();
    this.#count();
    this.#bytesSent += outbox.bytesSent;
    this.#drop(outbox.bytesDropped);
    this.#outbox = undefined;
    outbox.give();
  }

  /** What was written in this turn is offered once, corked or not. What is left is dropped. */
  #offerLast(reason: CloseReason): void {
    if (this.queuedBytes === 0) return;
    const { bytesDropped } = this;
    this.#needOutbox().close();
    // Cut short by something else than the user's own `close`, it must not look like a stream that ended.
    if (reason !== "close" && this.bytesDropped > bytesDropped) resetOnClose(this.#fd, this.#loop.sys);
  }

  /**
   * The peer is gone, or the kernel refuses. What the peer sent before is delivered first, then the connection closes;
   * unless nobody reads, as then nobody would ever learn of it.
   */
  #sendFailed(errno: number): void {
    if (this.#extras?.sendError !== undefined) return;
    const error = new SystemError("send", "send", errno);
    if (this.#flags & (PAUSED | READ_ENDED) || this.#extras?.finish !== undefined) return this.#release("reset", error);
    this.#giveOutbox();
    this.#needExtras().sendError = error;
    this.#advance("ended");
    this.#extras?.deadlines?.over(this.#nowMs, false);
    this.#extras?.deadlines?.blocked(this.#nowMs, false);
    this.#setInterest(this.#interest & ~Interest.writable);
    this.#postRead();
  }

  /** Tells `drain` where it is due, and ends what waited for an empty queue. */
  #drained(): void {
    if (this.#state === "ending" && this.queuedBytes === 0) return this.#endStream();
    if ((this.#flags & DRAIN_DUE) === 0 || this.#state !== "open") return;
    if (this.queuedBytes > this.#settings.lowWaterBytes) return;
    this.#flags &= ~DRAIN_DUE;
    try {
      this.#watch(this.#handlers.drain?.(this));
    } catch (error) {
      this.close(error, "handler error");
    }
  }

  #endStream(): void {
    if (this.#flags & READ_ENDED) return this.#release(this.#extras?.finish?.reason ?? "end");
    shutdownWrite(this.#fd, this.#loop.sys);
    this.#advance("ended");
    if (this.#extras?.finish === undefined) return;
    this.#discard(); // what came since
    if (this.#isEnded()) this.#checkDelivered();
  }

  // Reading

  #isReading(): boolean {
    if (this.#flags & (PAUSED | READ_ENDED)) return false;
    const extras = this.#extras;
    return extras === undefined || (extras.finish === undefined && !extras.intake?.isWaiting);
  }

  /** Has the timeouts of reading run while we read. */
  #timeReading(): void {
    this.#extras?.deadlines?.reading(this.#nowMs, this.#isReading());
  }

  /** Reading may go on, after it was paused or held to its rate. */
  #readOn(): void {
    if (this.#state === "closed" || !this.#isReading()) return;
    if ((this.#interest & Interest.readable) === 0) this.#setInterest(this.#interest | Interest.readable);
    else if (this.#settings.triggerBits !== 0) this.#postRead(); // an edge that came meanwhile was ignored
    if (this.#extras?.unread !== undefined) this.#postRead();
  }

  #postRead(): void {
    if (this.#flags & READ_POSTED) return;
    this.#flags |= READ_POSTED;
    this.#loop.post(() => {
      this.#flags &= ~READ_POSTED;
      if (this.#state !== "closed") this.#attend(undefined);
    });
  }

  /** @param isMore A short read then does not mean that nothing is left. */
  #read(isMore: boolean): void {
    const bytes = this.#extras?.unread;
    if (bytes !== undefined) {
      this.#extras!.unread = undefined;
      if (!this.#deliver(bytes)) return;
    }
    for (let budget = READ_BUDGET_BYTES; budget > 0;) {
      let room = this.#loop.received.bytes;
      const intake = this.#extras?.intake;
      if (intake !== undefined) {
        const allowance = intake.allowance();
        if (allowance === 0) return this.#holdIntake();
        if (allowance < room.byteLength) room = this.#loop.received.first(allowance);
      }
      const received = this.#loop.sys.recv(this.#fd, room, 0, true);
      if (received > 0) {
        this.#noteReceived(received);
        if (!this.#deliver(this.#loop.received.first(received))) return;
        const isShort = received < room.byteLength;
        if (isShort && !isMore && !this.#hasBarriers()) return; // the kernel had no more: epoll(7), questions, 9
        budget -= received;
      } else if (received === 0) {
        return this.#readEnd();
      } else if (received === -ERRNO.EAGAIN[0]) {
        return this.#settleFailure();
      } else if (received !== -ERRNO.EINTR[0]) {
        return this.#release("reset", this.#extras?.sendError ?? new SystemError("receive", "recv", -received));
      }
    }
    // The budget is spent, and an edge does not come again.
    if (this.#settings.triggerBits !== 0) this.#postRead();
  }

  /**
   * Whether a short read may leave bytes behind that no edge tells of: on Unix sockets a message that carries descriptors
   * ends a read. unix(7): ancillary data forms a barrier.
   */
  #hasBarriers(): boolean {
    if (this.#settings.triggerBits === 0) return false;
    if ((this.#flags & FAMILY_KNOWN) === 0) this.#flags |= FAMILY_KNOWN | (isUnix(this.#fd, this.#loop.sys) ? UNIX : 0);
    return (this.#flags & UNIX) !== 0;
  }

  #noteReceived(received: number): void {
    this.#bytesReceived += received;
    this.#extras?.intake?.take(received);
    const nowMs = this.#touch();
    this.#extras?.deadlines?.received(nowMs);
  }

  /** @returns Whether more may be read now. */
  #deliver(bytes: Uint8Array): boolean {
    try {
      this.#watch(this.#handlers.data?.(this, bytes));
    } catch (error) {
      this.close(error, "handler error");
    }
    if (this.#state === "closed") return false;
    if (this.#isReading()) return this.#extras?.unread === undefined;
    this.#settleFailure();
    return false;
  }

  #readEnd(): void {
    const sendError = this.#extras?.sendError;
    if (sendError !== undefined) return this.#release("reset", sendError);
    this.#flags |= READ_ENDED;
    this.#timeReading();
    try {
      this.#watch(this.#handlers.end?.(this));
    } catch (error) {
      return this.close(error, "handler error");
    }
    if (this.#state === "closed") return;
    if (this.#state === "ended") return this.#release(this.#extras?.finish?.reason ?? "end");
    // End of stream is readable for ever: who stays looks away. Most are closed at once; `#ignore` sees to the others.
    if (this.#settings.allowHalfOpen) this.#setInterest(this.#interest & ~Interest.readable);
    else this.end();
  }

  /** Where our stream has failed: nothing is left to be delivered, or nobody reads it. */
  #settleFailure(): void {
    const sendError = this.#extras?.sendError;
    if (sendError === undefined) return;
    const isHeld = this.#extras?.intake?.isWaiting === true && !this.isPaused;
    if (!isHeld) this.#release("reset", sendError);
  }

  /** The rate is used up: what is readable is out of sight until bytes may pass again. */
  #holdIntake(): void {
    this.#timeReading();
    if (this.#settings.triggerBits === 0) this.#setInterest(this.#interest & ~Interest.readable);
  }

  /** Stops waiting for what nobody wants to read now. */
  #ignore(readiness: number): void {
    if (this.#extras?.sendError !== undefined && this.isPaused) return this.#settleFailure();
    const isHungUp = (readiness & Readiness.hungUp) !== 0;
    if (isHungUp && this.#flags & READ_ENDED) {
      const error = this.#pendingError() ?? this.#lostError();
      return this.#release(error === undefined ? this.#extras?.finish?.reason ?? "end" : "reset", error);
    }
    if (this.#settings.triggerBits !== 0) return; // an edge is reported once
    this.#setInterest(this.#interest & ~Interest.readable);
    // A hang-up is reported for ever, asked for or not (epoll_ctl(2)): out of sight until somebody wants to read it.
    if (isHungUp) this.#unregister();
  }

  /** What the kernel holds against this socket, by SO_ERROR; reading clears it. */
  #pendingError(): SystemError | undefined {
    const errno = socketError(this.#fd, this.#loop.sys);
    return errno === 0 ? undefined : new SystemError("use a connection", "epoll_wait", errno);
  }

  /** A Unix socket holds nothing against a peer that has gone; what is queued for it is lost all the same. */
  #lostError(): SystemError | undefined {
    return this.queuedBytes === 0 ? undefined : new SystemError("send", "send", ERRNO.EPIPE[0]);
  }

  // Ending

  /** Reads and throws away what the peer sends: unread bytes would turn the close into a reset. */
  #discard(): void {
    for (let budget = READ_BUDGET_BYTES; budget > 0;) {
      const received = this.#loop.sys.recv(this.#fd, this.#loop.discardBuffer, MSG.trunc | MSG.dontwait);
      if (received > 0) {
        this.#bytesReceived += received;
        budget -= received;
      } else if (received === 0) {
        this.#flags |= READ_ENDED;
        if (this.#isEnded()) this.#release(this.#extras!.finish!.reason);
        else this.#setInterest(this.#interest & ~Interest.readable);
        return;
      } else if (received === -ERRNO.EAGAIN[0]) {
        return this.#setInterest(this.#interest | Interest.readable);
      } else if (received !== -ERRNO.EINTR[0]) {
        return this.#release("reset", new SystemError("receive", "recv", -received));
      }
    }
    this.#setInterest(this.#interest | Interest.readable);
    if (this.#settings.triggerBits !== 0) this.#postRead();
  }

  /** Closes if the peer has everything, or if the time for it is over; else looks again later. */
  #checkDelivered(sinceMs: number = this.#loop.now, waitMs: number = FINISH_CHECK_MS): void {
    const { timeoutMs, reason } = this.#extras!.finish!;
    const leftMs = sinceMs + timeoutMs - this.#loop.now;
    if (leftMs <= 0 || isDelivered(this.#fd, this.#loop.sys)) return this.#release(reason);
    this.#extras!.finishTimer = this.#loop.setTimer(Math.min(leftMs, waitMs), () => {
      this.#discard();
      if (this.#isEnded()) this.#checkDelivered(sinceMs, 2 * waitMs);
    });
  }

  /** A method, as `#isEnded`. */
  #isClosed(): boolean {
    return this.#state === "closed";
  }

  /** Our stream is over and the descriptor is not released. A method, as the state changes in what is called. */
  #isEnded(): boolean {
    return this.#state === "ended";
  }

  #hasInput(): boolean {
    return this.#loop.sys.recv(this.#fd, this.#loop.discardBuffer.subarray(0, 1), MSG.peek | MSG.dontwait) > 0;
  }

  /** Ends it for a limit of ours. */
  #cutOff(reason: CloseReason, message: string): void {
    this.#cutShort(reason, new ConnectionError(reason, message));
  }

  /** Offers nothing more. A stream that is cut short must not look like one that ended. */
  #cutShort(reason: CloseReason, error: unknown): void {
    if (this.queuedBytes > 0) resetOnClose(this.#fd, this.#loop.sys);
    this.#release(reason, error);
  }

  #release(reason: CloseReason, error?: unknown): void {
    this.#forget(reason, error);
    this.#loop.sys.close(this.#fd);
    this.#onClosed(this, this.#fd);
  }

  /** All of closing but the descriptor. */
  #forget(reason: CloseReason, error: unknown): void {
    this.#advance("closed");
    const extras = this.#needExtras();
    extras.reason = reason;
    extras.error = error;
    extras.unread = undefined;
    extras.intake?.close();
    extras.deadlines?.close();
    extras.finishTimer?.cancel();
    extras.retryTimer?.cancel();
    if (this.#flags & GATHERED) this.#needOutbox(); // to be dropped with what is queued
    this.#giveOutbox();
    this.#settings.idle?.remove(this);
    this.#unregister(); // before close(2): the number is reused at once
    this.#loop.leaks?.released(this);
    this.#loop.afterTurn(this);
  }

  // Both

  /** @returns Now. */
  #touch(): number {
    const nowMs = this.#nowMs;
    if (nowMs === this.busyAtMs) return nowMs;
    if (this.#settings.idle === undefined) this.busyAtMs = nowMs;
    else this.#settings.idle.touch(this, nowMs);
    return nowMs;
  }

  get #nowMs(): number {
    return Math.ceil(this.#loop.now);
  }

  #unregister(): void {
    if (this.slot === -1) return;
    this.#loop.poller.remove(this);
    this.slot = -1;
  }

  #setInterest(interest: number): void {
    if (interest === this.#interest && this.slot !== -1) return;
    this.#interest = interest;
    try {
      if (this.slot === -1) this.#register();
      else this.#loop.poller.modify(this, interest);
    } catch (error) {
      this.#cutShort("failure", error);
    }
  }

  #register(): void {
    const token = this.#loop.poller.add(this.#fd, this.#interest, this, this);
    if (typeof token !== "number") return;
    this.slot = -1;
    throw new SystemError("watch a connection", "epoll_ctl", -token);
  }

  #needExtras(): Extras<T> {
    return this.#extras ??= new Extras();
  }

  get #handlers(): ConnectionHandlers<T> {
    return this.#extras?.handlers ?? this.#settings.handlers;
  }

  /** Has a rejected promise of a handler end the connection. Handlers return what they like: `(c, b) => c.write(b)`. */
  #watch(result: unknown): void {
    if (isPromise(result)) this.#watchPromise(result);
  }

  #watchPromise(promise: PromiseLike<unknown>): void {
    this.#loop.promised();
    promise.then(undefined, (error: unknown) => this.close(error, "handler error"));
  }

  /** To `onError`. What that throws must not be taken for a failure of whoever called. */
  #report(error: unknown): void {
    try {
      this.#settings.onError(error);
    } catch (thrown) {
      this.#loop.report(thrown);
    }
  }

  #advance(next: ConnectionState): void {
    assert(NEXT[this.#state].includes(next), `a connection that is ${this.#state} may become ${next}`);
    this.#state = next;
  }
}

/** One for all: a function that stands in the constructor is made for each connection. */
function tellNobody(): void {}

/** What the peer meets by sending. */
const READ_DEADLINES: readonly DeadlineName[] = ["idleTimeoutMs", "readTimeoutMs", "handshakeTimeoutMs"];

/** What a deadline that has passed says of the peer. */
const EXPIRED: Readonly<Record<DeadlineName, (ms: number) => string>> = {
  idleTimeoutMs: (ms) => `on which nothing was received or sent for ${ms} ms (idleTimeoutMs)`,
  readTimeoutMs: (ms) => `whose peer took more than ${ms} ms over one message (readTimeoutMs)`,
  writeTimeoutMs: (ms) => `whose peer took nothing of what is queued for ${ms} ms (writeTimeoutMs)`,
  handshakeTimeoutMs: (ms) => `whose peer sent nothing in its first ${ms} ms (handshakeTimeoutMs)`,
  slowReaderMs: (ms) => `whose queue took more than ${ms} ms from highWaterBytes down to lowWaterBytes (slowReaderMs)`,
};
