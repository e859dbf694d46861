/**
 * Spillway beside the runtimes' own sockets, a C server and a Go server, in one run. A table for each workload.
 *
 *     npm run bench                   about 15 minutes; writes bench/results.json and bench/chart.svg
 *     npm run bench -- --quick        about 2 minutes: fewer workloads, contestants and rounds
 *     npm run bench -- --workload echo-64B-64 --contestant "Spillway on Bun" --contestant Bun.listen --rounds 9
 *
 * `--workload` and `--contestant` are parts of names; `--seconds` is a round's; `--connections` bounds those of every
 * workload; `--bulk-mib` is the size of a bulk transfer; `--json` names another file for the results; with
 * `--no-compiler` there is no C, as on a machine without cc.
 *
 * Every contestant is measured in turn, round after round, so that a slow minute of the machine hits all of them; ratios
 * are of the same round. A contestant's server lives through all rounds of a workload, warmed up before the first.
 */
import { writeFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { killAll } from "./child.ts";
import { versionOf } from "./compile.ts";
import { type Contestant, findContestants } from "./contestants.ts";
import { Generator, type LoadPlan } from "./generator.ts";
import { loadAverage, machine, mostConnections, versions } from "./machine.ts";
import { MeasuredServer } from "./measure.ts";
import type { Entry, Results, WorkloadResult } from "./results.ts";
import { formatScaling, formatTable } from "./table.ts";
import { type Workload, WORKLOADS } from "./workloads.ts";

const MOST_CONNECTIONS = 20_000;
/** A round's warm-up, as a part of its length; the servers themselves are warm. */
const WARMUP_SHARE = 0.15;
/** How long each server is warmed up, and its system calls counted, as a part of a round. */
const FIRST_SHARE = 0.7;

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    workload: { type: "string", multiple: true },
    contestant: { type: "string", multiple: true },
    rounds: { type: "string" },
    seconds: { type: "string" },
    connections: { type: "string", default: `${MOST_CONNECTIONS}` },
    "bulk-mib": { type: "string" },
    "no-compiler": { type: "boolean", default: false },
    json: { type: "string" },
  },
});

const rounds = number("rounds", values.rounds ?? (values.quick ? "3" : "5"));
const roundMs = 1000 * number("seconds", values.seconds ?? (values.quick ? "0.2" : "0.5"));
const bulkMiB = number("bulk-mib", values["bulk-mib"] ?? (values.quick ? "256" : "1024"));
const most = mostConnections(number("connections", values.connections));

const generator = new Generator(!values["no-compiler"]);
const all = findContestants(!values["no-compiler"]);
const contestants = chosen("contestant", all, ({ isExtra, isQuick }) => !isExtra && (!values.quick || isQuick));
const workloads = chosen("workload", WORKLOADS, ({ isQuick }) => !values.quick || isQuick);
const hasStrace = versionOf("strace", "-V") !== undefined;

function number(name: string, text: string): number {
  const value = Number(text);
  if (value > 0) return value;
  console.error(`Cannot use --${name} ${text}: it must be a number above 0`);
  process.exit(2);
}

/** Those that the command line names, in whole or in part, or else those of the default. */
function chosen<T extends { readonly name: string }>(
  option: "workload" | "contestant",
  all: readonly T[],
  isDefault: (one: T) => boolean,
): T[] {
  const parts = values[option];
  if (parts === undefined) return all.filter(isDefault);
  const names = new Set(all.map(({ name }) => name));
  const found = all.filter(({ name }) => parts.some((part) => names.has(part) ? name === part : name.includes(part)));
  if (found.length > 0) return found;
  console.error(`Cannot measure --${option} ${parts.join(", ")}: there are ${[...names].join("; ")}`);
  process.exit(2);
}

