/**
 * Things to be dealt with once, later. What is added while that is done waits for the next time. Two arrays change
 * places, so that no time allocates one.
 */
export class Batch<T> {
  #waiting: T[] = [];
  #taken: T[] = [];

  /** How many wait. */
  get size(): number {
    return this.#waiting.length;
  }

  /** Has `item` wait. */
  add(item: T): void {
    this.#waiting.push(item);
  }

  /** Sets those that wait now apart, for {@linkcode Batch.run}. */
  take(): void {
    const waiting = this.#waiting;
    this.#waiting = this.#taken;
    this.#taken = waiting;
  }

  /** Hands those that were taken to `deal`, in order. What it throws is handed to `onError`, and the next one follows. */
  run(deal: (item: T) => void, onError: (error: unknown) => void): void {
    for (const item of this.#taken) {
      try {
        deal(item);
      } catch (error) {
        onError(error);
      }
    }
    this.#taken.length = 0;
  }
}
