/**
 * What servers do when their descriptors run out: Spillway's beside the runtimes' own, in one run.
 *
 *     npm run bench:overload -- --quick          about 2 minutes: each variant somewhere, not everywhere
 *     npm run bench:overload                     about 45 minutes
 *     npm run bench:overload -- --only "bun:" --limit 64 --excess 150 --json result.json
 */
import { writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import { type Contestant, CONTESTANTS } from "./contestants.ts";
import { measure, type Plan, type Result } from "./measures.ts";
import { killServers } from "./server_process.ts";
import { formatTable, misses } from "./table.ts";

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    /** Contestants whose name contains this; several times for several. */
    only: { type: "string", multiple: true, default: [""] },
    limit: { type: "string" },
    excess: { type: "string" },
    rounds: { type: "string" },
    "window-ms": { type: "string" },
    "storm-ms": { type: "string" },
    episodes: { type: "string" },
    json: { type: "string" },
  },
});

const LIMITS = [64, 48, 32];
const FLOODS = [150, 1];

type Run = readonly [Contestant, Plan];

/** Everything for the main contestants, and with many samples where it matters most; the variants once. */
function fullRuns(): Run[] {
  return LIMITS.flatMap((limit) =>
    FLOODS.flatMap((excess) => {
      const isCentral = limit === 64 && excess === 150;
      const once: Plan = { limit, excess, rounds: 1, windowMs: 3_200, stormMs: 3_200, episodes: 0 };
      const often: Plan = { ...once, rounds: 5, episodes: 1_000 };
      return CONTESTANTS.filter(({ isMain }) => isCentral || isMain)
        .map((contestant): Run => [contestant, isCentral && contestant.isMain ? often : once]);
    })
  );
}

/** Every pair of runtime, limit and flood, and each variant, once. */
const QUICK: readonly (readonly [name: string, limit: number, excess: number])[] = [
  ["deno: Spillway, level", 64, 150],
  ["deno: Spillway, edge", 48, 1],
  ["deno: Spillway, farewell", 32, 150],
  ["bun: Spillway, level", 48, 150],
  ["bun: Spillway, edge", 64, 150],
  ["bun: Spillway, EPOLLEXCLUSIVE", 32, 1],
  ["node: Spillway, level", 64, 1],
  ["node: Spillway, edge", 32, 150],
  ["node: Spillway, 2 × SO_REUSEPORT", 48, 150],
  ["deno: Deno.listen", 64, 150],
  ["deno: Deno.listen, retry", 64, 150],
  ["bun: Bun.listen", 64, 150],
  ["node: node:net", 64, 150],
];

function quickRuns(): Run[] {
  return QUICK.map(([name, limit, excess]) => {
    const contestant = CONTESTANTS.find((each) => each.name === name)!;
    const { isMain } = contestant;
    return [contestant, {
      limit,
      excess,
      rounds: 1,
      windowMs: 800,
      stormMs: isMain ? 1_000 : 0,
      episodes: isMain ? 10 : 0,
    }];
  });
}

/** The runs that the command line asks for. */
function chosenRuns(): Run[] {
  const number = (text: string | undefined) => text === undefined ? undefined : Number(text);
  const [limit, excess] = [number(values.limit), number(values.excess)];
  const runs = values.quick && limit === undefined && excess === undefined ? quickRuns() : fullRuns();
  return runs
    .filter(([{ name }]) => values.only.some((part) => name.includes(part)))
    .filter(([, plan]) => (limit ?? plan.limit) === plan.limit && (excess ?? plan.excess) === plan.excess)
    .map(([contestant, plan]): Run => [contestant, {
      ...plan,
      rounds: number(values.rounds) ?? plan.rounds,
      windowMs: number(values["window-ms"]) ?? plan.windowMs,
      stormMs: number(values["storm-ms"]) ?? plan.stormMs,
      episodes: number(values.episodes) ?? plan.episodes,
    }]);
}

process.on("exit", killServers);
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => process.exit(signal === "SIGINT" ? 130 : 143));
}

const runs = chosenRuns();
if (runs.length === 0) {
  console.error(
    `Nobody to measure: limits are ${LIMITS}, floods ${FLOODS}, and --only is part of a name such as "bun: Spillway"`,
  );
  process.exit(2);
}
const results: Result[] = [];
for (const [i, [contestant, plan]] of runs.entries()) {
  const startedAtMs = performance.now();
  process.stderr.write(
    `${i + 1} of ${runs.length}: ${contestant.name}, limit ${plan.limit}, ${plan.excess} in excess ... `,
  );
  const result = await measure(contestant, plan);
  results.push(result);
  const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(0);
  process.stderr.write(
    `${seconds} s${contestant.isSpillway ? `; missed: ${misses(result).join(", ") || "nothing"}` : ""}\n`,
  );
  if (values.json !== undefined) writeFileSync(values.json, JSON.stringify(results, undefined, 2));
}

console.log(
  `${availableParallelism()} CPUs, load average ${
    loadavg().map((load) => load.toFixed(1)).join(", ")
  }; ✗ misses its goal`,
);
const groups = Map.groupBy(results, ({ limit, excess }) => `limit ${limit}, ${excess} in excess`);
for (const [title, group] of groups) console.log(`\n${title}\n\n${formatTable(group)}`);
