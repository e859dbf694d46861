/** How much the latest outcome counts: after a few of one kind the loop has changed its mind. */
const WEIGHT = 1 / 8;

/**
 * The lulls of a loop, from when it found nothing to do until something was to be done; and whether the next one is likely
 * to be short. For to be woken costs more than to stay awake for a little while. Every lull counts, however it was spent:
 * a loop whose events come far apart does not stay awake for them, and one whose events come fast does.
 */
export class Lulls {
  readonly #shortMs: number;
  /** The share of late lulls that were short, the latest counting most. */
  #short = 0;
  #sinceMs = -1;

  /** A lull of up to `shortMs` is a short one. */
  constructor(shortMs: number) {
    this.#shortMs = shortMs;
  }

  /** Nothing is to be done at `nowMs`. */
  begin(nowMs: number): void {
    if (this.#sinceMs === -1) this.#sinceMs = nowMs;
  }

  /** Something is to be done at `nowMs`. */
  end(nowMs: number): void {
    if (this.#sinceMs === -1) return;
    const wasShort = nowMs - this.#sinceMs <= this.#shortMs;
    this.#short += ((wasShort ? 1 : 0) - this.#short) * WEIGHT;
    this.#sinceMs = -1;
  }

  /** Whether the next lull is likely to be short. */
  get isLikelyShort(): boolean {
    return this.#shortMs > 0 && this.#short >= 0.5;
  }

  /** Whether the lull that has begun is likely to be short, and may be still at `nowMs`. */
  isShort(nowMs: number): boolean {
    return this.isLikelyShort && nowMs - this.#sinceMs < this.#shortMs;
  }
}
