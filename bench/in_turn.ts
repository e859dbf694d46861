import process from "node:process";
import type { Entry, Figures } from "./results.ts";

/** Somebody who is measured again and again. */
export interface Subject<T extends Figures> extends AsyncDisposable {
  round(): Promise<T>;
  /** What it has said on standard error. */
  readonly complaint: string;
}

/** What is under way, on standard error: a line for each workload, and on a terminal each round in its place. */
class Progress {
  readonly #startedAt = performance.now();
  #name = "";

  begin(name: string): void {
    this.#name = name;
    const minutes = (performance.now() - this.#startedAt) / 60_000;
    if (!process.stderr.isTTY) process.stderr.write(`${minutes.toFixed(1)} min: ${name}\n`);
  }

  step(text: string): void {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${this.#name}: ${text}`);
  }

  end(): void {
    if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  }
}

const progress = new Progress();

/**
 * Measures each of `entries` in turn, round after round, so that a slow minute of the machine hits all of them. `start`
 * makes a subject of one; what it or a round throws is the end of that one, and nothing else.
 */
export async function inTurn<T extends Figures, E extends Entry<T>>(
  name: string,
  entries: readonly E[],
  rounds: number,
  start: (entry: E) => Promise<Subject<T>>,
): Promise<void> {
  const subjects = new Map<E, Subject<T>>();
  progress.begin(name);
  try {
    for (const entry of entries) {
      progress.step(`warming up ${entry.contestant}`);
      await attempt(entry, async () => void subjects.set(entry, await start(entry)));
    }
    for (let round = 1; round <= rounds; round++) {
      for (const entry of entries) {
        progress.step(`round ${round} of ${rounds}, ${entry.contestant}`);
        await attempt(entry, async () => void entry.rounds.push(await subjects.get(entry)!.round()));
      }
    }
  } finally {
    for (const [entry, subject] of subjects) {
      await subject[Symbol.asyncDispose]();
      if (subject.complaint !== "" && entry.failure === undefined) entry.complaint = subject.complaint;
    }
    progress.end();
  }
}

async function attempt(entry: Entry<Figures>, measure: () => Promise<void>): Promise<void> {
  if (entry.failure !== undefined) return;
  try {
    await measure();
  } catch (error) {
    entry.failure = (error as Error).message;
  }
}
