import { type Host, host as selectHost, type Parker } from "../ffi/host.ts";
import { realSyscalls, type Syscalls } from "../ffi/syscalls.ts";
import { assert } from "./assert.ts";
import { Batch } from "./batch.ts";
import { ErrorLog } from "./error_log.ts";
import {
  BLOCKING_WAIT_MS,
  REARM_INTERVAL_MS,
  RECEIVE_BUFFER_BYTES,
  SLICE_MS,
  SPIN_MAX_MS,
  TIMER_MAX_MS,
  WAIT_MAX_MS,
  WAIT_MS,
} from "./limits.ts";
import { LeakWatch } from "./leak_watch.ts";
import { Lulls } from "./lulls.ts";
import { booleanOption, functionOption, integerOption, knownOptions, numberOption, requiredOption } from "./options.ts";
import { Poller } from "./poller.ts";
import { QueueBudget } from "./queue_budget.ts";
import { ReceiveBuffer } from "./receive_buffer.ts";
import { Sender } from "./sender.ts";
import { Timer, type TimerNode, Timers } from "./timers.ts";
import { Waker } from "./waker.ts";
import { PiecePool } from "./write_queue.ts";

// A turn of the loop, in this order:
//
//   1. wait          epoll_wait(2), until something is ready, a timer is due or a task is posted
//   2. connections   each ready one reads and writes within its budget
//   3. listeners     last of the batch: what closed in 2 has made room for what is accepted
//   4. timers        those due, in order
//   5. tasks         those posted before this turn began
//   6. flush         what was written in 2 to 5 leaves, in one call for each connection
//   7. ended         the `close` handlers of connections that ended in this turn
//
// User code is called in each of 2 to 7, never inside another user handler's stack, and may call anything here but
// `turn` and `run`. What it throws is contained: the rest of the batch is told all the same.
//
// The loop does not own its thread. `run` takes turns while there is work, hands the thread to the runtime every 2 ms and
// wherever a handler has returned a promise, and when idle parks: the host waits for the epoll descriptor and wakes the
// loop. `runBlocking` owns the thread.

/** Options for {@linkcode EventLoop}. */
export interface EventLoopOptions {
  /**
   * Bytes that the queues of all connections may hold together, of those that are held back: by a peer that is behind, a
   * rate or a cork. Beyond that the largest queues are cut off, each with its connection. @default {unlimited}
   */
  maxQueuedBytes?: number;
  /**
   * While developing: tells `onError` of each connection that was dropped or left behind without being closed, with the
   * place it came from. Costs a stack trace for each connection. @default {false}
   */
  reportLeaks?: boolean;
  /**
   * How long `run` may block the thread for the next event, in whole ms, where events have been coming that fast: to be
   * woken from parking costs more. The runtime's own timers, and promises that no handler has returned, may be late by
   * that much and 2 ms meanwhile. 0 parks always; 20 and more, up to 100, is for a process that does nothing else, whose
   * events come far apart. @default {1}
   */
  waitMs?: number;
  /**
   * How long `run` may look for events again and again before that, in ms with a fraction, where they have been coming
   * that fast: 0.2 to 1 shortens the answer to a single client, at the price of a busy core meanwhile. @default {0}
   */
  spinMs?: number;
  /**
   * Receives what timers, tasks and internal sources throw, and what `close` handlers throw, or any handler of a
   * connection without one. What it throws itself leaves `turn` once the turn is over, and ends `run`. Default: a line
   * on standard error for each of the first ten in a minute.
   */
  onError?: (error: unknown) => void;
}

/** Something with work to do once the handlers of a turn are done. */
export interface Ending {
  /** Called at the end of the turn, once for each `afterTurn`. */
  onTurnEnd(): void;
}

/** Something that gathers what is written to it, to send it at once. */
export interface Flushing {
  /** Called when the turn is over, or outside a turn when the JavaScript job is; once for each `flushLater`. */
  onFlush(): void;
}

type Mode = "idle" | "starting" | "running" | "parked" | "blocking";

const runTask = (task: () => void): void => task();
const flush = (flushing: Flushing): void => flushing.onFlush();
const endTurn = (ending: Ending): void => ending.onTurnEnd();

