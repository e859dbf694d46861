/** Random worlds, and what happens in them. */
import fc from "fast-check";
import type { ErrnoName } from "../../ffi/errno.ts";
import type { Step, WorldOptions } from "./overload_world.ts";

const ERRNOS: ErrnoName[] = [
  ...["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EPERM", "EINVAL", "EIO"] as const,
];

/** One of each kind that matters, small, so that tables and budgets fill often. */
export const worlds: fc.Arbitrary<WorldOptions> = fc.record({
  trigger: fc.constantFrom("level", "edge"),
  policy: fc.oneof(
    fc.constantFrom("shed" as const, "wait" as const),
    fc.record({ graceMs: fc.constantFrom(0, 5, 50, 500) }),
  ),
  refuse: fc.constantFrom("fin", "rst", "busy"),
  room: fc.integer({ min: 1, max: 6 }),
  headroom: fc.integer({ min: 0, max: 2 }),
  reserve: fc.integer({ min: 0, max: 3 }),
  slack: fc.constantFrom(0, 0, 2),
  maxConnections: fc.option(fc.integer({ min: 1, max: 5 }), { nil: undefined }),
  acceptsPerSecond: fc.constantFrom(undefined, undefined, 2, 10),
  shedPerTurn: fc.integer({ min: 1, max: 6 }),
  shedPerSecond: fc.constantFrom(2, 20, 1000),
  reaps: fc.constantFrom(false, false, true),
  canResetQueue: fc.boolean(),
  listeners: fc.constantFrom(1, 1, 2),
});

/** Clients come more often than anything else happens. */
export const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant("arrive" as const),
        count: fc.integer({ min: 1, max: 8 }),
        bytes: fc.constantFrom(0, 0, 1, 1000),
        isAside: fc.boolean(),
      }),
    },
    { weight: 4, arbitrary: fc.constant({ kind: "turn" as const }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("release" as const), index: fc.nat(7) }) },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("leave" as const), index: fc.nat(40), isReset: fc.boolean() }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.constantFrom(1, 9, 30, 300, 3000) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("limit" as const), by: fc.integer({ min: -4, max: 4 }) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("thief" as const), opens: fc.boolean() }) },
    { weight: 1, arbitrary: fc.constant({ kind: "steal" as const }) },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant("fail" as const),
        errno: fc.constantFrom(...ERRNOS),
        times: fc.constantFrom(1, 1, 2, 100),
      }),
    },
  ),
  { minLength: 1, maxLength: 24 },
);
