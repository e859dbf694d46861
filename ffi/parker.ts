/**
 * What the parkers of the runtimes have in common, and the one that needs nothing of a runtime but threads.
 */
import type { Parker, ParkerOptions } from "./host_types.ts";

// Every runtime has them, and no two runtimes' types agree on them.
declare const performance: { now(): number };
declare const URL: new (url: string) => object;

/** `events` of a `struct pollfd`. Source: poll(2). */
const POLLIN = 1;

/** Longest delay that setTimeout takes: 2^31-1 ms, 24.8 days. */
const MAX_TIMEOUT_MS = 0x7fffffff;

/** Before a poll that failed is repeated: whatever made it fail, it does not become a loop without a pause. */
export const POLL_RETRY_MS = 10;

/** What setTimeout returns in Node, and in the others through `node:timers`. */
export interface Timer {
  /** Keeps the process alive until the timer fires. */
  ref(): unknown;
  /** Undoes `ref`. */
  unref(): unknown;
}

/** The part of `node:timers` that is used here; every runtime has it. */
export interface Timers {
  setTimeout(task: () => void, delayMs: number): Timer;
  clearTimeout(timer: Timer | undefined): void;
  setInterval(task: () => void, delayMs: number): Timer;
  clearInterval(timer: Timer): void;
  setImmediate(task: () => void): unknown;
}

/**
 * A `struct pollfd` that asks whether `fd` is readable. Its memory is neither moved nor freed while the array is
 * referenced; one made from a length would move in Bun.
 */
export function pollfd(fd: number): Int32Array<ArrayBuffer> {
  const words = new Int32Array(new ArrayBuffer(8));
  words[0] = fd;
  // Two shorts, `events` and `revents`; the kernel writes the second only. Both supported CPUs are little-endian.
  words[1] = POLLIN;
  return words;
}

/**
 * A parker but for the waiting itself: whether it is parked, until when, and whether that keeps the process alive. The
 * timer of a deadline never does that; what waits for the descriptor does.
 */
export abstract class BaseParker implements Parker {
  abstract readonly ready: Promise<void>;
  protected readonly options: ParkerOptions;
  protected readonly timers: Timers;
  #parked = false;
  #referenced = true;
  #dueMs = Infinity;
  /** Stays armed after a park is over: the next one is seldom due before it, and a timer costs more than all the rest. */
  #timer: Timer | undefined;
  /** When the timer is to fire; it may do so up to a millisecond before. */
  #timerMs = Infinity;
  #closed: Promise<void> | undefined;

  constructor(options: ParkerOptions, timers: Timers) {
    this.options = options;
    this.timers = timers;
  }

