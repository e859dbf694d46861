/** Threads that share a coordinator with a test. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";

/** What a thread can be told to do. `end` leaves everything as it is. */
export const COMMANDS = [
  ...["join", "leave", "pause", "resume", "lock", "unlock", "awaitPause", "awaitResume"] as const,
  ...["storm", "lockStorm", "end"] as const,
];

/** One of {@linkcode COMMANDS}. */
export type CoordinatorCommand = (typeof COMMANDS)[number];

// Words of the memory that commands go through: how many were given, which one and then its result, how many were done,
// and the end of a storm.
export const GIVEN = 0;
export const COMMAND = 1;
export const DONE = 2;
export const STOP = 3;
const WORDS = 4;

/** A word of a coordinator's handle that it does not use. */
const COUNT = 3;

const DEADLINE_MS = 40_000;

/** Counts in memory that all threads share, in two steps that only a lock makes one. */
export function countSlowly(handle: SharedArrayBuffer): void {
  const words = new Int32Array(handle);
  const count = Atomics.load(words, COUNT);
  for (let i = 0; i < 100; i++) Atomics.load(words, COUNT);
  Atomics.store(words, COUNT, count + 1);
}

/** A clock that goes forth and back by half a second, for a lock that is taken over after one. */
export function unsteadyClock(): () => number {
  let calls = 0;
  return () => 1_000_000_000_000 + 64 * (calls++ % 8);
}

/** What {@linkcode countSlowly} has come to. */
export function slowCount(handle: SharedArrayBuffer): number {
  return new Int32Array(handle)[COUNT]!;
}

/** A thread that runs test/fixtures/coordinator_worker.ts. */
export class CoordinatorThread {
  readonly #words: Int32Array;
  readonly #ended: Promise<unknown>;

  constructor(handle: SharedArrayBuffer) {
    this.#words = new Int32Array(new SharedArrayBuffer(4 * WORDS));
    const worker = new Worker(new URL("../fixtures/coordinator_worker.ts", import.meta.url), {
      workerData: [handle, this.#words],
    });
    this.#ended = once(worker, "exit");
  }

  /** Has it run `command`, and returns at once. */
  begin(command: CoordinatorCommand): void {
    Atomics.store(this.#words, COMMAND, COMMANDS.indexOf(command));
    Atomics.store(this.#words, STOP, 0);
    Atomics.add(this.#words, GIVEN, 1);
    Atomics.notify(this.#words, GIVEN);
  }

  /** Ends a storm. */
  calm(): void {
    Atomics.store(this.#words, STOP, 1);
  }

  /** Whether the last command is done. */
  get isDone(): boolean {
    return Atomics.load(this.#words, DONE) === Atomics.load(this.#words, GIVEN);
  }

  /** Waits until the last command is done, and returns its result, a number or 0. */
  finish(): number {
    const given = Atomics.load(this.#words, GIVEN);
    const deadline = performance.now() + DEADLINE_MS;
    while (!this.isDone) {
      if (performance.now() > deadline) throw new Error("Waited too long for a thread");
      Atomics.wait(this.#words, DONE, given - 1, 100);
    }
    return Atomics.load(this.#words, COMMAND);
  }

  /** Has it run `command`, and waits. */
  run(command: CoordinatorCommand): number {
    this.begin(command);
    return this.finish();
  }

  /** Ends the thread with everything left as it is, and waits for that. */
  async end(): Promise<void> {
    this.begin("end");
    await this.#ended;
  }
}

/** Starts a thread, and waits until it takes commands: `run` blocks this thread, which Workers need to start. */
export async function coordinatorThread(handle: SharedArrayBuffer): Promise<CoordinatorThread> {
  const thread = new CoordinatorThread(handle);
  thread.begin("unlock"); // does nothing without a lock
  const deadline = performance.now() + DEADLINE_MS;
  while (!thread.isDone) {
    if (performance.now() > deadline) throw new Error("Waited too long for a thread to start");
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return thread;
}
