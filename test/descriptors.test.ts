/** src/descriptors.ts: how many descriptors there may be, and how many there are. */
import { describe, expect, test } from "vitest";
import { EFD, F, RLIMIT } from "../ffi/constants.ts";
import type { Rlimit } from "../ffi/layout.ts";
import { realSyscalls as sys } from "../ffi/syscalls.ts";
import { defaultHeadroom, defaultReserve, descriptorLimit, freeDescriptors } from "../src/descriptors.ts";
import { closeNow, expectNoLeak, openDescriptors, own, withLimit } from "./support/descriptors.ts";
import { failure, kernelWith } from "./support/kernel.ts";

expectNoLeak();

const ATTEMPTS = 100;

/** What `count` returns while the runtime opens and closes nothing: the same before and after. */
function undisturbed<T>(count: () => T): { result: T; open: number } {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const before = openDescriptors().length;
    const result = count();
    if (openDescriptors().length === before) return { result, open: before };
  }
  throw new Error("Cannot count descriptors: the runtime opens and closes some all the time");
}

describe("descriptorLimit()", () => {
  test("descriptorLimit() is the soft limit", () => {
    expect(descriptorLimit(sys)).toBe((sys.getrlimit(RLIMIT.nofile) as Rlimit).soft);
  });

  test("descriptorLimit() follows the limit when it changes", () => {
    const { soft } = sys.getrlimit(RLIMIT.nofile) as Rlimit;
    withLimit(soft - 1, () => expect(descriptorLimit(sys)).toBe(soft - 1));
  });

  test("descriptorLimit() is Infinity where there is none", () => {
    expect(descriptorLimit(kernelWith({ getrlimit: () => ({ soft: Infinity, hard: Infinity }) }))).toBe(Infinity);
  });

  test("descriptorLimit() throws SystemError where the kernel does not tell", () => {
    expect(() => descriptorLimit(kernelWith({ getrlimit: () => failure("EPERM") }))).toThrow(
      "Cannot read the descriptor limit: getrlimit(2) returned EPERM",
    );
  });
});

describe("freeDescriptors()", () => {
  test.each([256, 512, 1024])("freeDescriptors() counts exactly what /proc/self/fd shows, limit %i", (limit) => {
    const { result, open } = undisturbed(() => freeDescriptors(sys, limit));
    expect(limit - result).toBe(open);
  });

  test("freeDescriptors() counts a descriptor below the limit, wherever it is, and none above", () => {
    const fd = own(sys.eventfd(0, EFD.cloexec));
    const { result: before } = undisturbed(() => freeDescriptors(sys, 256));
    const high = own(sys.fcntl(fd, F.dupfdCloexec, 200));
    expect(high).toBeLessThan(256);
    const above = own(sys.fcntl(fd, F.dupfdCloexec, 256));
    expect(undisturbed(() => freeDescriptors(sys, 256)).result).toBe(before - 1);
    closeNow(high);
    closeNow(above);
    expect(undisturbed(() => freeDescriptors(sys, 256)).result).toBe(before);
  });

  test("freeDescriptors() takes for free what is above the 1024 that it looks at", () => {
    const { result, open } = undisturbed(() => freeDescriptors(sys, 1_000_000));
    expect(result).toBe(1_000_000 - open);
    expect(freeDescriptors(sys, Infinity)).toBe(Infinity);
  });

  test("freeDescriptors() of a limit of 0 is 0", () => {
    expect(freeDescriptors(sys, 0)).toBe(0);
  });

  test("freeDescriptors() throws SystemError where the kernel does not tell", () => {
    expect(() => freeDescriptors(kernelWith({ poll: () => failure("ENOMEM") }), 64)).toThrow(
      "Cannot count free descriptors: poll(2) returned ENOMEM",
    );
  });
});

describe("defaultHeadroom()", () => {
  test.each([
    [-5, 2],
    [0, 2],
    [1, 2],
    [8, 2],
    [9, 3],
    [12, 3],
    [13, 4],
    [40, 10],
    [124, 31],
    [125, 32],
    [1_000_000, 32],
    [Infinity, 32],
  ])("defaultHeadroom() of %d free descriptors is %i", (free, headroom) => {
    expect(defaultHeadroom(free)).toBe(headroom);
  });
});

describe("defaultReserve()", () => {
  test.each([
    [0, 1],
    [32, 1],
    [63, 1],
    [64, 2],
    [96, 3],
    [128, 4],
    [1_048_576, 4],
    [Infinity, 4],
  ])("defaultReserve() for a limit of %d is %i", (limit, reserve) => {
    expect(defaultReserve(limit)).toBe(reserve);
  });
});
