import { TIMER_MAX_MS } from "./limits.ts";

/** One timer that has not run yet. */
export class Timer {
  /** When it is due, on the clock of the loop. */
  readonly deadline: number;
  /** Breaks ties: timers with one deadline run in the order they were set. */
  readonly sequence: number;
  /** Runs once, unless cancelled. */
  readonly callback: () => void;
  /** Its place in the heap, -1 once it has run or was cancelled. */
  index: number = -1;
  readonly #timers: Timers;

  /** Made by {@linkcode Timers.set}. */
  constructor(timers: Timers, deadline: number, sequence: number, callback: () => void) {
    this.#timers = timers;
    this.deadline = deadline;
    this.sequence = sequence;
    this.callback = callback;
  }

  /** Keeps the callback from running. Safe twice, and after it has run. O(log n). */
  cancel(): void {
    if (this.index !== -1) this.#timers.remove(this);
  }

  /** Whether it is still to run. */
  get isPending(): boolean {
    return this.index !== -1;
  }
}

function isBefore(a: Timer, b: Timer): boolean {
  return a.deadline < b.deadline || (a.deadline === b.deadline && a.sequence < b.sequence);
}

/** A binary heap of timers, the next one due on top. */
export class Timers {
  readonly #heap: Timer[] = [];
  #sequence = 0;

  /** When the next timer is due, `Infinity` without one. */
  get nextDeadline(): number {
    return this.#heap[0]?.deadline ?? Infinity;
  }

  /**
   * Has `callback` run once, `ms` after `now`, which never goes back.
   *
   * @throws {RangeError} If `ms` is not 0 to 2^31 − 1.
   * @throws {TypeError} If `ms` is not a number.
   */
  set(now: number, ms: number, callback: () => void): Timer {
    if (typeof ms !== "number") throw new TypeError(`Cannot set a timer for ${String(ms)}: it must be a number of ms`);
    if (!(ms >= 0 && ms <= TIMER_MAX_MS)) {
      throw new RangeError(`Cannot set a timer for ${ms} ms: it must be 0 to ${TIMER_MAX_MS}`);
    }
    const timer = new Timer(this, now + ms, this.#sequence++, callback);
    this.#heap.push(timer);
    this.#siftUp(timer, this.#heap.length - 1);
    return timer;
  }

  /**
   * Runs what is due at `now`, in order. A callback may set and cancel timers, its own included: what it sets waits for
   * the next call, even if it is due at once. What a callback throws is handed to `onError`, and the next one runs.
   */
  fire(now: number, onError: (error: unknown) => void): void {
    const newest = this.#sequence;
    for (let next = this.#heap[0]; next !== undefined; next = this.#heap[0]) {
      if (next.deadline > now || next.sequence >= newest) return;
      this.remove(next);
      try {
        next.callback();
      } catch (error) {
        onError(error);
      }
    }
  }

  /** Takes a pending timer out. */
  remove(timer: Timer): void {
    const { index } = timer;
    const last = this.#heap.pop()!;
    timer.index = -1;
    if (last === timer) return;
    // The last one takes the hole, then moves to where it belongs: up or down, never both.
    if (index > 0 && isBefore(last, this.#heap[(index - 1) >> 1]!)) this.#siftUp(last, index);
    else this.#siftDown(last, index);
  }

  #siftUp(timer: Timer, from: number): void {
    let index = from;
    while (index > 0) {
      const parentIndex = (index - 1) >> 1;
      const parent = this.#heap[parentIndex]!;
      if (!isBefore(timer, parent)) break;
      this.#place(parent, index);
      index = parentIndex;
    }
    this.#place(timer, index);
  }

  #siftDown(timer: Timer, from: number): void {
    let index = from;
    for (;;) {
      let childIndex = 2 * index + 1;
      if (childIndex >= this.#heap.length) break;
      const right = this.#heap[childIndex + 1];
      if (right !== undefined && isBefore(right, this.#heap[childIndex]!)) childIndex++;
      const child = this.#heap[childIndex]!;
      if (!isBefore(child, timer)) break;
      this.#place(child, index);
      index = childIndex;
    }
    this.#place(timer, index);
  }

  #place(timer: Timer, index: number): void {
    this.#heap[index] = timer;
    timer.index = index;
  }
}
