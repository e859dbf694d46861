/**
 * Things to be dealt with once, later. What is added while that is done waits for the next time. Two arrays change
 * places, and neither shrinks: V8 gives the memory of an array back when its length becomes 0.
 */
export class Batch<T> {
  #waiting: (T | undefined)[] = [];
  #taken: (T | undefined)[] = [];
  #size = 0;
  #takenSize = 0;

  /** How many wait. */
  get size(): number {
    return this.#size;
  }

  /** Has `item` wait. */
  add(item: T): void {
    this.#waiting[this.#size++] = item;
  }

  /** Sets those that wait now apart, for {@linkcode Batch.run}. */
  take(): void {
    const waiting = this.#waiting;
    this.#waiting = this.#taken;
    this.#taken = waiting;
    this.#takenSize = this.#size;
    this.#size = 0;
  }

  /** Hands those that were taken to `deal`, in order. What it throws is handed to `onError`, and the next one follows. */
  run(deal: (item: T) => void, onError: (error: unknown) => void): void {
    const [taken, size] = [this.#taken, this.#takenSize];
    this.#takenSize = 0;
    for (let i = 0; i < size; i++) {
      const item = taken[i]!;
      taken[i] = undefined; // or it would be kept alive
      try {
        deal(item);
      } catch (error) {
        onError(error);
      }
    }
  }
}
