/** src/lulls.ts: whether it pays to stay awake. */
import { describe, expect, test } from "vitest";
import { Lulls } from "../src/lulls.ts";

/** Lets `count` lulls of `ms` go by. Returns for how long it seemed worth while to stay awake. */
function play(lulls: Lulls, clock: { ms: number }, count: number, ms: number): number {
  let awakeMs = 0;
  for (let i = 0; i < count; i++) {
    const endMs = clock.ms + ms;
    lulls.begin(clock.ms);
    for (; clock.ms < endMs && lulls.isShort(clock.ms); clock.ms += 0.01) awakeMs += 0.01;
    clock.ms = Math.max(clock.ms, endMs);
    lulls.end(clock.ms);
    clock.ms += 0.1; // busy
  }
  return awakeMs;
}

describe("Lulls", () => {
  test("none is taken for short until some have been", () => {
    const clock = { ms: 0 };
    const lulls = new Lulls(0.2);
    expect(play(lulls, clock, 1, 0.05)).toBe(0);
    expect(play(lulls, clock, 20, 0.05)).toBeGreaterThan(0);
  });

  test("none is taken for short where events come further apart", () => {
    expect(play(new Lulls(0.2), { ms: 0 }, 1_000, 1)).toBe(0);
  });

  test("long ones are learned within a few, none of which is waited for in full", () => {
    const clock = { ms: 0 };
    const lulls = new Lulls(0.2);
    play(lulls, clock, 100, 0.05);
    const awakeMs = play(lulls, clock, 100, 10);
    expect(awakeMs).toBeGreaterThan(0);
    expect(awakeMs).toBeLessThan(10 * 0.21);
    expect(play(lulls, clock, 100, 10)).toBe(0);
  });

  test("with 0 none is ever short", () => {
    expect(play(new Lulls(0), { ms: 0 }, 1_000, 0)).toBe(0);
  });
});