/** On standard error, over the line before. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

function bounded(workload: Workload): Workload {
  const clients = Math.min(workload.clients, most.count);
  const idle = Math.min(workload.idle, most.count - clients);
  const isAsSaid = clients === workload.clients && idle === workload.idle;
  const title = isAsSaid ? workload.title : `${workload.title} (here ${(clients + idle).toLocaleString("en")})`;
  return { ...workload, title, clients, idle };
}

function planOf({ load, clients, idle, bytes, depth }: Workload): LoadPlan {
  const total = bulkMiB * 1024 * 1024;
  return { mode: load, clients, idle, bytes, depth, total, warmup: Math.ceil(WARMUP_SHARE * roundMs), ms: roundMs };
}

/** Calls `measure`; what it throws is the end of this contestant in this workload. */
async function attempt(entry: Entry, measure: () => Promise<void>): Promise<void> {
  if (entry.failure !== undefined) return;
  try {
    await measure();
  } catch (error) {
    entry.failure = (error as Error).message;
  }
}

async function run(workload: Workload): Promise<WorkloadResult> {
  const { isQuick: _, ...described } = workload;
  const { name } = workload;
  const plan = planOf(workload);
  const entries = contestants.map(({ name: contestant, own }): Entry => ({ contestant, own, rounds: [] }));
  const servers = new Map<Contestant, MeasuredServer>();
  try {
    for (const [i, contestant] of contestants.entries()) {
      progress(`${name}: warming up ${contestant.name}`);
      await attempt(entries[i]!, async () => {
        const server = await MeasuredServer.start(contestant, workload.server, generator, plan);
        servers.set(contestant, server);
        entries[i]!.syscalls = await server.warm(FIRST_SHARE * roundMs, hasStrace);
      });
    }
    for (let round = 1; round <= rounds; round++) {
      for (const [i, contestant] of contestants.entries()) {
        progress(`${name}: round ${round} of ${rounds}, ${contestant.name}`);
        await attempt(entries[i]!, async () => void entries[i]!.rounds.push(await servers.get(contestant)!.round()));
      }
    }
  } finally {
    for (const server of servers.values()) await server[Symbol.asyncDispose]();
    progress("");
  }
  return { ...described, entries };
}

process.on("exit", killAll);
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => process.exit(signal === "SIGINT" ? 130 : 143));
}

const results: Results = {
  date: new Date().toISOString(),
  machine: { ...machine(), loadAverage: loadAverage() },
  versions: versions(),
  settings: { rounds, roundMs, bulkMiB, mostConnections: most.count, load: generator.isC ? "load.c" : "load.ts" },
  workloads: [],
};
const { cpu, cores, kernel } = results.machine;
console.log(`${cpu}, ${cores} cores, Linux ${kernel}; ${Object.values(results.versions).slice(1).join("; ")}`);
console.log(
  `Median of ${rounds} rounds of ${roundMs} ms, bulk of ${bulkMiB} MiB; at most ${most.count} connections at a time: ${most.because}`,
);
if (!generator.isC) {
  console.log("No C compiler (cc): no C server, and a load generator on Bun that is slower than some servers");
}
if (!all.some(({ name }) => name === "Go")) console.log("No Go (go): no Go server");
if (!hasStrace) console.log("No strace: system calls are not counted");
if (loadAverage() > 0.5 * Number(cores)) {
  console.log(`The machine is busy (load average ${loadAverage().toFixed(1)}): these figures mean little`);
}
console.log("CPU is the server's, of all its threads; load CPU with a mark (!): the clients may be the bottleneck\n");

for (const workload of workloads) {
  const result = await run(bounded(workload));
  results.workloads.push(result);
  console.log(formatTable(result));
}
const scaling = formatScaling(results);
if (scaling !== "") console.log(scaling);

const isWhole = values.workload === undefined && values.contestant === undefined && !values.quick;
const file = values.json ?? (isWhole ? fileURLToPath(new URL("results.json", import.meta.url)) : undefined);
if (file !== undefined) writeFileSync(file, `${JSON.stringify(results, null, 1)}\n`);
if (isWhole && values.json === undefined) await import("./chart.ts").then(({ writeChart }) => writeChart());
const failures = results.workloads.flatMap(({ entries }) => entries.filter(({ failure }) => failure !== undefined));
if (failures.some(({ contestant }) => contestant.startsWith("Spillway"))) process.exitCode = 1;
