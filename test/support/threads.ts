/** Threads that wake a loop of the test's. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { beforeAll } from "vitest";
import type { Waker } from "../../src/waker.ts";

/** A thread that waits to wake a loop, once. */
export interface WakingThread {
  /** Lets it wake the loop. */
  wake(): void;
  /** Settles when it has ended, by itself. */
  readonly ended: Promise<unknown>;
}

/** What a runtime opens for its first thread and keeps, it opens before the tests. Called at the top of a test file. */
export function expectThreads(): void {
  beforeAll(async () => {
    await once(new Worker(new URL("data:text/javascript,")), "exit");
  });
}

/** Starts a thread that is to wake `waker`, and waits until it is ready to. */
export async function wakingThread(waker: Waker): Promise<WakingThread> {
  const gate = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(new URL("../fixtures/waking_worker.ts", import.meta.url), {
    workerData: [waker.remote(), gate],
  });
  const ended = once(worker, "exit");
  await once(worker, "message");
  return {
    wake() {
      Atomics.store(gate, 0, 1);
      Atomics.notify(gate, 0);
    },
    ended,
  };
}
