/** How much the latest outcome counts: after a few of one kind the loop has changed its mind. */
const WEIGHT = 1 / 8;

/**
 * Decides whether a loop with nothing to do looks again at once, or has itself woken: to be woken costs more than to look
 * for a while, if what it waits for comes soon. It goes by the waits there were, spun or not, so a loop whose events come
 * far apart does not spin at all, and one whose events come fast does not go to sleep between them.
 */
export class Spin {
  readonly #maxMs: number;
  /** The share of late waits that were over within `maxMs`, the latest counting most. */
  #soon = 0;
  #idleSinceMs = -1;

  /** Never spins for longer than `maxMs` at a time. */
  constructor(maxMs: number) {
    this.#maxMs = maxMs;
  }

  /** Nothing was to be done at `nowMs`. @returns Whether to look again at once. */
  idle(nowMs: number): boolean {
    if (this.#idleSinceMs === -1) this.#idleSinceMs = nowMs;
    return this.#soon >= 0.5 && nowMs - this.#idleSinceMs < this.#maxMs;
  }

  /** Something was to be done at `nowMs`. */
  busy(nowMs: number): void {
    if (this.#idleSinceMs === -1) return;
    const wasSoon = nowMs - this.#idleSinceMs <= this.#maxMs;
    this.#soon += ((wasSoon ? 1 : 0) - this.#soon) * WEIGHT;
    this.#idleSinceMs = -1;
  }
}
