/** src/overload.ts: who is served, waits or is refused. */
import { describe, expect, test } from "vitest";
import {
  Overload,
  type OverloadOptions,
  type OverloadPolicy,
  resolveOverload,
  type Situation,
  type Verdict,
} from "../src/overload.ts";
import { expectNoLeak } from "./support/descriptors.ts";

expectNoLeak();

const SITUATIONS: readonly Situation[] = ["room", "last", "beyond", "table full"];
const SHEDDING: readonly Verdict[] = ["serve", "serve", "refuse", "shed"];
const WAITING: readonly Verdict[] = ["serve", "serve, then pause", "serve, then pause", "pause"];

function verdicts(overload: Overload, nowMs: number): Verdict[] {
  return SITUATIONS.map((situation) => overload.verdict(situation, nowMs));
}

describe("Overload.verdict()", () => {
  test.each<[OverloadPolicy, string, readonly Verdict[]]>([
    ["shed", "refuses", SHEDDING],
    ["wait", "refuses nobody", WAITING],
    [{ graceMs: 50 }, "refuses nobody at first", WAITING],
    [{ graceMs: 0 }, "refuses nobody before the first pause", WAITING],
  ])("Overload.verdict() of policy %j %s", (policy, _, expected) => {
    expect(verdicts(new Overload(policy), 0)).toEqual(expected);
  });

  test.each(["shed", "wait"] as const)("Overload.verdict() of policy %j is the same however long a pause", (policy) => {
    const overload = new Overload(policy);
    const before = verdicts(overload, 0);
    overload.paused(0);
    expect(verdicts(overload, 1e9)).toEqual(before);
    overload.served();
    expect(verdicts(overload, 1e9)).toEqual(before);
    expect(overload.graceLeftMs(1e9)).toBe(Infinity);
  });

  test("Overload.verdict() of { graceMs } refuses once a pause has lasted that long, until a client was served", () => {
    const overload = new Overload({ graceMs: 50 });
    overload.paused(100);
    expect(verdicts(overload, 149)).toEqual(WAITING);
    expect(verdicts(overload, 150)).toEqual(SHEDDING);
    expect(verdicts(overload, 1e9)).toEqual(SHEDDING);
    overload.served();
    expect(verdicts(overload, 1e9)).toEqual(WAITING);
    overload.paused(1e9);
    expect(verdicts(overload, 1e9 + 49)).toEqual(WAITING);
    expect(verdicts(overload, 1e9 + 50)).toEqual(SHEDDING);
  });

  test("Overload.verdict() of { graceMs } counts from the first of several pauses", () => {
    const overload = new Overload({ graceMs: 50 });
    overload.paused(100);
    overload.paused(130);
    expect(overload.isWaiting(149)).toBe(true);
    expect(overload.isWaiting(150)).toBe(false);
  });

  test("Overload.verdict() of { graceMs: 0 } refuses as soon as there was no room", () => {
    const overload = new Overload({ graceMs: 0 });
    overload.paused(100);
    expect(verdicts(overload, 100)).toEqual(SHEDDING);
  });
});

describe("Overload.graceLeftMs()", () => {
  test("Overload.graceLeftMs() is what is left of the wait, and Infinity without a wait that ends", () => {
    const overload = new Overload({ graceMs: 50 });
    expect(overload.graceLeftMs(0)).toBe(Infinity);
    overload.paused(100);
    expect(overload.graceLeftMs(100)).toBe(50);
    expect(overload.graceLeftMs(149.5)).toBe(0.5);
    expect(overload.graceLeftMs(150)).toBe(Infinity); // refused already: nobody waits
    overload.served();
    expect(overload.graceLeftMs(150)).toBe(Infinity);
  });
});

