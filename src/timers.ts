import { TIMER_MAX_MS } from "./limits.ts";

/** What is due at some time: a {@linkcode Timer}, or an object that is its own. */
export interface TimerNode {
  /** When it is due, on the clock of the loop. Written by the timers only. */
  deadline: number;
  /** Breaks ties: those with one deadline run in the order they were set. Written by the timers only. */
  sequence: number;
  /** Its place in the heap; -1 before it is added, and once it has run or was removed. Written by the timers only. */
  index: number;
  /** It is due, and not in the heap any more: it may be added again. */
  onDue(): void;
}

/** One timer that has not run yet. */
export class Timer implements TimerNode {
  /** When it is due, on the clock of the loop. */
  deadline: number = 0;
  /** For the timers. */
  sequence: number = 0;
  /** For the timers. */
  index: number = -1;
  /** Runs once, unless cancelled. */
  readonly onDue: () => void;
  readonly #timers: Timers;

  /** Not in yet. */
  constructor(timers: Timers, callback: () => void) {
    this.#timers = timers;
    this.onDue = callback;
  }

  /** Keeps the callback from running. Safe twice, and after it has run. O(log n). */
  cancel(): void {
    this.#timers.remove(this);
  }

  /** Whether it is still to run. */
  get isPending(): boolean {
    return this.index !== -1;
  }
}

function isBefore(a: TimerNode, b: TimerNode): boolean {
  return a.deadline < b.deadline || (a.deadline === b.deadline && a.sequence < b.sequence);
}

/** A binary heap of timers, the next one due on top. */
export class Timers {
  readonly #heap: TimerNode[] = [];
  #sequence = 0;

  /** When the next timer is due, `Infinity` without one. */
  get nextDeadline(): number {
    return this.#heap[0]?.deadline ?? Infinity;
  }

  /**
   * Tells `node`, which is not in, once, `ms` after `now`, which never goes back.
   *
   * @throws {RangeError} If `ms` is not 0 to 2^31 − 1.
   * @throws {TypeError} If `ms` is not a number.
   */
  add(node: TimerNode, now: number, ms: number): void {
    if (typeof ms !== "number") throw new TypeError(`Cannot set a timer for ${String(ms)}: it must be a number of ms`);
    if (!(ms >= 0 && ms <= TIMER_MAX_MS)) {
      throw new RangeError(`Cannot set a timer for ${ms} ms: it must be 0 to ${TIMER_MAX_MS}`);
    }
    node.deadline = now + ms;
    node.sequence = this.#sequence++;
    this.#heap.push(node);
    this.#siftUp(node, this.#heap.length - 1);
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
        next.onDue();
      } catch (error) {
        onError(error);
      }
    }
  }

  /** Takes `node` out, if it is in. */
  remove(node: TimerNode): void {
    const { index } = node;
    if (index === -1) return;
    const last = this.#heap.pop()!;
    node.index = -1;
    if (last === node) return;
    // The last one takes the hole, then moves to where it belongs: up or down, never both.
    if (index > 0 && isBefore(last, this.#heap[(index - 1) >> 1]!)) this.#siftUp(last, index);
    else this.#siftDown(last, index);
  }

  #siftUp(node: TimerNode, from: number): void {
    let index = from;
    while (index > 0) {
      const parentIndex = (index - 1) >> 1;
      const parent = this.#heap[parentIndex]!;
      if (!isBefore(node, parent)) break;
      this.#place(parent, index);
      index = parentIndex;
    }
    this.#place(node, index);
  }

  #siftDown(node: TimerNode, from: number): void {
    let index = from;
    for (;;) {
      let childIndex = 2 * index + 1;
      if (childIndex >= this.#heap.length) break;
      const right = this.#heap[childIndex + 1];
      if (right !== undefined && isBefore(right, this.#heap[childIndex]!)) childIndex++;
      const child = this.#heap[childIndex]!;
      if (!isBefore(child, node)) break;
      this.#place(child, index);
      index = childIndex;
    }
    this.#place(node, index);
  }

  #place(node: TimerNode, index: number): void {
    this.#heap[index] = node;
    node.index = index;
  }
}
