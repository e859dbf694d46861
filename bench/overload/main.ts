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
import { parseFlags, refuse } from "../command_line.ts";
import { type Contestant, CONTESTANTS } from "./contestants.ts";
import { measure, type Plan, type Result } from "./measures.ts";
import { killServers } from "./server_process.ts";
import { formatTable, misses } from "./table.ts";

const LIMITS = [64, 48, 32];
const FLOODS = [150, 1];

const USAGE = `Usage: npm run bench:overload -- [options]

Has servers run out of descriptors, Spillway's beside the runtimes' own, and prints a table of what became of them and
their clients for each descriptor limit and flood.

  --quick              each variant somewhere, not everywhere: about 2 minutes instead of 45
  --only NAME          only contestants whose name contains this, such as "bun: Spillway"; several times for several
  --limit N            only with this descriptor limit: ${LIMITS.join(", ")}
  --excess N           only with so many clients too many: ${FLOODS.join(", ")}
  --rounds N           windows without a flood and in one, of each contestant
  --window-ms N        how long each of them lasts
  --storm-ms N         how long those who were refused try again and again; 0 leaves that out
  --episodes N         how often overload comes and goes; 0 leaves that out
  --json FILE          where the results go
  --help               this
`;

const values = parseFlags({
  quick: { type: "boolean", default: false },
  only: { type: "string", multiple: true, default: [""] },
  limit: { type: "string" },
  excess: { type: "string" },
  rounds: { type: "string" },
  "window-ms": { type: "string" },
  "storm-ms": { type: "string" },
  episodes: { type: "string" },
  json: { type: "string" },
  help: { type: "boolean", short: "h", default: false },
});
if (values.help) {
  process.stdout.write(USAGE);
  process.exit(0);
}

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
  const [limit, excess] = [integer("limit"), integer("excess")];
  const runs = values.quick && limit === undefined && excess === undefined ? quickRuns() : fullRuns();
  return runs
    .filter(([{ name }]) => values.only.some((part) => name.includes(part)))
    .filter(([, plan]) => (limit ?? plan.limit) === plan.limit && (excess ?? plan.excess) === plan.excess)
    .map(([contestant, plan]): Run => [contestant, {
      ...plan,
      rounds: integer("rounds") ?? plan.rounds,
      windowMs: integer("window-ms") ?? plan.windowMs,
      stormMs: integer("storm-ms") ?? plan.stormMs,
      episodes: integer("episodes") ?? plan.episodes,
    }]);
}

function integer(name: "limit" | "excess" | "rounds" | "window-ms" | "storm-ms" | "episodes"): number | undefined {
  const text = values[name];
  if (text === undefined || /^\d+$/.test(text)) return text === undefined ? undefined : Number(text);
  return refuse(`--${name} takes a whole number, not "${text}"`);
}

process.on("exit", killServers);
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => process.exit(signal === "SIGINT" ? 130 : 143));
}

const runs = chosenRuns();
if (runs.length === 0) {
  const names = [...new Set(CONTESTANTS.map(({ name }) => name))].join("; ");
  refuse(`Nobody to measure: limits are ${LIMITS}, floods ${FLOODS}, and --only is part of a name: ${names}`);
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
