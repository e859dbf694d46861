import { integerOption, knownOptions, shown } from "./options.ts";
import type { Refuse } from "./refusal.ts";
import { RESERVE_MAX } from "./reserve.ts";

/**
 * What becomes of clients there is no room for. `"shed"`: each is refused, at once. `"wait"`: they wait in the backlog,
 * in order, until there is room; none is refused. `{ graceMs }`: they wait, but not longer than that; then they are
 * refused until room appears.
 */
export type OverloadPolicy = "shed" | "wait" | {
  /** How long clients may wait, in ms. */
  readonly graceMs: number;
};

/** What a server does when descriptors, or what else it needs, run out. */
export interface OverloadOptions {
  /** What becomes of those there is no room for. @default {"shed"} */
  policy?: OverloadPolicy;
  /** How a client is told. @default {"fin"} */
  refuse?: Refuse;
  /**
   * Descriptors left free for the runtime, which may die without any: a client whose descriptor would reach into them
   * finds no room. @default {a quarter of those free at start, 2 to 32}
   */
  headroom?: number;
  /** Idle descriptors to refuse clients with when the table is full all the same; 0 for none. @default {1 to 4} */
  reserve?: number;
  /**
   * How far below its present value the soft descriptor limit is kept, to be raised for a moment when the reserve is
   * stolen; 0 leaves the limit alone. Children inherit the lower limit. @default {16 where the limit is 512 or more}
   */
  slack?: number;
  /** Clients refused in one turn. @default {32} */
  shedPerTurn?: number;
  /** Clients refused in a second, and at once after a quiet one; then the listener pauses. @default {1000} */
  shedPerSecond?: number;
  /** Close idle connections to make room, the longest idle first. Off unless given. */
  reapIdle?: {
    /** Only those idle for at least this long, in ms. */
    minIdleMs: number;
    /** At most so many in one turn. @default {8} */
    perTurn?: number;
  };
}

/** The keys of {@linkcode OverloadOptions}. */
const OVERLOAD_OPTIONS: readonly (keyof OverloadOptions)[] = [
  ...["policy", "refuse", "headroom", "reserve", "slack", "shedPerTurn", "shedPerSecond", "reapIdle"] as const,
];

/** {@linkcode OverloadOptions}, checked; what depends on the process's limits is still absent. */
export interface OverloadSettings {
  /** See {@linkcode OverloadOptions}. */
  readonly policy: OverloadPolicy;
  /** See {@linkcode OverloadOptions}. */
  readonly refuse: Refuse;
  /** See {@linkcode OverloadOptions}. */
  readonly headroom: number | undefined;
  /** See {@linkcode OverloadOptions}. */
  readonly reserve: number | undefined;
  /** See {@linkcode OverloadOptions}. */
  readonly slack: number | undefined;
  /** See {@linkcode OverloadOptions}. */
  readonly shedPerTurn: number;
  /** See {@linkcode OverloadOptions}. */
  readonly shedPerSecond: number;
  /** See {@linkcode OverloadOptions}. */
  readonly reapIdle: { readonly minIdleMs: number; readonly perTurn: number } | undefined;
}

/**
 * Defaults applied and every value checked, once; code past this point trusts the result.
 *
 * @throws {TypeError | RangeError} If a value is wrong.
 */
export function resolveOverload(options: OverloadOptions = {}): OverloadSettings {
  knownOptions("set overload", options, OVERLOAD_OPTIONS);
  const { refuse = "fin", reapIdle } = options;
  if (typeof refuse !== "string" && !(refuse instanceof Uint8Array)) {
    throw new TypeError(
      `Cannot use refuse ${shown(refuse)}: it must be "fin", "rst", a farewell text or a Uint8Array`,
    );
  }
  if (reapIdle !== undefined) knownOptions("set reapIdle", reapIdle, ["minIdleMs", "perTurn"]);
  return {
    policy: resolvePolicy(options.policy),
    refuse,
    headroom: optionalInteger("headroom", options.headroom, 2 ** 31),
    reserve: optionalInteger("reserve", options.reserve, RESERVE_MAX),
    slack: optionalInteger("slack", options.slack, 4096),
    shedPerTurn: integerOption("shedPerTurn", options.shedPerTurn, 32, 1, 4096),
    shedPerSecond: integerOption("shedPerSecond", options.shedPerSecond, 1000, 1, 1_000_000),
    reapIdle: reapIdle && {
      minIdleMs: requiredInteger("reapIdle.minIdleMs", reapIdle.minIdleMs, Number.MAX_SAFE_INTEGER),
      perTurn: integerOption("reapIdle.perTurn", reapIdle.perTurn, 8, 1, 4096),
    },
  };
}

