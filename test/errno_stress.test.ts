/**
 * Hundreds of thousands of failing calls under the garbage collector, each with the errno it must have: not one may be
 * wrong. This asserts what the wrappers return; an errno that was misread once and confirmed by their second call is
 * right here. The environment variable STRESS_CALLS makes it longer, with TEST_FILE_ALARM for the seconds it may take.
 */
import { once } from "node:events";
import process from "node:process";
import { Worker } from "node:worker_threads";
import { beforeAll, describe, expect, test } from "vitest";
import { expectNoLeak } from "./support/descriptors.ts";
import { makeFailingCalls, type Tally } from "./fixtures/failing_calls.ts";

expectNoLeak();

const CALLS = Number(process.env.STRESS_CALLS ?? 600_000);
const THREADS = 3;
const TIMEOUT_MS = 60_000 + CALLS / 10;

/** A thread that is ready to make these calls once `gate` opens. It ends by itself. */
async function startThread(gate: Int32Array, ...args: Parameters<typeof makeFailingCalls>) {
  const worker = new Worker(new URL("./fixtures/stress_worker.ts", import.meta.url), { workerData: [gate, args] });
  const ended = new Promise((resolve) => worker.once("exit", resolve));
  await once(worker, "message");
  return async () => {
    const [tally] = await once(worker, "message");
    await ended;
    return tally as Tally;
  };
}

function openGate(gate: Int32Array): void {
  Atomics.store(gate, 0, 1);
  Atomics.notify(gate, 0);
}

function newGate(): Int32Array {
  return new Int32Array(new SharedArrayBuffer(4));
}

// Deno opens some descriptors of its own with the first thread.
beforeAll(async () => {
  const gate = newGate();
  const result = await startThread(gate, 1);
  openGate(gate);
  await result();
});

function report(what: string, tallies: readonly Tally[]): void {
  const calls = tallies.reduce((sum, tally) => sum + tally.calls, 0);
  console.log(`${calls} failing calls ${what}; wrong: ${JSON.stringify(tallies.map(({ wrong }) => wrong))}`);
}

describe("errno under stress", { timeout: TIMEOUT_MS }, () => {
  test("every failing call of one thread returns its own errno", () => {
    const tally = makeFailingCalls(CALLS);
    report("in one thread", [tally]);
    expect(tally).toEqual({ calls: CALLS, wrong: {} });
  });

  test("threads that fail differently at the same time do not see each other's errno", async () => {
    const each = Math.ceil(CALLS / (THREADS + 1));
    const gate = newGate();
    const results = await Promise.all(
      Array.from({ length: THREADS }, (_, i) => startThread(gate, each, i + 1, 1)),
    );
    openGate(gate);
    const tallies = [makeFailingCalls(each, 0, 1), ...await Promise.all(results.map((result) => result()))];
    report(`in ${THREADS + 1} threads`, tallies);
    expect(tallies).toEqual(Array(THREADS + 1).fill({ calls: each, wrong: {} }));
  });
});
