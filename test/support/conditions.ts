import { setTimeout as sleep } from "node:timers/promises";

const DEADLINE_MS = 40_000;

/** Waits for `condition`; throws if it is not met in time. */
export async function until(condition: () => boolean, what: string, deadlineMs: number = DEADLINE_MS): Promise<void> {
  const deadline = performance.now() + deadlineMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`Cannot see ${what}: it did not happen within ${deadlineMs} ms`);
    await sleep(2);
  }
}