function optionalInteger(name: string, value: number | undefined, max: number): number | undefined {
  return value === undefined ? undefined : integerOption(name, value, 0, 0, max);
}

function resolvePolicy(policy: OverloadPolicy = "shed"): OverloadPolicy {
  if (typeof policy !== "object" || policy === null) {
    if (policy === "shed" || policy === "wait") return policy;
    throw new TypeError(`Cannot use policy ${shown(policy)}: it must be "shed", "wait" or { graceMs }`);
  }
  knownOptions("set policy", policy, ["graceMs"]);
  return { graceMs: requiredInteger("policy.graceMs", policy.graceMs, 2 ** 31 - 1) };
}

function requiredInteger(name: string, value: number, max: number): number {
  if (value === undefined) throw new TypeError(`Cannot use ${name} undefined: it must be a number`);
  return integerOption(name, value, 0, 0, max);
}

/**
 * How a client finds us. `room`: below the mark and below `maxConnections`. `last`: as room, but it is the last that
 * fits. `beyond`: at the mark or at `maxConnections`, and we hold its descriptor. `table full`: EMFILE or ENFILE, and
 * somebody waits.
 */
export type Situation = "room" | "last" | "beyond" | "table full";

/** What is done about it. `refuse` has a descriptor to refuse with, `shed` must first make one: the ladder. */
export type Verdict = "serve" | "serve, then pause" | "refuse" | "shed" | "pause";

const VERDICT: Readonly<Record<"shedding" | "waiting", Readonly<Record<Situation, Verdict>>>> = {
  shedding: { room: "serve", last: "serve", beyond: "refuse", "table full": "shed" },
  // What was accepted beyond the mark is served: nobody is refused.
  waiting: { room: "serve", last: "serve, then pause", beyond: "serve, then pause", "table full": "pause" },
};

/** Decides, client by client, by policy and situation; for `{ graceMs }` also by how long there has been no room. */
export class Overload {
  readonly #policy: OverloadPolicy;
  /** Since when nobody was served for lack of room; `Infinity` while there is room. */
  #pausedSinceMs = Infinity;

  /** Begins with room for everybody. */
  constructor(policy: OverloadPolicy) {
    this.#policy = policy;
  }

  /** Whether clients wait rather than be refused, now. */
  isWaiting(nowMs: number): boolean {
    if (typeof this.#policy === "string") return this.#policy === "wait";
    return nowMs < this.#pausedSinceMs + this.#policy.graceMs;
  }

  /** What to do with a client. */
  verdict(situation: Situation, nowMs: number): Verdict {
    return VERDICT[this.isWaiting(nowMs) ? "waiting" : "shedding"][situation];
  }

  /** There is no room: a pause begins, or goes on. */
  paused(nowMs: number): void {
    this.#pausedSinceMs = Math.min(this.#pausedSinceMs, nowMs);
  }

  /** There was room for a client. */
  served(): void {
    this.#pausedSinceMs = Infinity;
  }

  /** Milliseconds until those who wait have waited long enough; `Infinity` where they never have. */
  graceLeftMs(nowMs: number): number {
    if (typeof this.#policy === "string" || !this.isWaiting(nowMs)) return Infinity;
    return Math.max(0, this.#pausedSinceMs + this.#policy.graceMs - nowMs);
  }
}
