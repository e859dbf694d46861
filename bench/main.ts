/**
 * Spillway beside the runtimes' own sockets, a C server and a Go server, in one run: `npm run bench -- --help`.
 *
 * Every contestant is measured in turn, round after round, so that a slow minute of the machine hits all of them; ratios
 * are of the same round. A contestant's server lives through all rounds of a workload, warmed up before the first.
 */
import { writeFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { killAll } from "./child.ts";
import { versionOf } from "./compile.ts";
import { type Contestant, findContestants } from "./contestants.ts";
import { Generator, type LoadPlan } from "./generator.ts";
import { judge } from "./goals.ts";
import { inTurn } from "./in_turn.ts";
import { loadAverage, machine, mostConnections, versions } from "./machine.ts";
import { MeasuredServer } from "./measure.ts";
import { named, parseOptions, surelyNamed } from "./options.ts";
import type { Entry, Figures, Results, Round, WorkloadResult } from "./results.ts";
import { type Bench, type Section, SECTIONS } from "./sections.ts";
import { formatGoals, formatSection, formatTable } from "./table.ts";
import { type Workload, WORKLOADS } from "./workloads.ts";

/** A round's warm-up, as a part of its length; the servers themselves are warm. */
const WARMUP_SHARE = 0.15;
/** How long each server is warmed up, and its system calls counted, as a part of a round. */
const FIRST_SHARE = 0.7;

const options = parseOptions();
const { rounds, roundMs, bulkMiB } = options;
const most = mostConnections(options.mostConnections);
const generator = new Generator(options.mayCompile);
const all = findContestants(options.mayCompile);
const hasStrace = versionOf("strace", "-V") !== undefined;

/** Whether a workload or a section is to be measured. */
const measures = new Set(
  options.workload === undefined
    ? [...WORKLOADS, ...SECTIONS].filter(({ isQuick }) => !options.isQuick || isQuick)
    : surelyNamed("workload", options.workload, [...WORKLOADS, ...SECTIONS]),
);

/** Everybody who can be measured in one of them. */
function allOf(measure: Workload | Section): readonly { readonly name: string }[] {
  return ("own" in measure ? measure.own?.(options.mayCompile) : undefined) ?? all;
}

if (options.contestant !== undefined) surelyNamed("contestant", options.contestant, [...measures].flatMap(allOf));

function contestantsOf(name: string, isShort: boolean = options.isQuick): Contestant[] {
  if (options.contestant !== undefined) return named(options.contestant, all);
  return all.filter(({ only, isMain }) => (only?.includes(name) ?? true) && (isMain || !isShort));
}

/** As it can be run here, and called what it then is. */
function sized(workload: Workload): Workload {
  const clients = Math.min(workload.clients, most.count);
  const idle = Math.min(workload.idle, most.count - clients);
  const isAsSaid = clients === workload.clients && idle === workload.idle;
  const here = isAsSaid ? "" : ` (here ${(clients + idle).toLocaleString("en")}, by ${most.because})`;
  const amount = workload.unit !== "MiB" ? "" : bulkMiB % 1024 === 0 ? `: ${bulkMiB / 1024} GiB` : `: ${bulkMiB} MiB`;
  return { ...workload, title: `${workload.title}${amount}${here}`, clients, idle };
}

function planOf({ load, clients, idle, bytes, depth, interval, stretch }: Workload): LoadPlan {
  const [total, ms] = [bulkMiB * 1024 * 1024, stretch * roundMs];
  return { mode: load, clients, idle, bytes, depth, interval, total, warmup: Math.ceil(WARMUP_SHARE * ms), ms };
}

async function run(workload: Workload): Promise<WorkloadResult> {
  const { isQuick: _, takesLong: __, ...described } = workload;
  const plan = planOf(workload);
  const entries = await inTurn<Contestant, Round>(
    workload.name,
    contestantsOf(workload.name, options.isQuick || workload.takesLong),
    rounds,
    async (contestant, entry) => {
      const server = await MeasuredServer.start(contestant, workload.server, generator, plan);
      Object.assign(entry, await server.warm(FIRST_SHARE * plan.ms, hasStrace));
      return server;
    },
  );
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
  sections: [],
};
/** Whether the results are those that the project shows. */
const isWhole = options.isWhole && hasStrace && ["cc", "go", "redis"].every((name) => name in results.versions);
const { cpu, cores, kernel } = results.machine;
console.log(`${cpu}, ${cores} cores, Linux ${kernel}; ${Object.values(results.versions).slice(1).join("; ")}`);
console.log(
  `Median of ${rounds} rounds of ${roundMs} ms, bulk of ${bulkMiB} MiB; at most ${
    most.count.toLocaleString("en")
  } connections at a time, by ${most.because}`,
);
if (!generator.isC) {
  console.log("No C compiler (cc): no C server, and a load generator on Bun that is slower than some servers");
}
if (!all.some(({ name }) => name === "Go")) console.log("No Go (go): no Go server");
if (!hasStrace) console.log("No strace: system calls are not counted");
if (measures.size === WORKLOADS.length + SECTIONS.length && !isWhole && options.json === undefined) {
  console.log("No results are written: this is not a whole run (see --help), and there is no --json");
}
if (loadAverage() > 0.5 * Number(cores)) {
  console.log(`The machine is busy (load average ${loadAverage().toFixed(1)}): these figures mean little`);
}
console.log("CPU is the server's, of all its threads; load CPU with a mark (!): the clients may be the bottleneck\n");

function show(name: string, table: string): void {
  console.log(table);
  const verdicts = judge(results).filter(({ measure, value }) => measure === name && value !== undefined);
  if (verdicts.length > 0) console.log(formatGoals(verdicts));
}

for (const workload of WORKLOADS.filter((each) => measures.has(each))) {
  const result = await run(sized(workload));
  results.workloads.push(result);
  show(result.name, formatTable(result));
}
const bench: Bench = {
  generator,
  rounds,
  roundMs,
  mostConnections: most.count,
  mayCompile: options.mayCompile,
  contestantsOf,
  chosen: (all) => options.contestant === undefined ? [...all] : named(options.contestant, all),
};
for (const section of SECTIONS.filter((each) => measures.has(each))) {
  const result = await section.run(bench);
  results.sections.push(result);
  show(result.name, formatSection(result));
}

results.goals = judge(results).filter(({ value }) => isWhole || value !== undefined);
if (results.goals.length > 0) {
  const reached = results.goals.filter(({ isReached }) => isReached).length;
  console.log(`Goals: ${reached} of ${results.goals.length} are reached`);
  if (measures.size > 1) console.log(`\n${formatGoals(results.goals)}`); // of a single one they stand above
}

const file = options.json ?? (isWhole ? fileURLToPath(new URL("results.json", import.meta.url)) : undefined);
if (file !== undefined) writeFileSync(file, `${JSON.stringify(results, null, 1)}\n`);
if (isWhole && options.json === undefined) await import("./chart.ts").then(({ writeChart }) => writeChart());
const entries = [...results.workloads, ...results.sections].flatMap((each): readonly Entry<Figures>[] => each.entries);
const failures = entries.filter(({ failure }) => failure !== undefined);
if (failures.some(({ contestant }) => contestant.startsWith("Spillway"))) process.exitCode = 1;
