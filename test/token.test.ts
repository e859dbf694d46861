/** src/token.ts: registrations by slot and generation. */
import { describe, expect, test } from "vitest";
import { AssertionError } from "../src/assert.ts";
import { SlotTable } from "../src/token.ts";

describe("SlotTable", () => {
  test("SlotTable.get() returns what was added under the token", () => {
    const table = new SlotTable<string>();
    const [a, b] = [table.add("a"), table.add("b")];
    expect(table.get(a.slot, a.generation)).toBe("a");
    expect(table.get(b.slot, b.generation)).toBe("b");
  });

  test("SlotTable.get() returns undefined for a token that was removed", () => {
    const table = new SlotTable<string>();
    const token = table.add("a");
    table.remove(token);
    expect(table.get(token.slot, token.generation)).toBeUndefined();
  });

  test("SlotTable.get() returns undefined for a token whose slot was reused", () => {
    const table = new SlotTable<string>();
    const old = table.add("old");
    table.remove(old);
    const next = table.add("next");
    expect(next.slot).toBe(old.slot);
    expect(next.generation).not.toBe(old.generation);
    expect(table.get(old.slot, old.generation)).toBeUndefined();
    expect(table.get(next.slot, next.generation)).toBe("next");
  });

  test("SlotTable.get() returns undefined for slots that never were", () => {
    const table = new SlotTable<string>();
    table.add("a");
    expect(table.get(1, 0)).toBeUndefined();
    expect(table.get(1_000_000, 0)).toBeUndefined();
    expect(table.get(0xffff_ffff, 0xffff_ffff)).toBeUndefined();
  });

  test("SlotTable.remove() throws for a token that was removed, also when its slot is in use again", () => {
    const table = new SlotTable<string>();
    const token = table.add("a");
    table.remove(token);
    expect(() => table.remove(token)).toThrow(AssertionError);
    const next = table.add("next");
    expect(() => table.remove(token)).toThrow("Invariant violated: a token is removed once");
    expect(table.get(next.slot, next.generation)).toBe("next");
    expect(table.size).toBe(1);
  });

  test("SlotTable.at() returns what is in a slot, whichever its generation", () => {
    const table = new SlotTable<string>();
    table.remove(table.add("old"));
    const { slot } = table.add("next");
    expect(table.at(slot)).toBe("next");
    table.remove({ slot, generation: 1 });
    expect(table.at(slot)).toBeUndefined();
    expect(table.at(99)).toBeUndefined();
  });

  test("SlotTable keeps every registration while it grows, and reuses slots before it grows", () => {
    const table = new SlotTable<number>();
    const tokens = Array.from({ length: 1_000 }, (_, i) => table.add(i));
    expect(tokens.map(({ slot, generation }) => table.get(slot, generation))).toEqual([...tokens.keys()]);
    expect([table.size, table.slots]).toEqual([1_000, 1_000]);
    for (const token of tokens.slice(0, 500)) table.remove(token);
    expect([table.size, table.slots]).toEqual([500, 1_000]);
    for (let i = 0; i < 500; i++) table.add(-i);
    expect([table.size, table.slots]).toEqual([1_000, 1_000]);
    expect(tokens.filter(({ slot, generation }) => table.get(slot, generation) !== undefined)).toHaveLength(500);
  });

  test("SlotTable keeps the generations of its slots while it grows", () => {
    const table = new SlotTable<number>();
    const old = table.add(0);
    table.remove(old);
    const tokens = Array.from({ length: 1_000 }, (_, i) => table.add(i));
    expect(tokens[0]).toEqual({ slot: old.slot, generation: old.generation + 1 });
    expect(tokens.map(({ slot, generation }) => table.get(slot, generation))).toEqual([...tokens.keys()]);
    expect(table.get(old.slot, old.generation)).toBeUndefined();
  });

  test("SlotTable counts the generations of one slot upwards from 0", () => {
    const table = new SlotTable<string>();
    for (let generation = 0; generation < 100; generation++) {
      const token = table.add("a");
      expect(token).toEqual({ slot: 0, generation });
      table.remove(token);
    }
  });
});
