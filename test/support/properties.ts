/** Property tests with fast-check: how many runs, and what a failure says. */
import fc from "fast-check";
import process from "node:process";

const RUNS = 1_000;

/**
 * Checks `property` with random values. A failure prints the seed and the path of its counterexample; `TEST_SEED=<seed>`
 * repeats a run.
 */
export function check<T>(property: fc.IProperty<T>): void {
  fc.assert(property, parameters());
}

/** As {@linkcode check}, for a property that takes its time. */
export async function checkAsync<T>(property: fc.IAsyncProperty<T>, runs: number = RUNS): Promise<void> {
  await fc.assert(property, parameters(runs));
}

function parameters(numRuns: number = RUNS): { numRuns: number; seed?: number } {
  const seed = process.env.TEST_SEED === undefined ? {} : { seed: Number(process.env.TEST_SEED) };
  return { numRuns, ...seed };
}
