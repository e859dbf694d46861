import { median } from "./figures.ts";
import type { Verdict } from "./goals.ts";
import { type Entry, type Figures, ratio, type Round, type SectionResult, type WorkloadResult } from "./results.ts";

const REFERENCE = "C, epoll";
const REFERENCES = [REFERENCE, "node:net on Node"];
/** From here on the load generator may be what is measured. */
const BUSY_PERCENT = 90;
/** With fewer ticks of 10 ms it cannot be said how CPU time is shared. */
const FEWEST_TICKS = 20;
const ABSENT = "-";

/** A workload, a line for each contestant. Ratios are of CPU. */
export function formatTable(workload: WorkloadResult): string {
  const { title, unit, units, latency, entries } = workload;
  if (entries.length === 0) return `${title}\n`;
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
      ...spread(entry, ({ cpuMicros }) => cpuMicros),
      ...userAndSystem(entry),
      syscalls(entry),
      figure(entry, "residentMiB"),
      `${figure(entry, "serverPercent")} %`,
      loadCpu(entry),
      times(workload, entry, REFERENCE),
      entry.own === undefined ? ABSENT : times(workload, entry, entry.own),
      entry.own === undefined || entry.own === REFERENCES[1] ? ABSENT : times(workload, entry, REFERENCES[1]!),
      ...failed(entry),
    ]
  );
  const about = hasLatency ? `${title}; latency ${latency}` : title;
  return `${about}\n\n${align([header, ...rows])}\n${complaints(entries)}`;
}

/** A section, a line for each contestant. */
export function formatSection({ title, figures, entries }: SectionResult): string {
  if (entries.length === 0) return `${title}\n`;
  const isOnce = entries.every(({ rounds }) => rounds.length <= 1);
  const header = ["", ...Object.values(figures).flatMap((heading) => isOnce ? [heading] : [heading, "min to max"])];
  const rows = entries.map((entry) => [
    entry.contestant,
    ...entry.rounds.length === 0 ? [] : Object.keys(figures).flatMap((key) => {
      const cells = entry.rounds[0]![key] === undefined ? [ABSENT, ABSENT] : spread(entry, (round) => round[key]!);
      return isOnce ? cells.slice(0, 1) : cells;
    }),
    ...failed(entry),
  ]);
  const notes = entries.flatMap(({ contestant, notes = [] }) => notes.map((note) => `${contestant}: ${note}\n`));
  return `${title}\n\n${align([header, ...rows])}\n${notes.join("")}${complaints(entries)}`;
}

/** A line for each goal. */
export function formatGoals(verdicts: readonly Verdict[]): string {
  if (verdicts.length === 0) return "";
  const rows = verdicts.map(({ measure, title, value, bound, isReached }) => [
    `${measure}, ${title}`,
    value === undefined ? ABSENT : value < 1 ? value.toFixed(3) : short(value), // 0.998 is not 1.00
    bound,
    value === undefined ? "not measured" : isReached ? "reached" : "MISSED",
  ]);
  return `${align([["", "figure", "goal", ""], ...rows])}\n`;
}

/** What contestants said that went on nevertheless. */
function complaints(entries: readonly Entry<Figures>[]): string {
  return entries.filter(({ complaint }) => complaint !== undefined)
    .map(({ contestant, complaint }) => `${contestant} said: ${complaint}\n`).join("");
}

function failed({ failure }: Entry<Figures>): string[] {
  return failure === undefined ? [] : [`FAILED: ${failure}`];
}

/** CPU time in user mode and in the kernel, which add up to the median: shared as the ticks of all rounds are. */
function userAndSystem({ rounds }: Entry): [string, string] {
  const user = sum(rounds.map(({ userTicks }) => userTicks));
  const ticks = user + sum(rounds.map(({ systemTicks }) => systemTicks));
  if (ticks < FEWEST_TICKS) return [ABSENT, ABSENT];
  const micros = median(rounds.map(({ cpuMicros }) => cpuMicros)) / ticks;
  return [short(user * micros), short((ticks - user) * micros)];
}

function figure({ rounds }: Entry, key: keyof Round): string {
  return short(median(rounds.map((round) => round[key]!)));
}

function spread<T extends Figures>({ rounds }: Entry<T>, value: (round: T) => number): [string, string] {
  const values = rounds.map(value);
  return [short(median(values)), `${short(Math.min(...values))} to ${short(Math.max(...values))}`];
}

function syscalls({ syscalls }: Entry): string {
  return syscalls === undefined ? ABSENT : short(sum(Object.values(syscalls)));
}

function loadCpu({ rounds }: Entry): string {
  const percent = median(rounds.map(({ loadPercent }) => loadPercent));
  const server = median(rounds.map(({ serverPercent }) => serverPercent));
  return `${short(percent)} %${percent > BUSY_PERCENT && server < percent ? " !" : ""}`;
}

function times({ entries }: WorkloadResult, entry: Entry, against: string): string {
  return ratio(entry, entries.find(({ contestant }) => contestant === against), ({ cpuMicros }) => cpuMicros)?.toFixed(
    2,
  ) ?? ABSENT;
}

function sum(values: readonly number[]): number {
  return values.reduce((sum, each) => sum + each, 0);
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
