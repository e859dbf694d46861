import fc from "fast-check";
import process from "node:process";
import { describe, expect, test } from "vitest";
import { importCopy, removeCopies } from "./support/copies.ts";
import { steps, worlds } from "./support/overload_sequences.ts";
import { play } from "./support/overload_world.ts";
import { PLANTED_BUGS } from "./support/planted_bugs.ts";
import { checkMany, fails } from "./support/properties.ts";

// 10^5 in the three runtimes together; OVERLOAD_SEQUENCES asks for more, with TEST_FILE_ALARM for the seconds it may take.
const SEQUENCES = Number(process.env.OVERLOAD_SEQUENCES ?? 34_000);
const TIMEOUT_MS = 300_000 + 2 * SEQUENCES;
/** A planted bug shows within so many. Each was seen to, with several seeds, within a tenth of it. */
const SEQUENCES_PER_BUG = 20_000;
/** Between two looks at whatever else the process has to do. */
const SLICE = 2_000;

removeCopies();

test(`overload keeps its invariants in ${SEQUENCES} random sequences`, async () => {
  await checkMany(fc.property(worlds, steps, play), SEQUENCES, SLICE);
}, TIMEOUT_MS);

describe("a bug that is planted makes the sequences fail:", () => {
  test.each(PLANTED_BUGS)("$name", async (bug) => {
    const world = await importCopy("test/support/overload_world.ts", [bug]);
    const property = fc.property(worlds, steps, (world as { play: typeof play }).play);
    expect(await fails(property, SEQUENCES_PER_BUG), "the sequences find it").toBe(true);
  }, TIMEOUT_MS);
});
