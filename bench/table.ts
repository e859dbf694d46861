import { median } from "./figures.ts";
import { GOALS, SCALING } from "./goals.ts";
import { cpuMicros, cpuRatio, type Entry, type Results, type Round, type WorkloadResult } from "./results.ts";

const REFERENCE = "C, epoll";
const REFERENCES = [REFERENCE, "node:net on Node"];
/** From here on the load generator may be what is measured. */
const BUSY_PERCENT = 90;

/** A workload, a line for each contestant. A ratio that misses its goal has a mark: ✗. */
export function formatTable(workload: WorkloadResult): string {
  const { title, unit, units, latency, entries } = workload;
  const hasLatency = latency !== undefined;
  const header = [
    "",
    `${units}/s`,
    "min to max",
    ...hasLatency ? ["p50 µs", "p99", "p99.9"] : [],
    `CPU µs/${unit}`,
    "min to max",
    "user",
    "system",
    `syscalls/${unit}`,
    "RSS MiB",
    "server CPU",
    "load CPU",
    "× C",
    "× own API",
    "× net",
  ];
  const rows = entries.map((entry) =>
    entry.rounds.length === 0 ? [entry.contestant, ...failed(entry)] : [
      entry.contestant,
      ...spread(entry, ({ perSecond }) => perSecond),
      ...hasLatency ? [figure(entry, "p50"), figure(entry, "p99"), figure(entry, "p999")] : [],
      ...spread(entry, cpuMicros),
      figure(entry, "userMicros"),
      figure(entry, "systemMicros"),
      syscalls(entry),
      figure(entry, "residentMiB"),
      `${figure(entry, "serverPercent")} %`,
      loadCpu(entry),
      ratio(workload, entry, REFERENCE),
      entry.own === undefined ? "" : ratio(workload, entry, entry.own),
      entry.own === undefined || entry.own === REFERENCES[1] ? "" : ratio(workload, entry, REFERENCES[1]!),
      ...failed(entry),
    ]
  );
  const about = hasLatency ? `${title}; latency ${latency}` : title;
  return `${about}\n\n${align([header, ...rows])}\n`;
}

/** How a contestant's cost grows with its connections. */
export function formatScaling({ workloads }: Results): string {
  const [many, few] = [SCALING.workload, SCALING.against].map((name) => workloads.find((each) => each.name === name));
  if (many === undefined || few === undefined) return "";
  const rows = many.entries.flatMap((entry) => {
    const value = cpuRatio(entry, few.entries.find(({ contestant }) => contestant === entry.contestant));
    return value === undefined
      ? []
      : [[entry.contestant, goalText(value, entry.own === undefined ? undefined : SCALING.atMost)]];
  });
  return `CPU for a message, ${SCALING.title}\n\n${align([["", "ratio"], ...rows])}\n`;
}

function failed({ failure }: Entry): string[] {
  return failure === undefined ? [] : [`FAILED: ${failure}`];
}

function figure({ rounds }: Entry, key: keyof Round): string {
  return short(median(rounds.map((round) => round[key])));
}

function spread({ rounds }: Entry, value: (round: Round) => number): [string, string] {
  const values = rounds.map(value);
  return [short(median(values)), `${short(Math.min(...values))} to ${short(Math.max(...values))}`];
}

function syscalls({ syscalls }: Entry): string {
  return syscalls === undefined ? "" : short(Object.values(syscalls).reduce((sum, each) => sum + each, 0));
}

function loadCpu({ rounds }: Entry): string {
  const percent = median(rounds.map(({ loadPercent }) => loadPercent));
  const server = median(rounds.map(({ serverPercent }) => serverPercent));
  return `${short(percent)} %${percent > BUSY_PERCENT && server < percent ? " !" : ""}`;
}

function ratio({ name, entries }: WorkloadResult, entry: Entry, against: string): string {
  const value = cpuRatio(entry, entries.find(({ contestant }) => contestant === against));
  const goal = GOALS.find((goal) =>
    goal.workload === name && goal.contestant === entry.contestant && goal.against === against
  );
  return value === undefined ? "" : goalText(value, goal?.atMost);
}

function goalText(value: number, goal: number | undefined): string {
  if (goal === undefined) return value.toFixed(2);
  return `${value.toFixed(2)} (goal ≤ ${goal.toFixed(2)})${value <= goal ? "" : " ✗"}`;
}

/** Three digits at least. */
function short(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(value >= 10 ? 1 : 2);
}

/** Columns side by side: the first to the left, the others to the right. */
function align(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.startsWith("FAILED") ? 0 : row[column]?.length ?? 0))
  );
  return rows.map((row) => {
    const cells = row.map((text, column) => {
      const width = widths[column];
      if (width === undefined || text.startsWith("FAILED")) return text;
      return column === 0 ? text.padEnd(width) : text.padStart(width);
    });
    return cells.join("  ").trimEnd();
  }).join("\n");
}
