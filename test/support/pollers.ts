/** Pollers that tests wait on by hand. */
import { afterEach } from "vitest";
import { EFD } from "../../ffi/constants.ts";
import { realSyscalls, type Syscalls } from "../../ffi/syscalls.ts";
import { Poller, type Source } from "../../src/poller.ts";
import type { Token } from "../../src/token.ts";
import { outcome, own } from "./descriptors.ts";

/** Long enough for whatever must come. */
export const WAIT_MS = 20_000;

const pollers: Poller[] = [];

/** Closes the pollers of {@linkcode newPoller} after each test. Called at the top of a test file. */
export function closePollers(): void {
  afterEach(() => {
    for (const poller of pollers.splice(0)) poller.close();
  });
}

/** A poller, closed when the test ends. */
export function newPoller(sys: Syscalls = realSyscalls): Poller {
  const poller = new Poller(sys);
  pollers.push(poller);
  return poller;
}

/** Throws what it is handed. */
export function fail(error: unknown): never {
  throw error;
}

/** As {@linkcode Poller.add}, for what must succeed. */
export function add(poller: Poller, fd: number, interest: number, source: Source): Token {
  const token = poller.add(fd, interest, source);
  if (typeof token === "number") throw new Error(`Cannot add a source: ${outcome(token)}`);
  return token;
}

/** A descriptor that is readable from now on. */
export function readable(): number {
  return own(realSyscalls.eventfd(1, EFD.nonblock | EFD.cloexec));
}

/** One wait and the dispatch of its whole batch. */
export function turn(poller: Poller, onError: (error: unknown) => void = fail, timeoutMs = 0): number {
  const count = poller.wait(timeoutMs);
  poller.dispatch(onError);
  poller.dispatchListeners(onError);
  return count;
}
