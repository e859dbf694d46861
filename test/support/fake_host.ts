import type { Host, Parker, ParkerOptions } from "../../ffi/host.ts";
import type { FakeKernel } from "./fake_kernel.ts";
import { resolveIn } from "./hosts.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/**
 * A runtime whose time is that of a {@linkcode FakeKernel}, and whose tasks run when the test says so: {@linkcode step},
 * {@linkcode settle} and {@linkcode runMicrotasks}.
 */
export class FakeHost implements Host {
  /** What was written to standard error. */
  readonly lines: string[] = [];
  parkerDescriptors = 0;
  /** What {@linkcode settlingDescriptors} returns. */
  settling = 0;
  /** What names resolve to. */
  readonly names = new Map<string, readonly string[]>();
  readonly #kernel: FakeKernel;
  readonly #microtasks: (() => void)[] = [];
  readonly #macrotasks: (() => void)[] = [];
  readonly #parkers: FakeParker[] = [];

  constructor(kernel: FakeKernel) {
    this.#kernel = kernel;
  }

  settlingDescriptors(): number {
    return this.settling;
  }

  now(): number {
    return this.#kernel.now;
  }

  macrotask(task: () => void): void {
    this.#macrotasks.push(task);
  }

  microtask(task: () => void): void {
    this.#microtasks.push(task);
  }

  encode(text: string): Uint8Array<ArrayBuffer> {
    return encoder.encode(text);
  }

  decode(bytes: Uint8Array): string {
    return decoder.decode(bytes);
  }

  diagnose(line: string): void {
    this.lines.push(line);
  }

  resolve(hostname: string): Promise<string[]> {
    return resolveIn(this.names, hostname);
  }

  createParker(options: ParkerOptions): Parker {
    const parker = new FakeParker(this.#kernel, options);
    this.#parkers.push(parker);
    return parker;
  }

  /** Runs all microtasks, those they queue included. Returns whether there were any. */
  runMicrotasks(): boolean {
    const hadAny = this.#microtasks.length > 0;
    for (let task = this.#microtasks.shift(); task !== undefined; task = this.#microtasks.shift()) task();
    return hadAny;
  }

  /**
   * One round of the runtime: the next macrotask, or, where there is none, the wake of a loop that is parked, once its
   * epoll descriptor is readable or its time has come. Microtasks before and after. Returns whether anything was done.
   */
  step(): boolean {
    const hadAny = this.runMicrotasks();
    const task = this.#macrotasks.shift();
    if (task !== undefined) task();
    else if (!this.#parkers.some((parker) => parker.fire())) return hadAny;
    this.runMicrotasks();
    return true;
  }

  /** Runs microtasks and macrotasks until there are none; a parked loop stays parked. */
  settle(): void {
    this.runMicrotasks();
    for (let task = this.#macrotasks.shift(); task !== undefined; task = this.#macrotasks.shift()) {
      task();
      this.runMicrotasks();
    }
  }
}

/** Waits in fake time, when the host has nothing else to do. */
class FakeParker implements Parker {
  readonly ready: Promise<void> = Promise.resolve();
  readonly #kernel: FakeKernel;
  readonly #options: ParkerOptions;
  #deadline: number | undefined;
  #isClosed = false;

  constructor(kernel: FakeKernel, options: ParkerOptions) {
    this.#kernel = kernel;
    this.#options = options;
  }

  park(timeoutMs: number): void {
    if (this.#isClosed) throw new Error("Cannot park: the parker is closed");
    this.#deadline = this.#kernel.now + timeoutMs;
  }

  unpark(): void {
    this.#deadline = undefined;
  }

  ref(): void {}

  unref(): void {}

  close(): Promise<void> {
    this.#isClosed = true;
    this.unpark();
    return Promise.resolve();
  }

  /** Waits, then wakes its loop. Returns false if it is not parked. */
  fire(): boolean {
    if (this.#deadline === undefined) return false;
    const timeoutMs = this.#deadline === Infinity ? -1 : Math.max(0, this.#deadline - this.#kernel.now);
    this.#kernel.waitReadable(this.#options.epollFd, timeoutMs);
    this.unpark();
    this.#options.wake();
    return true;
  }
}