/** One epoll instance, its timers and tasks, and a way to drive them. At most one runs on a thread at a time. */
export class EventLoop {
  /** Registers sources. Owned by the loop. */
  readonly poller: Poller;
  /** The kernel, or what stands in for it. */
  readonly sys: Syscalls;
  /** What the connections of this loop send with. */
  readonly sender: Sender;
  /** What they receive into. */
  readonly received: ReceiveBuffer = new ReceiveBuffer();
  /** What the queues of its connections are made of. */
  readonly pieces: PiecePool = new PiecePool();
  /** What those queues hold together. */
  readonly queueBudget: QueueBudget;
  /** Watches for connections that nobody closes; absent unless asked for. */
  readonly leaks: LeakWatch | undefined;
  readonly #host: Host;
  readonly #timers: Timers = new Timers();
  readonly #waker: Waker;
  readonly #onError: (error: unknown) => void;
  readonly #errorLog: ErrorLog = new ErrorLog((line) => this.diagnose(`spillway: ${line}`));
  /** What `onError` threw in this turn. */
  readonly #thrown: unknown[] = [];
  #discardBuffer: Uint8Array | undefined;
  readonly #tasks: Batch<() => void> = new Batch();
  readonly #gathered: Batch<Flushing> = new Batch();
  #isFlushPosted = false;
  readonly #ended: Batch<Ending> = new Batch();
  #now = 0;
  #isTurning = false;
  #isStopping = false;
  /** A handler waits for a promise, which nothing settles before the JavaScript job is over. */
  #hasPromised = false;
  #isReferenced = true;
  /** Called when the loop is closed. */
  readonly #closers: Set<() => void> = new Set();
  #mode: Mode = "idle";
  #parker: Parker | undefined;
  #rearmTimer: Timer | undefined;
  readonly #awakeMs: number;
  readonly #spins: Lulls;
  readonly #waits: Lulls;
  /** Settles when the loop is closed; absent until `close`. */
  #closed: Promise<void> | undefined;
  /** Settles the promise of `run`. */
  #finish: { resolve: () => void; reject: (error: unknown) => void } | undefined;

  /**
   * Opens an epoll instance and a waker. `sys` and `host` stand in for the kernel and the runtime, in tests.
   *
   * @throws {UnavailableError} If this process cannot call libc.
   * @throws {SystemError} If there is no descriptor left.
   */
  constructor(options: EventLoopOptions = {}, sys: Syscalls = realSyscalls, host: Host = selectHost()) {
    knownOptions("make an event loop", options, ["onError", "maxQueuedBytes", "reportLeaks", "waitMs", "spinMs"]);
    this.queueBudget = new QueueBudget(integerOption("maxQueuedBytes", options.maxQueuedBytes, Infinity, 1));
    if (booleanOption("reportLeaks", options.reportLeaks, false)) {
      this.leaks = new LeakWatch(options.onError ?? ((leak) => host.diagnose(`spillway: ${leak.stack}`)));
    }
    this.#spins = new Lulls(numberOption("spinMs", options.spinMs, 0, 0, SPIN_MAX_MS));
    this.#awakeMs = integerOption("waitMs", options.waitMs, WAIT_MS, 0, WAIT_MAX_MS);
    this.#waits = new Lulls(this.#awakeMs);
    this.sys = sys;
    this.sender = new Sender(sys);
    this.#host = host;
    this.#onError = functionOption("onError", options.onError) ?? ((error) => this.#logError(error));
    this.#now = host.now();
    this.poller = new Poller(sys);
    try {
      this.#waker = new Waker(this.poller, () => {}, sys);
    } catch (error) {
      this.poller.close();
      throw error;
    }
  }

  /** Milliseconds of the monotonic clock: in a turn, when its events were taken from the kernel. */
  get now(): number {
    return this.#isTurning ? this.#now : this.#host.now();
  }

  /** Whether `run` or `runBlocking` is driving the loop. */
  get isRunning(): boolean {
    return this.#mode !== "idle";
  }

  /** Whether `close` was called. */
  get isClosed(): boolean {
    return this.#closed !== undefined;
  }

  /** Descriptors that driving the loop with `run` will open, and has not opened yet. */
  get descriptorsToCome(): number {
    return this.#parker === undefined ? this.#host.parkerDescriptors : 0;
  }

  /** Descriptors that the runtime is about to open for itself, whatever this loop does. */
  get settlingDescriptors(): number {
    return this.#host.settlingDescriptors();
  }

  /**
   * What is read to be thrown away goes here, and no handler sees it: one that is under way has the receive buffer on
   * loan, and some sockets fill a buffer though MSG_TRUNC says not to.
   */
  get discardBuffer(): Uint8Array {
    return this.#discardBuffer ??= new Uint8Array(new ArrayBuffer(RECEIVE_BUFFER_BYTES));
  }

