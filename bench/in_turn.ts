import process from "node:process";
import { allOrNothing } from "./child.ts";
import type { Entry, Figures } from "./results.ts";

/** Somebody who is measured again and again. */
export interface Subject<T extends Figures> extends AsyncDisposable {
  round(): Promise<T>;
  /** What it has said on standard error. */
  readonly complaint: string;
}

/** Somebody who is started anew for each round. What `round` tells is kept; the last counts. */
export function anew<T extends Figures>(round: (tell: (complaint: string) => void) => Promise<T>): Subject<T> {
  let told = "";
  return {
    round: () => round((complaint) => told = complaint),
    get complaint() {
      return told;
    },
    async [Symbol.asyncDispose]() {},
  };
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
 * Measures contestants in turn, round after round, so that a slow minute of the machine hits all of them. `start` makes a
 * subject of one; what it or a round throws is the end of that one, with the processes that it or the round has started,
 * and nothing else.
 */
export async function inTurn<C extends { readonly name: string; readonly own?: string }, T extends Figures>(
  name: string,
  contestants: readonly C[],
  rounds: number,
  start: (contestant: C, entry: Entry<T>) => Subject<T> | Promise<Subject<T>>,
): Promise<Entry<T>[]> {
  const entries = contestants.map(({ name: contestant, own }): Entry<T> => ({ contestant, own, rounds: [] }));
  const subjects: (Subject<T> | undefined)[] = [];
  progress.begin(name);
  try {
    for (const [i, entry] of entries.entries()) {
      progress.step(`warming up ${entry.contestant}`);
      await attempt(entry, async () => void (subjects[i] = await start(contestants[i]!, entry)));
    }
    for (let round = 1; round <= rounds; round++) {
      for (const [i, entry] of entries.entries()) {
        progress.step(`round ${round} of ${rounds}, ${entry.contestant}`);
        await attempt(entry, async () => void entry.rounds.push(await subjects[i]!.round()));
      }
    }
  } finally {
    for (const [i, entry] of entries.entries()) {
      await subjects[i]?.[Symbol.asyncDispose]();
      const complaint = subjects[i]?.complaint ?? "";
      if (complaint !== "" && entry.failure === undefined) entry.complaint = complaint;
    }
    progress.end();
  }
  return entries;
}

async function attempt(entry: Entry<Figures>, measure: () => Promise<void>): Promise<void> {
  if (entry.failure !== undefined) return;
  try {
    await allOrNothing(measure);
  } catch (error) {
    entry.failure = (error as Error).message;
  }
}
