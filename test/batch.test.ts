/** src/batch.ts: things to be dealt with once, later. */
import { describe, expect, test } from "vitest";
import { Batch } from "../src/batch.ts";
import { collectGarbage } from "./support/garbage.ts";

const rethrow = (error: unknown): never => {
  throw error;
};

/** Deals with those that wait. */
function deal<T>(batch: Batch<T>): T[] {
  const dealt: T[] = [];
  batch.take();
  batch.run((item) => dealt.push(item), rethrow);
  return dealt;
}

describe("Batch", () => {
  test("deals with each once, in order, whatever it dealt with before", () => {
    const batch = new Batch<number>();
    for (const count of [3, 1_000, 0, 2]) {
      const items = Array.from({ length: count }, (_, i) => i);
      for (const item of items) batch.add(item);
      expect(batch.size).toBe(count);
      expect(deal(batch)).toEqual(items);
      expect(batch.size).toBe(0);
      batch.run(rethrow, rethrow); // they were taken once
    }
  });

  test("what is added meanwhile waits for the next time", () => {
    const batch = new Batch<number>();
    batch.add(1);
    batch.take();
    batch.add(10);
    batch.run((item) => batch.add(item + 1), rethrow);
    expect(batch.size).toBe(2);
    expect(deal(batch)).toEqual([10, 2]);
  });

  test("what one throws is handed on, and the next one follows", () => {
    const batch = new Batch<number>();
    const [dealt, errors]: [number[], unknown[]] = [[], []];
    for (const item of [1, 2, 3]) batch.add(item);
    batch.take();
    batch.run((item) => {
      dealt.push(item);
      if (item === 2) throw "two";
    }, (error) => errors.push(error));
    expect(dealt).toEqual([1, 2, 3]);
    expect(errors).toEqual(["two"]);
  });

  test("what was dealt with is not kept alive", async () => {
    const batch = new Batch<object>();
    const collected: number[] = [];
    const registry = new FinalizationRegistry<number>((item) => collected.push(item));
    const addSome = () => {
      for (let i = 0; i < 100; i++) {
        const item = {};
        registry.register(item, i);
        batch.add(item);
      }
    };
    addSome();
    deal(batch);
    // All but what a register or a stack may still hold.
    await collectGarbage(() => collected.length >= 90);
    expect(batch.size).toBe(0);
  });
});
