/** src/token_bucket.ts: a rate with a burst. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TokenBucket } from "../src/token_bucket.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { check } from "./support/properties.ts";

expectNoLeak();

/** How many tokens there are to take at `nowMs`, up to 10,000. */
function takeAll(bucket: TokenBucket, nowMs: number): number {
  let taken = 0;
  while (taken < 10_000 && bucket.take(nowMs)) taken++;
  return taken;
}

describe("TokenBucket.take()", () => {
  test("TokenBucket.take() gives one second's worth at once, then none", () => {
    const bucket = new TokenBucket(5, 1_000);
    expect(takeAll(bucket, 1_000)).toBe(5);
    expect(bucket.take(1_000)).toBe(false);
  });

  test("TokenBucket.take() gives them back at the rate", () => {
    const bucket = new TokenBucket(4, 0);
    expect(takeAll(bucket, 0)).toBe(4);
    expect(takeAll(bucket, 249)).toBe(0);
    expect(takeAll(bucket, 250)).toBe(1);
    expect(takeAll(bucket, 1_000)).toBe(3);
  });

  test("TokenBucket.take() gives no more than the burst, however long it was quiet", () => {
    const bucket = new TokenBucket(3, 0);
    expect(takeAll(bucket, 1e12)).toBe(3);
  });

  test("TokenBucket.take() that fails costs nothing", () => {
    const bucket = new TokenBucket(2, 0);
    takeAll(bucket, 0);
    for (let i = 0; i < 100; i++) expect(bucket.take(0)).toBe(false);
    expect(bucket.take(500)).toBe(true);
  });

  test("TokenBucket.take() of a rate below one a second gives one at once, and the next when it is due", () => {
    const bucket = new TokenBucket(0.5, 0);
    expect(takeAll(bucket, 0)).toBe(1);
    expect(takeAll(bucket, 1_999)).toBe(0);
    expect(takeAll(bucket, 2_000)).toBe(1);
  });

  test("TokenBucket.take() of an unlimited rate never fails", () => {
    const bucket = new TokenBucket(Infinity, 0);
    expect(takeAll(bucket, 0)).toBe(10_000);
    expect(bucket.waitMs(0)).toBe(0);
    expect(bucket.isFull(0)).toBe(true);
  });

  test("TokenBucket.take() gives nothing for a clock that goes back", () => {
    const bucket = new TokenBucket(2, 1_000);
    expect(takeAll(bucket, 1_000)).toBe(2);
    expect(bucket.take(0)).toBe(false);
  });
});

describe("TokenBucket.waitMs()", () => {
  test("TokenBucket.waitMs() leads to a token, in whatever pieces the time passes", () =>
    check(
      fc.property(
        fc.integer({ min: 1, max: 1_000 }),
        fc.double({ min: 0, max: 1e7, noNaN: true }),
        fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 8 }),
        (perSecond, startMs, looks) => {
          const bucket = new TokenBucket(perSecond, startMs);
          takeAll(bucket, startMs);
          for (let nowMs = startMs, i = 0; i < 20; i++) {
            const dueMs = nowMs + bucket.waitMs(nowMs);
            for (const part of looks.toSorted((a, b) => a - b)) bucket.available(nowMs + part * (dueMs - nowMs));
            expect(bucket.take(dueMs)).toBe(true);
            nowMs = dueMs;
          }
        },
      ),
    ));

  test("TokenBucket.waitMs() is 0 where there is a token, else the time until there is one", () => {
    const bucket = new TokenBucket(10, 0);
    expect(bucket.waitMs(0)).toBe(0);
    takeAll(bucket, 0);
    expect(bucket.waitMs(0)).toBeCloseTo(100);
    expect(bucket.waitMs(75)).toBeCloseTo(25);
    expect(bucket.waitMs(100)).toBe(0);
  });
});

describe("TokenBucket.isFull()", () => {
  test("TokenBucket.isFull() once what was taken is back", () => {
    const bucket = new TokenBucket(2, 0);
    expect(bucket.isFull(0)).toBe(true);
    bucket.take(0);
    expect(bucket.isFull(499)).toBe(false);
    expect(bucket.isFull(500)).toBe(true);
  });
});

describe("TokenBucket, any rate and any moments,", () => {
  const rates = fc.oneof(fc.integer({ min: 1, max: 100_000 }), fc.double({ min: 0.01, max: 50, noNaN: true }));
  const gaps = fc.array(fc.double({ min: 0, max: 3_000, noNaN: true }), { maxLength: 50 });

  test("never gives more than the burst and the rate allow", () => {
    check(fc.property(rates, gaps, (perSecond, pauses) => {
      const bucket = new TokenBucket(perSecond, 0);
      let [now, taken] = [0, 0];
      for (const pauseMs of pauses) {
        now += pauseMs;
        if (bucket.take(now)) taken++;
      }
      expect(taken).toBeLessThanOrEqual(Math.max(1, perSecond) + perSecond * now / 1000 + 1e-6);
    }));
  });

  test("has a token a moment after it was waited for", () => {
    check(fc.property(rates, gaps, (perSecond, pauses) => {
      const bucket = new TokenBucket(perSecond, 0);
      let now = 0;
      for (const pauseMs of pauses) {
        now += pauseMs;
        while (bucket.take(now));
        now += bucket.waitMs(now) + 1e-6;
        expect(bucket.take(now)).toBe(true);
      }
    }));
  });
});
