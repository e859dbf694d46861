/** What adding up fractions of a token may come to: one that was waited for must be there. */
const ROUNDING = 1e-6;

/** A rate with a burst of one second's worth: takes a token for each event, and refuses when there is none. */
export class TokenBucket {
  readonly #perSecond: number;
  readonly #burst: number;
  #tokens: number;
  #filledAtMs: number;

  /** Full at `nowMs`. `perSecond` may be `Infinity`, and is above 0; a burst is at least one event. */
  constructor(perSecond: number, nowMs: number) {
    this.#perSecond = perSecond;
    this.#burst = Math.max(1, perSecond);
    this.#tokens = this.#burst;
    this.#filledAtMs = nowMs;
  }

  /** Takes `count` tokens. Returns false, and takes none, where there are fewer. */
  take(nowMs: number, count: number = 1): boolean {
    if (this.available(nowMs) < count) return false;
    this.#tokens -= count;
    return true;
  }

  /** How many tokens there are. */
  available(nowMs: number): number {
    this.#fill(nowMs);
    return Math.floor(this.#tokens + ROUNDING);
  }

  /** Milliseconds until there is a token; 0 if there is one. */
  waitMs(nowMs: number): number {
    return this.available(nowMs) >= 1 ? 0 : 1000 * (1 - this.#tokens) / this.#perSecond;
  }

  /** Whether nothing was taken lately: a new bucket would say the same. */
  isFull(nowMs: number): boolean {
    this.#fill(nowMs);
    return this.#tokens >= this.#burst;
  }

  #fill(nowMs: number): void {
    if (this.#perSecond === Infinity) return void (this.#tokens = Infinity);
    const elapsedMs = Math.max(0, nowMs - this.#filledAtMs);
    this.#tokens = Math.min(this.#burst, this.#tokens + this.#perSecond * elapsedMs / 1000);
    this.#filledAtMs = nowMs;
  }
}
