/** Property tests with fast-check: how many runs, and what a failure says. */
import fc from "fast-check";
import process from "node:process";

const RUNS = 1_000;
const GIVEN = process.env.TEST_SEED === undefined ? {} : { seed: Number(process.env.TEST_SEED) };
const { seed: FIRST_SEED } = { seed: Date.now() & 0x7fffffff, ...GIVEN };

/**
 * Checks `property` with random values. A failure prints the seed and the path of its counterexample; `TEST_SEED=<seed>`
 * repeats a run.
 */
export function check<T>(property: fc.IProperty<T>): void {
  fc.assert(property, { numRuns: RUNS, ...GIVEN });
}

/** As {@linkcode check}, for a property that takes its time. */
export async function checkAsync<T>(property: fc.IAsyncProperty<T>, numRuns: number = RUNS): Promise<void> {
  await fc.assert(property, { numRuns, ...GIVEN });
}

/** As {@linkcode check}, for many runs: after each `slice` of them, the process sees to whatever else it has to do. */
export async function checkMany<T>(property: fc.IRawProperty<T>, runs: number, slice: number): Promise<void> {
  for (let begun = 0, seed = FIRST_SEED; begun < runs; begun += slice, seed++) {
    await fc.assert(property, { seed, numRuns: Math.min(slice, runs - begun) });
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

/** Whether random values make `property` fail within `runs`. */
export async function fails<T>(property: fc.IRawProperty<T>, runs: number): Promise<boolean> {
  const { failed } = await fc.check(property, { seed: FIRST_SEED, numRuns: runs, endOnFailure: true });
  return failed;
}
