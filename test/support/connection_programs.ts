/** Random programs for two ends of a stream. */
import fc from "fast-check";
import type { Cut } from "./connection_calls.ts";
import type { Action, Limits, Program, Script, SocketAction, Step } from "./connection_world.ts";

/** Around the sizes of blocks, buffers and budgets; the smallest first, towards which a failure shrinks. */
const sizes: fc.Arbitrary<number> = fc.oneof(
  { weight: 24, arbitrary: fc.constantFrom(1, 2, 63, 1000, 4095, 4096, 4097, 16_383, 16_384, 16_385) },
  { weight: 6, arbitrary: fc.constantFrom(1, 0, 65_535, 65_537, 100_000, 300_000) },
  { weight: 1, arbitrary: fc.constant(1024 * 1024) },
);

const flow: fc.Arbitrary<Action> = fc.oneof(
  { weight: 8, arbitrary: fc.tuple(fc.constant("write" as const), sizes) },
  { weight: 3, arbitrary: fc.tuple(fc.constantFrom("write text", "write shared", "writev"), sizes) },
  { weight: 2, arbitrary: fc.constant(["pause"] as const) },
  { weight: 2, arbitrary: fc.constant(["resume"] as const) },
  { weight: 1, arbitrary: fc.constant(["cork"] as const) },
  { weight: 1, arbitrary: fc.constant(["uncork"] as const) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("unread" as const), sizes) },
  { weight: 1, arbitrary: fc.constant(["set handlers"] as const) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("progress" as const), fc.constantFrom(0, 1)) },
);

const ending: fc.Arbitrary<Action> = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(fc.constant("end" as const), fc.oneof(fc.constant(0), sizes)) },
  { weight: 2, arbitrary: fc.constant(["finish"] as const) },
  { weight: 1, arbitrary: fc.constant(["finish at once"] as const) },
  { weight: 1, arbitrary: fc.constant(["close"] as const) },
  { weight: 1, arbitrary: fc.constant(["close with an error"] as const) },
  { weight: 1, arbitrary: fc.constant(["abort"] as const) },
);

const action: fc.Arbitrary<Action> = fc.oneof({ weight: 12, arbitrary: flow }, { weight: 1, arbitrary: ending });

const reaction: fc.Arbitrary<Action> = fc.oneof(
  { weight: 16, arbitrary: action },
  { weight: 2, arbitrary: fc.tuple(fc.constant("other" as const), action) },
  { weight: 1, arbitrary: fc.constant(["throw"] as const) },
  { weight: 1, arbitrary: fc.constant(["reject"] as const) },
);

/** What one call of a handler does. */
const reactions: fc.Arbitrary<Action[]> = fc.array(reaction, { maxLength: 3 });

const socketAction: fc.Arbitrary<SocketAction> = fc.oneof(
  { weight: 8, arbitrary: fc.tuple(fc.constant("send" as const), sizes) },
  { weight: 8, arbitrary: fc.tuple(fc.constant("receive" as const), sizes) },
  { weight: 2, arbitrary: fc.constant(["shutdown"] as const) },
  { weight: 1, arbitrary: fc.constant(["close"] as const) },
  { weight: 1, arbitrary: fc.constant(["reset"] as const) },
);

const elapse: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.constant(["turn"] as const) },
  { weight: 2, arbitrary: fc.constant(["microtask"] as const) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("wait" as const), fc.constantFrom(1, 50, 10_000)) },
);

const ours: fc.Arbitrary<Step> = fc.tuple(fc.constant("ours" as const), action);

/** A short call that both triggers can live with: it is repeated by us, or the kernel says itself that it is full. */
const fairSends: fc.Arbitrary<Cut[]> = cuts(["whole", "EINTR", "ENOBUFS"]);
const fairReceives: fc.Arbitrary<Cut[]> = fc.array(fc.constantFrom<Cut[]>("whole", "EINTR"), { maxLength: 4 });
/** Under edge triggering these cost a wait until sources are armed anew, which hides what else goes wrong. */
const unfairSends: fc.Arbitrary<Cut[]> = cuts(["whole", "EINTR", "ENOBUFS", "EAGAIN"]);
const unfairReceives: fc.Arbitrary<Cut[]> = cuts(["whole", "EINTR", "EAGAIN"]);

function cuts(named: Cut[]): fc.Arbitrary<Cut[]> {
  return fc.array(fc.oneof(fc.constantFrom(...named), fc.constantFrom<Cut[]>(1, 2, 100, 511, 4096)), { maxLength: 8 });
}