  park(timeoutMs: number): void {
    if (this.#closed !== undefined) throw new Error("Cannot park: the parker is closed");
    this.#parked = true;
    this.#dueMs = Infinity;
    if (timeoutMs !== Infinity) {
      const nowMs = performance.now();
      this.#dueMs = nowMs + timeoutMs;
      // Within the millisecond it is as good as a new one, which is rounded up.
      if (this.#timerMs > this.#dueMs + 1) this.#arm(nowMs);
    }
    this.watch();
    this.hold(this.#referenced);
  }

  unpark(): void {
    if (!this.#parked) return;
    this.#parked = false;
    this.hold(false);
  }

  ref(): void {
    this.#referenced = true;
    if (this.#parked) this.hold(true);
  }

  unref(): void {
    this.#referenced = false;
    if (this.#parked) this.hold(false);
  }

  close(): Promise<void> {
    if (this.#closed === undefined) {
      this.unpark();
      this.timers.clearTimeout(this.#timer);
      this.#closed = this.end();
    }
    return this.#closed;
  }

  /** Whether a park is pending. */
  protected get parked(): boolean {
    return this.#parked;
  }

  /** Whether a park is pending that keeps the process alive. */
  protected get holds(): boolean {
    return this.#parked && this.#referenced;
  }

  /** Ends a pending park. Only called as a task of its own. */
  protected fire(): void {
    if (!this.#parked) return;
    this.unpark();
    this.options.wake();
  }

  /** Sees to it that `fire` is called once the descriptor is readable; often it is being watched already. */
  protected abstract watch(): void;
  /** Whether what watches the descriptor keeps the process alive from now on. Not called after `end`. */
  protected abstract hold(keepAlive: boolean): void;
  /** Stops watching, once, and settles when nothing waits any more. */
  protected abstract end(): Promise<void>;

  #arm(nowMs: number): void {
    this.timers.clearTimeout(this.#timer);
    // Rounded up: a timer that fires early would have the loop park again and again for the rest of the millisecond.
    const delayMs = Math.min(Math.ceil(this.#dueMs - nowMs), MAX_TIMEOUT_MS);
    this.#timer = this.timers.setTimeout(this.#expired, delayMs);
    this.#timer.unref();
    this.#timerMs = nowMs + delayMs;
  }

  readonly #expired = (): void => {
    this.#timer = undefined;
    this.#timerMs = Infinity;
    if (!this.#parked || this.#dueMs === Infinity) return;
    const nowMs = performance.now();
    // Clamped, armed for an earlier park, or early: the timers of Node count from a clock that is rounded down.
    if (this.#dueMs > nowMs) this.#arm(nowMs);
    else this.fire();
  };
}

/** Words of the memory that a {@linkcode ThreadParker} shares with its thread. */
const SHARED = { started: 0, closing: 1, request: 2, answer: 3, words: 4 } as const;

/** What the thread gets. */
interface ThreadData {
  readonly words: Int32Array<SharedArrayBuffer>;
  readonly fd: number;
  readonly sliceMs: number;
}

/** The part of a `Worker` of `node:worker_threads` that is used here. */
interface Thread {
  once(event: "error", listener: (error: unknown) => void): unknown;
  once(event: "exit", listener: () => void): unknown;
  off(event: "error", listener: (error: unknown) => void): unknown;
  ref(): unknown;
  unref(): unknown;
}

/** What a runtime gives to a {@linkcode ThreadParker}. */
export interface Threads {
  /** `Worker` of `node:worker_threads`. */
  readonly Worker: new (source: object, options: { workerData: ThreadData; execArgv: string[] }) => Thread;
  /** JavaScript for poll(2) as a function of a pollfd, their number and a timeout in ms. */
  readonly poll: string;
  /**
   * How long the thread stays in the kernel at most. Nothing ends a thread that is in there, so this also bounds how
   * long it outlives a loop that did not close its parker.
   */
  readonly sliceMs: number;
}

/**
 * Waits in a thread of its own: poll(2) there, Atomics.waitAsync here. One request is under way at a time and serves
 * every park until it is answered.
 */
export class ThreadParker extends BaseParker {
  readonly ready: Promise<void>;
  readonly #words = new Int32Array(new SharedArrayBuffer(4 * SHARED.words));
  readonly #thread: Thread;
  readonly #exited: Promise<void>;
  #requests = 0;
  #waiting = false;
  #isReady = false;
  #isClosing = false;

  constructor(options: ParkerOptions, timers: Timers, { Worker, poll, sliceMs }: Threads) {
    super(options, timers);
    const workerData: ThreadData = { words: this.#words, fd: options.epollFd, sliceMs };
    // Without the flags of this process: what it preloads has no business in the thread.
    const thread = new Worker(new URL(`data:text/javascript,${encodeURIComponent(threadSource(poll))}`), {
      workerData,
      execArgv: [],
    });
    this.#thread = thread;
    this.#exited = new Promise((resolve) => thread.once("exit", resolve));
    this.ready = new Promise((resolve, reject) => {
      // Later errors have no listener, which makes them uncaught: without its thread the loop would sleep for ever.
      thread.once("error", reject);
      const started = () => {
        thread.off("error", reject);
        this.#isReady = true;
        this.hold(this.holds);
        resolve();
      };
      this.#onChange(SHARED.started, 0, started);
    });
  }

  protected override watch(): void {
    if (this.#waiting) return;
    this.#waiting = true;
    const before = this.#requests;
    this.#requests = (before + 1) | 0;
    this.#request();
    this.#onChange(SHARED.answer, before, this.#answered);
  }

  protected override hold(keepAlive: boolean): void {
    // Whoever waits for `ready` or `close` may have nothing else that keeps the process alive.
    if (keepAlive || !this.#isReady || this.#isClosing) this.#thread.ref();
    else this.#thread.unref();
  }

  protected override async end(): Promise<void> {
    Atomics.store(this.#words, SHARED.closing, 1);
    this.#requests = (this.#requests + 1) | 0;
    this.#request();
    this.options.nudge();
    this.#isClosing = true;
    this.hold(true);
    await this.#exited;
  }

  #request(): void {
    Atomics.store(this.#words, SHARED.request, this.#requests);
    Atomics.notify(this.#words, SHARED.request);
  }

  /** Runs `task` as a task of its own once the word is not `value`. */
  #onChange(word: number, value: number, task: () => void): void {
    const change = Atomics.waitAsync(this.#words, word, value);
    if (!change.async) {
      this.timers.setImmediate(task);
      return;
    }
    change.value.then(() => {
      // The other side stores first and notifies then. In between, this side may have seen what was stored and wait
      // for the next change already: then it is notified too early.
      if (Atomics.load(this.#words, word) === value) this.#onChange(word, value, task);
      else task();
    });
  }

  readonly #answered = (): void => {
    this.#waiting = false;
    this.fire();
  };
}

/**
 * The thread of a {@linkcode ThreadParker}. It opens nothing after it has started, and ends itself: a thread that is
 * terminated inside a foreign call hangs its process or crashes it, depending on the runtime.
 */
function threadSource(poll: string): string {
  const { started, closing, request, answer } = SHARED;
  return `
import { workerData } from "node:worker_threads";
const { words, fd, sliceMs } = workerData;
const poll = ${poll};
const pollfd = new Int32Array(new ArrayBuffer(8));
pollfd[0] = fd;
pollfd[1] = ${POLLIN};
const isClosing = () => Atomics.load(words, ${closing}) !== 0;
Atomics.store(words, ${started}, 1);
Atomics.notify(words, ${started});
let current = 0;
while (true) {
  // Not once: what is notified for the request before may come late.
  while (Atomics.load(words, ${request}) === current) Atomics.wait(words, ${request}, current);
  if (isClosing()) break;
  current = Atomics.load(words, ${request});
  let ready = 0;
  while (ready === 0 && !isClosing()) ready = poll(pollfd, 1, sliceMs);
  if (ready < 0) Atomics.wait(words, ${closing}, 0, ${POLL_RETRY_MS});
  Atomics.store(words, ${answer}, current);
  Atomics.notify(words, ${answer});
}
`;
}
