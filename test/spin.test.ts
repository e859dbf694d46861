/** src/spin.ts: whether to look again, or to have oneself woken. */
import { describe, expect, test } from "vitest";
import { Spin } from "../src/spin.ts";

/** Lets `count` waits of `ms` go by, each looked at every hundredth of a ms while the spin says so. Returns the looks. */
function waits(spin: Spin, clock: { ms: number }, count: number, ms: number): number {
  let looks = 0;
  for (let i = 0; i < count; i++) {
    const until = clock.ms + ms;
    while (spin.idle(clock.ms) && clock.ms < until) {
      clock.ms += 0.01;
      looks++;
    }
    clock.ms = Math.max(clock.ms, until);
    spin.busy(clock.ms);
  }
  return looks;
}

describe("Spin", () => {
  test("does not spin until events have come fast for a while", () => {
    const clock = { ms: 0 };
    const spin = new Spin(0.2);
    expect(waits(spin, clock, 1, 0.05)).toBe(0);
    expect(waits(spin, clock, 20, 0.05)).toBeGreaterThan(0);
  });

  test("does not spin where events come further apart than it may wait", () => {
    const clock = { ms: 0 };
    const spin = new Spin(0.2);
    expect(waits(spin, clock, 1_000, 1)).toBe(0);
  });

  test("stops spinning within a few waits once events come slowly, and never spins for longer than it may", () => {
    const clock = { ms: 0 };
    const spin = new Spin(0.2);
    waits(spin, clock, 100, 0.05);
    const looks = waits(spin, clock, 100, 10);
    expect(looks).toBeGreaterThan(0);
    expect(looks).toBeLessThan(10 * 21);
    expect(waits(spin, clock, 100, 10)).toBe(0);
  });
});
