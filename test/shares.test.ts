/** src/shares.ts: how much one address has. */
import { describe, expect, test } from "vitest";
import type { SockaddrFields } from "../ffi/layout.ts";
import { shareKey, type ShareLimits, type ShareRefusal, Shares } from "../src/shares.ts";
import { expectNoLeak } from "./support/descriptors.ts";

expectNoLeak();

/** The number of addresses that are remembered without a connection. */
const REMEMBERED = 8192;

function shares(limits: Partial<ShareLimits>): Shares {
  return new Shares({ connections: Infinity, acceptsPerSecond: Infinity, ...limits });
}

/** Counts a connection of `key`, unless that is to be refused. */
function admit(held: Shares, key: string, nowMs: number): ShareRefusal | undefined {
  const refusal = held.refusal(key, nowMs);
  if (refusal === undefined) held.enter(key, nowMs);
  return refusal;
}

function inet(...address: number[]): SockaddrFields {
  return { family: "inet", address: new Uint8Array(address), port: 4711 };
}

/** An IPv6 address of its eight groups. */
function inet6(...groups: number[]): SockaddrFields {
  const address = new Uint8Array(groups.flatMap((group) => [group >> 8, group & 0xff]));
  return { family: "inet6", address, port: 4711, flowInfo: 0, scopeId: 0 } as SockaddrFields;
}

describe("shareKey()", () => {
  test("shareKey() tells IPv4 addresses apart, not their ports", () => {
    expect(shareKey(inet(127, 0, 0, 1))).toBe(shareKey({ ...inet(127, 0, 0, 1), port: 1 } as SockaddrFields));
    expect(shareKey(inet(127, 0, 0, 1))).not.toBe(shareKey(inet(127, 0, 0, 2)));
    expect(shareKey(inet(1, 21, 1, 1))).not.toBe(shareKey(inet(12, 1, 1, 1)));
  });

  test("shareKey() takes an IPv6 address by its /64", () => {
    const one = shareKey(inet6(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6));
    expect(shareKey(inet6(0x2001, 0xdb8, 1, 2, 0xffff, 0, 0, 1))).toBe(one);
    expect(shareKey(inet6(0x2001, 0xdb8, 1, 3, 3, 4, 5, 6))).not.toBe(one);
    expect(shareKey(inet6(0x2001, 0xdb8, 1, 0x200, 3, 4, 5, 6))).not.toBe(one);
  });

  test("shareKey() takes an IPv4-mapped address for the IPv4 one, each by itself", () => {
    expect(shareKey(inet6(0, 0, 0, 0, 0, 0xffff, 0x7f00, 1))).toBe(shareKey(inet(127, 0, 0, 1)));
    expect(shareKey(inet6(0, 0, 0, 0, 0, 0xffff, 0x7f00, 2))).toBe(shareKey(inet(127, 0, 0, 2)));
    // ::1 is not mapped.
    expect(shareKey(inet6(0, 0, 0, 0, 0, 0, 0, 1))).not.toBe(shareKey(inet(0, 0, 0, 1)));
  });

  test("shareKey() of a Unix peer is undefined", () => {
    expect(shareKey({ family: "unix", path: new Uint8Array(0) })).toBeUndefined();
  });
});

