/** A queue that {@linkcode QueueBudget} counts. */
export interface Queued {
  /** Bytes it holds now. */
  readonly queuedBytes: number;
  /** Gives its bytes up, and counts 0 from then on. There is too little room for all. */
  cutOff(): void;
}

/** What the queues of a loop's connections hold together, and a cap on it. Only those count whose peers are behind. */
export class QueueBudget {
  /** `Infinity` for no cap. */
  readonly maxBytes: number;
  readonly #members: Set<Queued> = new Set();
  #bytes = 0;

  /** Nobody counts yet. */
  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** Bytes of all that count. */
  get queuedBytes(): number {
    return this.#bytes;
  }

  /** `queue` counted `before` bytes, and counts `now`. Cuts off the largest queues, maybe this one, if the cap is exceeded. */
  count(queue: Queued, before: number, now: number): void {
    this.#bytes += now - before;
    if (now === 0) this.#members.delete(queue);
    else if (before === 0) this.#members.add(queue);
    if (now > before && this.#bytes > this.maxBytes) this.#relieve();
  }

  #relieve(): void {
    while (this.#bytes > this.maxBytes) {
      let largest: Queued | undefined;
      // Among all that count: it takes long only while somebody is cut off.
      for (const queue of this.#members) {
        if (largest === undefined || queue.queuedBytes > largest.queuedBytes) largest = queue;
      }
      if (largest === undefined) return;
      largest.cutOff();
    }
  }
}
