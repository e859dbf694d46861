import { formatOverload, type OverloadEvent } from "./episode.ts";

const LINES = 3;
const INTERVAL_MS = 60_000;

/**
 * A line for each event of overload, but never more than three a minute, however short the episodes: a log must not fill
 * a disk. What is withheld is counted in the next line.
 */
export class OverloadLog {
  readonly #where: () => string;
  readonly #write: (line: string) => void;
  /** When the last lines were written. */
  readonly #writtenAtMs: number[] = [];
  #withheld = 0;

  /** `where` names the server; `write` takes one line. */
  constructor(where: () => string, write: (line: string) => void) {
    this.#where = where;
    this.#write = write;
  }

  /** Writes a line, or withholds it. */
  log(event: OverloadEvent, nowMs: number): void {
    if (this.#writtenAtMs.length === LINES) {
      if (nowMs - this.#writtenAtMs[0]! < INTERVAL_MS) return void this.#withheld++;
      this.#writtenAtMs.shift();
    }
    this.#writtenAtMs.push(nowMs);
    const withheld = this.#withheld === 0 ? "" : ` (${this.#withheld} lines withheld)`;
    this.#withheld = 0;
    this.#write(`${formatOverload(event, this.#where())}${withheld}`);
  }
}
