import { THROTTLE_MS } from "./limits.ts";
import type { EventLoop } from "./loop.ts";
import type { Timer } from "./timers.ts";
import { TokenBucket } from "./token_bucket.ts";

/** Holds one direction of a connection to a rate, with a burst of one second's worth. */
export class Throttle {
  readonly #loop: EventLoop;
  readonly #bucket: TokenBucket;
  readonly #goOn: () => void;
  #timer: Timer | undefined;

  /** `goOn` is called, as a timer of the loop, once bytes may pass again after there were none. */
  constructor(loop: EventLoop, bytesPerSecond: number, goOn: () => void) {
    this.#loop = loop;
    this.#bucket = new TokenBucket(bytesPerSecond, loop.now);
    this.#goOn = goOn;
  }

  /** Whether nothing may pass before `goOn`. */
  get isWaiting(): boolean {
    return this.#timer !== undefined;
  }

  /** Bytes that may pass now. With 0, `goOn` follows. */
  allowance(): number {
    if (this.#timer !== undefined) return 0;
    const { now } = this.#loop;
    const bytes = this.#bucket.available(now);
    if (bytes > 0) return bytes;
    this.#timer = this.#loop.setTimer(Math.max(THROTTLE_MS, this.#bucket.waitMs(now)), () => {
      this.#timer = undefined;
      this.#goOn();
    });
    return 0;
  }

  /** `bytes`, at most the allowance, have passed. */
  take(bytes: number): void {
    this.#bucket.take(this.#loop.now, bytes);
  }

  /** `goOn` is not called any more. */
  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }
}