describe("Shares.refusal()", () => {
  test("Shares.refusal() goes by connections of an address, and a release makes room for one", () => {
    const held = shares({ connections: 2 });
    expect([admit(held, "a", 0), admit(held, "a", 0), admit(held, "a", 0)]).toEqual([
      undefined,
      undefined,
      "too many connections",
    ]);
    expect(admit(held, "b", 0)).toBeUndefined();
    held.release("a", 0);
    expect([admit(held, "a", 0), admit(held, "a", 0)]).toEqual([undefined, "too many connections"]);
  });

  test("Shares.refusal() goes by accepts of an address in a second", () => {
    const held = shares({ acceptsPerSecond: 2 });
    expect([admit(held, "a", 0), admit(held, "a", 0), admit(held, "a", 0)]).toEqual([
      undefined,
      undefined,
      "too many a second",
    ]);
    expect(admit(held, "b", 0)).toBeUndefined();
    expect([admit(held, "a", 500), admit(held, "a", 500)]).toEqual([undefined, "too many a second"]);
  });

  test("Shares.refusal() counts nothing", () => {
    const held = shares({ connections: 2, acceptsPerSecond: 2 });
    held.enter("a", 0);
    for (let i = 0; i < 10; i++) expect(held.refusal("a", 0)).toBeUndefined();
    held.enter("a", 0);
    expect(held.refusal("a", 0)).toBe("too many connections");
  });

  test("Shares.refusal() remembers the rate of an address whose connections have gone", () => {
    const held = shares({ acceptsPerSecond: 1 });
    expect(admit(held, "a", 0)).toBeUndefined();
    held.release("a", 0);
    expect(admit(held, "a", 999)).toBe("too many a second");
    expect(admit(held, "a", 1_000)).toBeUndefined();
  });

  test("Shares.refusal() for the number of connections costs nothing of the rate", () => {
    const held = shares({ connections: 1, acceptsPerSecond: 2 });
    expect(admit(held, "a", 0)).toBeUndefined();
    for (let i = 0; i < 10; i++) expect(admit(held, "a", 0)).toBe("too many connections");
    held.release("a", 0);
    expect(admit(held, "a", 0)).toBeUndefined();
  });

  test("Shares.refusal() for the rate counts no connection", () => {
    const held = shares({ connections: 1, acceptsPerSecond: 1 });
    expect(admit(held, "a", 0)).toBeUndefined();
    held.release("a", 0);
    expect(admit(held, "a", 0)).toBe("too many a second");
    expect(admit(held, "a", 1_000)).toBeUndefined();
  });
});

describe("Shares.size", () => {
  test("Shares.size is 0 again once everybody has gone and no rate needs remembering", () => {
    const held = shares({ connections: 3, acceptsPerSecond: 10 });
    for (let i = 0; i < 100; i++) admit(held, `${i % 50}`, 0);
    expect(held.size).toBe(50);
    for (let i = 0; i < 100; i++) held.release(`${i % 50}`, 10_000);
    expect(held.size).toBe(0);
  });

  test("Shares.size is bounded however many addresses come and go", () => {
    const held = shares({ acceptsPerSecond: 1 });
    let [largest, refused] = [0, 0];
    for (let i = 0; i < 100_000; i++) {
      if (admit(held, `${i}`, 0) !== undefined) refused++;
      held.release(`${i}`, 0);
      largest = Math.max(largest, held.size);
    }
    expect(refused).toBe(0);
    expect(largest).toBeLessThanOrEqual(REMEMBERED + 1);
    expect(admit(held, "99999", 0)).toBe("too many a second");
    expect(admit(held, "0", 0), "the one seen longest ago is forgotten").toBeUndefined();
  });

  test("Shares.size is 0 however many addresses ask and are refused elsewhere", () => {
    const held = shares({ connections: 1, acceptsPerSecond: 1 });
    for (let i = 0; i < 100_000; i++) held.refusal(`${i}`, 0);
    expect(held.size).toBe(0);
  });

  test("Shares.size never forgets who has a connection, whoever comes and goes meanwhile", () => {
    const held = shares({ connections: 1, acceptsPerSecond: 1 });
    const BUSY = 1_000;
    for (let i = 0; i < BUSY; i++) expect(admit(held, `busy ${i}`, 0)).toBeUndefined();
    for (let i = 0; i < 100_000; i++) {
      admit(held, `${i}`, 0);
      held.release(`${i}`, 0);
    }
    expect(held.size).toBeLessThanOrEqual(BUSY + REMEMBERED + 1);
    for (let i = 0; i < BUSY; i++) expect(admit(held, `busy ${i}`, 0)).toBe("too many connections");
    for (let i = 0; i < BUSY; i++) held.release(`busy ${i}`, 0);
    expect(admit(held, "busy 999", 1_000)).toBeUndefined();
  });
});