  /**
   * One pass: waits up to `timeoutMs` (0: not at all, `Infinity`: until there is something to do), then tells everybody.
   * Blocks the thread meanwhile, and the runtime with it. Not re-entrant.
   *
   * @returns Whether anything happened.
   */
  turn(timeoutMs: number): boolean {
    if (this.#isTurning) throw new RangeError("Cannot take a turn: one is under way, and turns do not nest");
    if (this.#closed !== undefined) throw new RangeError("Cannot take a turn: the event loop is closed");
    if (!(timeoutMs >= 0)) throw new RangeError(`Cannot wait ${timeoutMs} ms: it must be 0 or more, or Infinity`);
    this.#isTurning = true;
    let hasHappened: boolean;
    try {
      hasHappened = this.#turn(timeoutMs);
    } finally {
      this.#isTurning = false;
    }
    if (this.#hasWork()) this.#unpark(); // it was taken by hand, beside `run`
    if (this.#thrown.length === 0) return hasHappened;
    const [first, ...others] = this.#thrown.splice(0);
    for (const error of others) this.#logError(error); // one exception leaves at a time
    throw first;
  }

  /**
   * Runs the loop beside the runtime, whose promises, timers, `fetch` and signals go on. Keeps the process alive unless
   * {@linkcode EventLoop.unref}ed. Settles after `stop`; rejects with what `onError` throws, and where the runtime cannot
   * wait for it.
   */
  async run(): Promise<void> {
    this.#begin("starting");
    const finished = new Promise<void>((resolve, reject) => this.#finish = { resolve, reject });
    try {
      if (this.#parker === undefined) {
        this.#parker = this.#host.createParker({
          epollFd: this.poller.fd,
          wake: () => this.#drive(),
          nudge: () => this.#waker.wake(),
        });
        if (!this.#isReferenced) this.#parker.unref();
      }
      await this.#parker.ready;
    } catch (error) {
      this.#mode = "idle";
      // It watches nothing, so nobody has to wait for its end; another run makes a new one.
      void this.#parker?.close();
      this.#parker = undefined;
      throw error;
    }
    this.#mode = "running";
    this.#drive();
    await finished;
  }

  /**
   * Runs the loop as the only thing on its thread: a Worker, or a process that does nothing else. The runtime's own
   * timers, promises and signals stand still until `stop`, which a handler, a timer or a {@linkcode Waker} may call.
   */
  runBlocking(): void {
    this.#begin("blocking");
    try {
      while (!this.#isStopping) this.turn(BLOCKING_WAIT_MS);
    } finally {
      this.#mode = "idle";
    }
  }

  /** Ends `run` or `runBlocking` after the turn under way. Sources stay registered; the loop may be run again. */
  stop(): void {
    if (this.#mode === "idle") return;
    this.#isStopping = true;
    this.#unpark();
  }

  /** Runs `task` in the next turn, after its events. From this thread only; other threads have {@linkcode Waker}. */
  post(task: () => void): void {
    this.#tasks.add(task);
    this.#unpark();
  }

  /**
   * Runs `callback` once, `ms` from now, unless it is cancelled. Timers run in order of their deadline, and those with
   * the same deadline in the order they were set; never early.
   *
   * @throws {RangeError} If `ms` is not 0 to 2^31 − 1.
   */
  setTimer(ms: number, callback: () => void): Timer {
    const timer = new Timer(this.#timers, callback);
    this.schedule(timer, ms);
    return timer;
  }

  /** Calls `node.onDue` once, `ms` from now, as {@linkcode EventLoop.setTimer} does a callback. Not while it is scheduled. */
  schedule(node: TimerNode, ms: number): void {
    this.#timers.add(node, this.#host.now(), ms);
    if (node.index === 0) this.#unpark(); // parked until a later deadline
  }

  /** Takes a `schedule` back. Safe twice, and after it has run. */
  unschedule(node: TimerNode): void {
    this.#timers.remove(node);
  }

  /** Makes a waker, whose `onWake` runs on this loop when any thread wakes it. The caller closes it. */
  createWaker(onWake: () => void): Waker {
    return new Waker(this.poller, functionOption("onWake", requiredOption("onWake", onWake)), this.sys);
  }

  /** UTF-8, as a new array. */
  encode(text: string): Uint8Array {
    return this.#host.encode(text);
  }

  /** Writes one line to the process's standard error. */
  diagnose(line: string): void {
    this.#host.diagnose(line);
  }

  /** The IP addresses of a name, looked up off this thread: what getaddrinfo(3) finds, in its order. */
  resolve(hostname: string): Promise<string[]> {
    return this.#host.resolve(hostname);
  }

  /** A handler has returned a promise: `run` lets the runtime go on after the turn under way. */
  promised(): void {
    this.#hasPromised = true;
  }

  /** Calls `ending.onTurnEnd` at the end of the turn under way, or of the next one. */
  afterTurn(ending: Ending): void {
    this.#ended.add(ending);
    if (!this.#isTurning) this.#unpark();
  }

  /** Calls `flushing.onFlush` when the turn under way is over; outside a turn, when the JavaScript job is. */
  flushLater(flushing: Flushing): void {
    this.#gathered.add(flushing);
    if (this.#isTurning || this.#isFlushPosted) return;
    this.#isFlushPosted = true;
    this.#host.microtask(this.#flushPosted);
  }

  /** Hands `error` to `onError`. What that throws leaves the turn under way, or else the next one, once it is over. */
  report(error: unknown): void {
    try {
      this.#onError(error);
    } catch (thrown) {
      this.#thrown.push(thrown);
      if (!this.#isTurning) this.#unpark();
    }
  }

  /**
   * Calls `task` once when the loop is closed, before it releases what it holds. For whoever waits for an event that
   * could not come any more.
   *
   * @returns Takes it back; safe twice.
   */
  beforeClose(task: () => void): () => void {
    this.#closers.add(task);
    return () => void this.#closers.delete(task);
  }

  /** A running loop keeps the process alive. The default. */
  ref(): void {
    this.#isReferenced = true;
    this.#parker?.ref();
  }

  /** A running loop with nothing to do lets the process end. */
  unref(): void {
    this.#isReferenced = false;
    this.#parker?.unref();
  }

  /**
   * Releases what the loop itself holds; sources and their descriptors are their owners'. Stop it first. Safe twice.
   * Settles once nothing waits for the epoll descriptor any more.
   */
  async close(): Promise<void> {
    if (this.#mode !== "idle") throw new RangeError("Cannot close an event loop that runs: stop it first");
    this.#closed ??= this.#close();
    await this.#closed;
  }

  /** As {@linkcode EventLoop.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    for (const task of [...this.#closers]) {
      try {
        task();
      } catch (error) {
        this.report(error);
      }
    }
    this.#rearmTimer?.cancel();
    try {
      this.leaks?.loopClosed(); // `onError` may throw
    } finally {
      // Wake, join, close: a helper that waits for a closed descriptor is not woken.
      await this.#parker?.close();
      this.#waker.close();
      this.poller.close();
    }
  }

  #begin(mode: "starting" | "blocking"): void {
    if (this.#closed !== undefined) throw new RangeError("Cannot run a closed event loop");
    if (this.#mode !== "idle") throw new RangeError("Cannot run an event loop twice at a time");
    if (this.#isTurning) throw new RangeError("Cannot run an event loop from inside its own turn");
    this.#mode = mode;
    this.#isStopping = false;
  }

  #turn(timeoutMs: number): boolean {
    const hasWork = this.#hasWork();
    const ready = this.poller.wait(hasWork || timeoutMs === 0 ? 0 : this.#waitMs(timeoutMs));
    const now = this.#now = this.#host.now();

    const hasTasks = this.#tasks.size > 0;
    if (hasTasks) this.#tasks.take();
    this.poller.dispatch(this.#contain);
    this.poller.dispatchListeners(this.#contain);

    const isDue = this.#timers.nextDeadline <= now;
    if (isDue) this.#timers.fire(now, this.#contain);
    if (hasTasks) this.#tasks.run(runTask, this.#contain);
    const hasGathered = this.#gathered.size > 0;
    if (hasGathered) this.#flush();
    const hasEnded = this.#ended.size > 0;
    if (hasEnded) this.#endTurn();
    if (this.#rearmTimer === undefined && this.poller.edges > 0) this.#setRearmTimer();
    return ready > 0 || isDue || hasWork || hasGathered || hasEnded;
  }

  readonly #contain = (error: unknown): void => this.report(error);

  /** What epoll_wait(2) is told: up to the next deadline, rounded up so that it is not early; -1 for ever. */
  #waitMs(timeoutMs: number): number {
    const { nextDeadline } = this.#timers;
    const waitMs = nextDeadline === Infinity
      ? timeoutMs
      : Math.min(timeoutMs, Math.max(0, nextDeadline - this.#host.now()));
    return waitMs === Infinity ? -1 : Math.min(Math.ceil(waitMs), TIMER_MAX_MS);
  }

  /** What a drain handler writes leaves with the next flush. */
  #flush(): void {
    this.#gathered.take();
    this.#gathered.run(flush, this.#contain);
  }

  /** Outside a turn, in a job of its own. As in a turn none begins meanwhile, and what `drain` writes waits for the next. */
  readonly #flushPosted = (): void => {
    this.#isFlushPosted = false;
    this.#now = this.#host.now();
    this.#isTurning = true;
    try {
      this.#flush();
    } finally {
      this.#isTurning = false;
    }
    if (this.#hasWork() || this.#thrown.length > 0) this.#unpark(); // a turn takes it from here
  };

  /** What a close handler closes is told in the next turn. */
  #endTurn(): void {
    this.#ended.take();
    this.#ended.run(endTurn, this.#contain);
  }

  #setRearmTimer(): void {
    this.#rearmTimer = this.setTimer(REARM_INTERVAL_MS, () => this.#rearm());
  }

  #rearm(): void {
    let areMore = true;
    try {
      areMore = this.poller.rearm();
    } catch (error) {
      this.report(error); // the sources behind that one are due all the same
    }
    if (areMore) this.post(() => this.#rearm());
    else this.#rearmTimer = undefined;
  }

  /** Takes a few turns, then hands the thread to the runtime, or parks if there is nothing to do. */
  readonly #drive = (): void => {
    this.#mode = "running";
    this.#hasPromised = false;
    const endMs = this.#host.now() + SLICE_MS;
    try {
      do {
        if (this.#isStopping) return this.#end();
        const mayWait = this.#waits.isLikelyShort && !this.#spins.isLikelyShort;
        if (this.turn(mayWait ? this.#awakeMs : 0)) {
          this.#endLull();
        } else if (!this.#isStopping && !this.#hasWork()) {
          if (!this.#stayAwake(mayWait)) return this.#park();
          break; // the runtime has its round before the next look
        }
      } while (this.#now < endMs && !this.#hasPromised);
    } catch (error) {
      return this.#end(error);
    }
    this.#host.macrotask(this.#drive);
  };

  /**
   * Nothing is to be done. To park, and be woken, costs more than a short lull.
   *
   * @param hasWaited For as long as it may.
   * @returns Whether to look again at once.
   */
  #stayAwake(hasWaited: boolean): boolean {
    const now = this.#now;
    this.#spins.begin(now);
    this.#waits.begin(hasWaited ? now - this.#awakeMs : now);
    if (this.#spins.isShort(now)) return true;
    if (hasWaited || !this.#waits.isShort(now) || !this.turn(this.#awakeMs)) return false;
    this.#endLull();
    return true;
  }

  #endLull(): void {
    this.#spins.end(this.#now);
    this.#waits.end(this.#now);
  }

  /** Work that the epoll descriptor does not tell of. A loop that has some must not park. */
  #hasWork(): boolean {
    return this.#tasks.size > 0 || this.#gathered.size > 0 || this.#ended.size > 0;
  }

  #park(): void {
    assert(this.#parker !== undefined, "a loop that runs has a parker");
    this.#mode = "parked";
    this.#parker.park(Math.max(0, this.#timers.nextDeadline - this.#host.now()));
  }

  /** Goes on at once, if parked. */
  #unpark(): void {
    if (this.#mode !== "parked") return;
    this.#mode = "running";
    this.#parker!.unpark();
    this.#host.macrotask(this.#drive);
  }

  #end(...errors: [] | [unknown]): void {
    this.#mode = "idle";
    const { resolve, reject } = this.#finish!;
    if (errors.length === 0) resolve();
    else reject(errors[0]);
  }

  #logError(error: unknown): void {
    this.#errorLog.log(error, this.#host.now());
  }
}

/** `loop` if it is an event loop or undefined. */
export function loopOption(loop: EventLoop | undefined): EventLoop | undefined {
  if (loop === undefined || loop instanceof EventLoop) return loop;
  throw new TypeError("Cannot use loop: it must be an EventLoop");
}
