import { textOf } from "./error_text.ts";

const LINES = 10;
const INTERVAL_MS = 60_000;

/**
 * Lines about errors that nobody else is told, ten in a minute: clients can make handlers fail as often as they like, and
 * a log must not fill a disk. The others are counted.
 */
export class ErrorLog {
  readonly #write: (line: string) => void;
  /** Those of this minute, logged or not. */
  #errors = 0;
  #untilMs = 0;

  /** `write` takes one line. */
  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  /** Writes `error` down, with its stack, or counts it. */
  log(error: unknown, nowMs: number): void {
    if (nowMs >= this.#untilMs) {
      if (this.#errors > LINES) this.#write(`${this.#errors - LINES} more handlers failed until then`);
      this.#untilMs = nowMs + INTERVAL_MS;
      this.#errors = 0;
    }
    if (++this.#errors > LINES) return;
    this.#write(`a handler failed: ${textOf(error)}`);
    if (this.#errors === LINES) this.#write("others that fail in this minute are only counted");
  }
}