describe("resolveOverload()", () => {
  test("resolveOverload() has a default for all that does not depend on the process", () => {
    expect(resolveOverload()).toEqual({
      policy: "shed",
      refuse: "fin",
      headroom: undefined,
      reserve: undefined,
      slack: undefined,
      shedPerTurn: 32,
      shedPerSecond: 1000,
      reapIdle: undefined,
    });
    expect(resolveOverload({ reapIdle: { minIdleMs: 0 } }).reapIdle).toEqual({ minIdleMs: 0, perTurn: 8 });
  });

  test.each<OverloadOptions>([
    { policy: "wait" },
    { policy: { graceMs: 0 } },
    { policy: { graceMs: 2 ** 31 - 1 } },
    { refuse: "rst" },
    { refuse: "" },
    { refuse: "HTTP/1.1 503 Service Unavailable\r\n\r\n" },
    { refuse: new Uint8Array([1, 2]) },
    { headroom: 0, reserve: 0, slack: 0 },
    { reserve: 64, slack: 4096 },
    { shedPerTurn: 1, shedPerSecond: 1 },
    { shedPerTurn: 4096, shedPerSecond: 1_000_000 },
    { reapIdle: { minIdleMs: 0, perTurn: 1 } },
    { reapIdle: { minIdleMs: 60_000, perTurn: 4096 } },
  ])("resolveOverload() keeps %j", (options) => {
    expect(resolveOverload(options)).toMatchObject(options);
  });

  test.each<[string, unknown, string, string]>([
    ["policy", "drop", "TypeError", `Cannot use policy "drop": it must be "shed", "wait" or { graceMs }`],
    ["policy", 5, "TypeError", `Cannot use policy 5: it must be "shed", "wait" or { graceMs }`],
    ["policy", {}, "TypeError", "Cannot use policy.graceMs undefined: it must be a number"],
    ["policy", { graceMs: -1 }, "RangeError", "Cannot use policy.graceMs -1: it must be"],
    ["policy", { graceMs: 1, ms: 2 }, "TypeError", `Cannot set policy: there is no option "ms"`],
    ["refuse", 7, "TypeError", `Cannot use refuse 7: it must be "fin", "rst", a farewell text or a Uint8Array`],
    ["headroom", -1, "RangeError", "Cannot use headroom -1: it must be"],
    ["headroom", "8", "TypeError", 'Cannot use headroom "8": it must be a number'],
    ["reserve", 65, "RangeError", "Cannot use reserve 65: it must be an integer, 0 to 64"],
    ["reserve", 1.5, "RangeError", "Cannot use reserve 1.5: it must be"],
    ["slack", 4097, "RangeError", "Cannot use slack 4097: it must be an integer, 0 to 4096"],
    ["shedPerTurn", 0, "RangeError", "Cannot use shedPerTurn 0: it must be an integer, 1 to 4096"],
    ["shedPerTurn", NaN, "RangeError", "Cannot use shedPerTurn NaN: it must be an integer, 1 to 4096"],
    ["shedPerSecond", 0, "RangeError", "Cannot use shedPerSecond 0: it must be an integer, 1 to 1000000"],
    ["shedPerSecond", Infinity, "RangeError", "Cannot use shedPerSecond Infinity: it must be"],
    ["reapIdle", {}, "TypeError", "Cannot use reapIdle.minIdleMs undefined: it must be a number"],
    [
      "reapIdle",
      { minIdleMs: 1, perTurn: 0 },
      "RangeError",
      "Cannot use reapIdle.perTurn 0: it must be an integer, 1 to 4096",
    ],
    ["reapIdle", { minIdleMs: 1, max: 2 }, "TypeError", `Cannot set reapIdle: there is no option "max"`],
    ["shedPerMinute", 1, "TypeError", `Cannot set overload: there is no option "shedPerMinute"`],
  ])("resolveOverload() refuses %s %o with a %s", (name, value, type, message) => {
    let error: unknown;
    try {
      resolveOverload({ [name]: value } as OverloadOptions);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({ name: type });
    expect((error as Error).message).toContain(message);
  });
});
