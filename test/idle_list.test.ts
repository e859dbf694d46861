/** src/idle_list.ts: who has been idle for longest. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { IdleList, type IdleNode } from "../src/idle_list.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { check } from "./support/properties.ts";

expectNoLeak();

class Node implements IdleNode {
  readonly name: number;
  olderIdle: IdleNode | undefined;
  newerIdle: IdleNode | undefined;
  busyAtMs = 0;

  constructor(name: number) {
    this.name = name;
  }
}

function nodes(count: number): Node[] {
  return Array.from({ length: count }, (_, name) => new Node(name));
}

/** Names from the oldest to the newest, read both ways. */
function order(list: IdleList<Node>): number[] {
  const forth: Node[] = [];
  for (let node = list.oldest; node !== undefined; node = node.newerIdle as Node | undefined) forth.push(node);
  const back: Node[] = [];
  for (let node = forth.at(-1); node !== undefined; node = node.olderIdle as Node | undefined) back.push(node);
  expect(back.reverse()).toEqual(forth);
  return forth.map(({ name }) => name);
}

describe("IdleList", () => {
  test("IdleList.oldest is undefined while the list is empty", () => {
    expect(new IdleList<Node>().oldest).toBeUndefined();
  });

  test("IdleList.touch() adds a node, or moves it to the end, and notes when", () => {
    const list = new IdleList<Node>();
    const [a, b, c] = nodes(3) as [Node, Node, Node];
    list.touch(a, 1);
    list.touch(b, 2);
    list.touch(c, 3);
    expect(order(list)).toEqual([0, 1, 2]);
    list.touch(a, 4);
    expect(order(list)).toEqual([1, 2, 0]);
    list.touch(a, 5);
    expect(order(list)).toEqual([1, 2, 0]);
    list.touch(c, 6);
    expect(order(list)).toEqual([1, 0, 2]);
    expect([a, b, c].map(({ busyAtMs }) => busyAtMs)).toEqual([5, 2, 6]);
  });

  test.each([[0, [1, 2]], [1, [0, 2]], [2, [0, 1]]])("IdleList.remove() takes node %i of 3 out", (index, left) => {
    const list = new IdleList<Node>();
    const all = nodes(3);
    for (const node of all) list.touch(node, 0);
    list.remove(all[index]!);
    expect(order(list)).toEqual(left);
    expect(all[index]).toMatchObject({ olderIdle: undefined, newerIdle: undefined });
  });

  test("IdleList.remove() of the only node, of one that is out, and of one that never was in", () => {
    const list = new IdleList<Node>();
    const [a, b] = nodes(2) as [Node, Node];
    list.touch(a, 0);
    list.remove(b);
    expect(order(list)).toEqual([0]);
    list.remove(a);
    list.remove(a);
    expect(list.oldest).toBeUndefined();
    list.touch(b, 1);
    list.remove(a);
    expect(order(list)).toEqual([1]);
  });

  test("IdleList is always in the order of the last touches, whatever is touched and removed", () => {
    const COUNT = 6;
    const steps = fc.array(fc.record({ node: fc.nat(COUNT - 1), isTouched: fc.boolean() }), { maxLength: 100 });
    check(fc.property(steps, (all) => {
      const list = new IdleList<Node>();
      const pool = nodes(COUNT);
      const model = new Map<number, number>(); // a Map keeps the order in which keys were set first
      for (const [nowMs, { node, isTouched }] of all.entries()) {
        model.delete(node);
        if (isTouched) {
          model.set(node, nowMs);
          list.touch(pool[node]!, nowMs);
        } else {
          list.remove(pool[node]!);
        }
        expect(order(list)).toEqual([...model.keys()]);
        for (const [name, busyAtMs] of model) expect(pool[name]!.busyAtMs).toBe(busyAtMs);
      }
    }));
  });
});
