/** src/connections.ts: the connections of a server, by descriptor. */
import { describe, expect, test } from "vitest";
import type { Connection } from "../src/connection.ts";
import { ConnectionTable } from "../src/connections.ts";
import { broadcast } from "../src/shared_bytes.ts";

/** Something that can be told from others. */
const named = (name: string) => ({ name, write: () => name !== "slow" }) as unknown as Connection;

describe("ConnectionTable", () => {
  test("has those that were added and not removed", () => {
    const table = new ConnectionTable<undefined>();
    const [first, second, stranger] = [named("first"), named("second"), named("stranger")];
    table.add(7, first);
    table.add(3, second);
    expect([...table]).toEqual([second, first]);
    expect(table.size).toBe(2);
    expect([first, second, stranger].map((each) => table.has(each))).toEqual([true, true, false]);
    table.remove(7, first);
    table.remove(7, first);
    expect([...table]).toEqual([second]);
    expect(table.size).toBe(1);
    expect(table.has(first)).toBe(false);
  });

  test("a descriptor that was closed behind our back has a new owner, and the old one cannot take it away", () => {
    const table = new ConnectionTable<undefined>();
    const [before, after] = [named("before"), named("after")];
    table.add(5, before);
    table.add(5, after);
    table.remove(5, before);
    expect([...table]).toEqual([after]);
    expect(table.size).toBe(1);
  });

  test("calls for each the same that a loop goes over, whatever is removed meanwhile", () => {
    const table = new ConnectionTable<undefined>();
    const all = ["a", "b", "c"].map(named);
    for (const [fd, connection] of all.entries()) table.add(fd, connection);
    const seen: Connection[] = [];
    table.forEach((connection) => {
      seen.push(connection);
      table.remove(1, all[1]!);
    });
    expect(seen).toEqual([all[0], all[2]]);
    expect([...table]).toEqual(seen);
  });
});

describe("broadcast()", () => {
  test("writes to all that an array, a set, a table or a generator has", () => {
    const all = [named("slow"), named("fast"), named("faster")];
    const table = new ConnectionTable<undefined>();
    for (const [fd, connection] of all.entries()) table.add(fd, connection);
    for (
      const each of [
        all,
        new Set(all),
        table,
        all.values(),
        (function* () {
          yield* all;
        })(),
      ]
    ) {
      expect(broadcast(each, "news")).toBe(2);
    }
  });
});