/** `moreBytes` is how far the queue may go beyond the high-water mark. */
const limits: fc.Arbitrary<Omit<Limits, "maxQueuedBytes"> & { moreBytes?: number }> = fc.oneof(
  { weight: 12, arbitrary: fc.constant({}) },
  { weight: 2, arbitrary: fc.record({ moreBytes: fc.constantFrom(0, 1, 100_000) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      slowReaderMs: fc.constantFrom(1_000, 40_000),
      idleTimeoutMs: fc.constantFrom(1_000, 40_000),
      readTimeoutMs: fc.constantFrom(1_000, 40_000),
      writeTimeoutMs: fc.constantFrom(1_000, 40_000),
      handshakeTimeoutMs: fc.constantFrom(1_000, 40_000),
    }, { requiredKeys: [] }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      bytesInPerSecond: fc.constantFrom(1_000_000, 100_000, 20_000),
      bytesOutPerSecond: fc.constantFrom(1_000_000, 100_000, 20_000),
    }, { requiredKeys: [] }),
  },
);

function scripts(isFair: boolean): fc.Arbitrary<Script> {
  return fc.record({
    allowHalfOpen: fc.boolean(),
    highWaterBytes: fc.constantFrom(1024 * 1024, 1, 1000, 20_000, 100_000),
    low: fc.constantFrom("quarter", "nothing", "one less"),
    limits,
    open: reactions,
    data: fc.array(reactions, { maxLength: 4 }),
    drain: fc.array(reactions, { maxLength: 3 }),
    end: reactions,
    close: reactions,
    sends: isFair ? fairSends : unfairSends,
    receives: isFair ? fairReceives : unfairReceives,
  }).map(({ low, limits: { moreBytes, ...limits }, ...script }) => ({
    ...script,
    limits: moreBytes === undefined ? limits : { ...limits, maxQueuedBytes: script.highWaterBytes + moreBytes },
    lowWaterBytes: low === "quarter"
      ? Math.floor(script.highWaterBytes / 4)
      : low === "nothing"
      ? 0
      : script.highWaterBytes - 1,
  }));
}

const frame = {
  maxQueuedBytes: fc.constantFrom(undefined, undefined, undefined, undefined, undefined, 150_000, 10_000, 1),
  over: fc.constantFrom("unix" as const, "unix" as const, "tcp" as const),
  buffers: fc.constantFrom("default" as const, "smallest" as const, "smallest" as const, "large" as const),
};

function frames(trigger: "level" | "edge", isFair: boolean): fc.Arbitrary<Program> {
  const fixed = { ...frame, trigger: fc.constant(trigger), ours: scripts(isFair) };
  return fc.oneof(
    fc.record({
      ...fixed,
      steps: fc.array(
        fc.oneof(
          { weight: 4, arbitrary: elapse },
          { weight: 4, arbitrary: ours },
          { weight: 4, arbitrary: fc.tuple(fc.constant("socket" as const), socketAction) },
        ),
        { maxLength: 24 },
      ),
    }),
    fc.record({
      ...fixed,
      peer: scripts(isFair),
      steps: fc.array(
        fc.oneof(
          { weight: 4, arbitrary: elapse },
          { weight: 4, arbitrary: ours },
          { weight: 4, arbitrary: fc.tuple(fc.constant("peer" as const), action) },
        ),
        { maxLength: 24 },
      ),
    }),
  );
}

/** Of every kind; those in which less is hidden more often. */
export const programs: fc.Arbitrary<Program> = fc.oneof(
  { weight: 4, arbitrary: frames("level", false) },
  { weight: 4, arbitrary: frames("edge", true) },
  { weight: 1, arbitrary: frames("edge", false) },
);

/** `program` in words, without what is as usual. */
export function describeProgram({ over, trigger, buffers, maxQueuedBytes, steps, ...scripts }: Program): string {
  const lines = [`over ${over}, ${trigger}-triggered, ${buffers} buffers, maxQueuedBytes ${maxQueuedBytes}`];
  for (const [name, script] of Object.entries(scripts)) {
    if (script === undefined) continue;
    const { allowHalfOpen, highWaterBytes, lowWaterBytes, limits, ...lists } = script;
    lines.push(
      `${name}: ${allowHalfOpen ? "may be half open, " : ""}water marks ${lowWaterBytes} and ${highWaterBytes}`,
    );
    for (const [limit, value] of Object.entries(limits)) lines.push(`  ${limit}: ${value}`);
    for (const [when, list] of Object.entries(lists)) {
      if (list.length > 0) lines.push(`  ${when}: ${JSON.stringify(list)}`);
    }
  }
  for (const step of steps) lines.push(`${step.flat(3).join(" ")}`);
  return lines.join("\n");
}
