import fc from "fast-check";
import process from "node:process";
import { beforeAll, describe, expect, test } from "vitest";
import type { Cut } from "./support/connection_calls.ts";
import { CONNECTION_BUGS, SMALL_LIMITS } from "./support/connection_bugs.ts";
import { describeProgram, programs } from "./support/connection_programs.ts";
import { type Action, play as playWithRealLimits, type Program, type Script } from "./support/connection_world.ts";
import { importCopy, removeCopies } from "./support/copies.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { checkMany, fails } from "./support/properties.ts";

// With each set of limits. CONNECTION_PROGRAMS asks for more, with TEST_FILE_ALARM for the seconds they may take.
const PROGRAMS = Number(process.env.CONNECTION_PROGRAMS ?? 4_000);
const TIMEOUT_MS = 300_000 + 20 * PROGRAMS;
/** A planted bug shows within so many: the rarest one takes 1,000 on average, seen to with many seeds. */
const PROGRAMS_PER_BUG = 30_000;
/** Between two looks at whatever else the process has to do. */
const SLICE = 500;

expectNoLeak();
removeCopies();

type Play = typeof playWithRealLimits;
let playWithSmallLimits: Play;
beforeAll(async () => {
  ({ play: playWithSmallLimits } = await importCopy("test/support/connection_world.ts", SMALL_LIMITS) as {
    play: Play;
  });
});

/** A failure tells the program in words. */
function explained(play: Play): (program: Program) => Promise<void> {
  return async (program) => {
    try {
      await play(program);
    } catch (error) {
      throw new Error(`${(error as Error).message}\n\n${describeProgram(program)}`, { cause: error });
    }
  };
}

describe.each(["as they are", "made small"])("with limits %s,", (limits) => {
  const play: Play = (...args) => (limits === "made small" ? playWithSmallLimits : playWithRealLimits)(...args);

  test(`connections do as the model does in ${PROGRAMS} random programs`, async () => {
    await checkMany(fc.asyncProperty(programs, explained(play)), PROGRAMS, SLICE);
  }, TIMEOUT_MS);
});

describe.each(["unix", "tcp"] as const)("over %s,", (over) => {
  const BYTES = 21;
  const writes: Action[] = [["write", 7], ["write", 10], ["write text", 3], ["end", 1]];
  const plain: Script = {
    ...{ allowHalfOpen: false, highWaterBytes: 1, lowWaterBytes: 0, limits: {} },
    ...{ open: [], data: [], drain: [], end: [], close: [], sends: [], receives: [] },
  };
  const program = (trigger: "level" | "edge", script: Partial<Script>): Program => ({
    ...{ over, trigger, buffers: "default" },
    ours: { ...plain, open: writes, ...script },
    steps: [["turn"], ["socket", ["send", BYTES]], ["turn"], ["socket", ["shutdown"]]],
  });

  test.each(["level", "edge"] as const)(
    "%s-triggered, sends cut at every two offsets lose nothing",
    async (trigger) => {
      for (let first = 1; first <= BYTES; first++) {
        for (let second = 1; second <= BYTES; second++) {
          await playWithRealLimits(program(trigger, { sends: [first, second] }));
        }
      }
    },
  );

  test("reads cut at every two offsets lose nothing", async () => {
    for (let first = 1; first <= BYTES; first++) {
      for (let second = 1; second <= BYTES; second++) {
        await playWithRealLimits(program("level", { receives: [first, second] satisfies Cut[] }));
      }
    }
  });
});

describe("a bug that is planted makes the programs fail:", () => {
  // Where what is missing never comes, so that nobody has to wait for it.
  const unixPrograms = programs.map((program) => ({ ...program, over: "unix" as const }));

  test.each(CONNECTION_BUGS)("$name", async ({ edit, sabotage }) => {
    let play = playWithSmallLimits;
    if (edit !== undefined) {
      ({ play } = await importCopy("test/support/connection_world.ts", [...SMALL_LIMITS, edit]) as { play: Play });
    }
    const property = fc.asyncProperty(unixPrograms, (program) => play(program, sabotage));
    expect(await fails(property, PROGRAMS_PER_BUG), "the programs find it").toBe(true);
  }, TIMEOUT_MS);
});
