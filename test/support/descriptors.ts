/** Descriptors in tests: who owns one, and that none is left behind. */
import { execFileSync } from "node:child_process";
import { readdirSync, readlinkSync } from "node:fs";
import process from "node:process";
import { afterEach, beforeAll, beforeEach, expect } from "vitest";
import { O, RLIMIT } from "../../ffi/constants.ts";
import { errnoName, expectValue } from "../../ffi/errno.ts";
import { PollSet, type Rlimit } from "../../ffi/layout.ts";
import { close, getrlimit, open, poll, setrlimit } from "../../ffi/syscalls.ts";

const SETTLE_MS = 20_000;

/**
 * Number and target of every descriptor of this process. Without files of /proc, which a look like this has open itself,
 * and threads of JavaScriptCore for a moment each: nobody else opens any.
 */
function* openFiles(): Generator<[number: number, target: string]> {
  for (const name of readdirSync("/proc/self/fd")) {
    let target;
    try {
      target = readlinkSync(`/proc/self/fd/${name}`);
    } catch {
      continue; // the listing's own, or closed meanwhile
    }
    if (!target.startsWith("/proc/")) yield [Number(name), target];
  }
}

/** What every descriptor of this process means, one entry each, such as `"socket:[4711]"`. */
export function openDescriptors(): string[] {
  return [...openFiles()].map(([, target]) => target).sort();
}

/** The numbers of this process's descriptors. */
export function openNumbers(): number[] {
  return [...openFiles()].map(([fd]) => fd);
}

/** The entries of `after` that `before` does not have, counting equal ones. */
function added(before: readonly string[], after: readonly string[]): string[] {
  const left = [...before];
  return after.filter((target) => {
    const at = left.indexOf(target);
    if (at !== -1) left.splice(at, 1);
    return at === -1;
  });
}

const owned = new Set<number>();

/** `fd`, closed when the test ends; throws where the call that should have made it returned `-errno`. */
export function own(fd: number): number {
  owned.add(expectValue(fd, "make a descriptor for a test", "the call"));
  return fd;
}

/** Closes a descriptor of {@linkcode own} before the test ends. */
export function closeNow(fd: number): void {
  expect(owned.delete(fd), `descriptor ${fd} is closed by its owner, once`).toBe(true);
  expect(outcome(close(fd))).toBe(0);
}

/** `fd`, no longer closed when the test ends: whoever it is handed to owns it. */
export function disown(fd: number): number {
  expect(owned.delete(fd), `descriptor ${fd} is the test's own`).toBe(true);
  return fd;
}

/** Runs `test` while this process may open `free` more descriptors. Nothing of the runtime runs meanwhile. */
export function withFree(free: number, test: () => void): void {
  const open = new Set(settledNumbers());
  let soft = 0;
  for (let left = free; left > 0 || open.has(soft); soft++) if (!open.has(soft)) left--;
  withLimit(soft, test);
}

/** Runs `test` with another soft limit of descriptors; with 0, none is free. Nothing of the runtime runs meanwhile. */
export function withLimit(soft: number, test: () => void): void {
  const limit = getrlimit(RLIMIT.nofile) as Rlimit;
  expect(setrlimit(RLIMIT.nofile, { ...limit, soft })).toBe(0);
  try {
    test();
  } finally {
    expect(setrlimit(RLIMIT.nofile, limit)).toBe(0);
  }
}

/** The numbers in use, once two looks agree: a thread of the runtime may have a file open for a moment. */
function settledNumbers(): number[] {
  let before = openNumbers();
  for (;;) {
    poll(new PollSet(1), 0, 2); // 2 ms
    const now = openNumbers();
    if (now.join() === before.join()) return now;
    before = now;
  }
}

/** Has every free number be above every one in use, until the test ends. */
export function fillHoles(): void {
  const highest = Math.max(...openNumbers());
  while (own(open("/dev/null", O.rdonly | O.cloexec)) < highest);
}

/** `result`, with `-errno` as its name: `"-EAGAIN"`. */
export function outcome(result: number): number | string {
  return result < 0 ? `-${errnoName(-result)}` : result;
}

/**
 * Every test of this file ends with the descriptors it began with, once those of {@linkcode own} are closed. Called at
 * the top of a test file. What the runtime opens for a moment is waited for.
 */
export function expectNoLeak(): void {
  let before: string[] = [];
  beforeAll(() => {
    // Deno makes the socket pair behind its signals on its own time, unless something asks for it. Bun makes an event
    // loop of its own at the first call that waits for a child.
    const listener = () => {};
    process.on("SIGUSR2", listener).off("SIGUSR2", listener);
    execFileSync("true");
  });
  beforeEach(() => {
    before = openDescriptors();
  });
  afterEach(async () => {
    for (const fd of owned) close(fd);
    owned.clear();
    const deadline = performance.now() + SETTLE_MS;
    // Looked at once in each round: what the runtime opens after the last one is no more a leak than before.
    let left = added(before, openDescriptors());
    while (left.length > 0 && performance.now() < deadline) {
      await new Promise<void>((resolve) => setTimeout(resolve, 1));
      left = added(before, openDescriptors());
    }
    expect(left, "descriptors left open by this test").toEqual([]);
  });
}
