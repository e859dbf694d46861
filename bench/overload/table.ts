import type { Load, Next, Result } from "./measures.ts";

/** One column: what was measured, and whether that is good enough. */
interface Column {
  readonly title: string;
  readonly goal: string;
  /** The figure as text, and whether it reaches the goal; `undefined` where there is nothing to say. */
  readonly cell: (result: Result) => readonly [text: string, isReached: boolean] | undefined;
}

const COLUMNS: readonly Column[] = [
  { title: "survives", goal: "always", cell: survival },
  { title: "flooded at 0.1 s", goal: "survives", cell: early },
  { title: "CPU %, then held", goal: "≤ + 1", cell: ({ idle, held }) => idle && held && cpu(idle, held, 1) },
  {
    title: "p99 ms, then held",
    goal: "≤ × 1.5 or + 1 ms",
    cell: ({ idle, held }) => idle && held && latency(idle, held),
  },
  { title: "how the flood learned", goal: "none hangs", cell: outcomes },
  { title: "within ms", goal: "≤ 50", cell: (result) => atMost(result.learnedWithinMs, 50) },
  { title: "app told", goal: "start, end", cell: told },
  { title: "log/min", goal: "≤ 3", cell: (result) => atMost(result.logLinesPerMinute, 3) },
  {
    title: "next client",
    goal: "≤ 10 ms, 1st try",
    cell: ({ next }) => next && [nextText(next), next.ms <= 10 && next.attempts === 1],
  },
  { title: "in a storm", goal: "≤ + 10", cell: ({ idle, storm }) => idle && storm && cpu(idle, storm, 10) },
  { title: "storm p99 ms", goal: "≤ × 2", cell: stormLatency },
  { title: "reconnects/s", goal: "", cell: ({ storm }) => storm && [storm.reconnectsPerSecond.toFixed(0), true] },
  {
    title: "short floods",
    goal: "all recover",
    cell: ({ episodes }) =>
      episodes && [`${episodes.count - episodes.failed}/${episodes.count}`, episodes.failed === 0],
  },
  {
    title: "fds",
    goal: "same",
    cell: ({ episodes }) =>
      episodes && [episodes.descriptors.join(" → "), episodes.descriptors[0] === episodes.descriptors[1]],
  },
  {
    title: "RSS MiB",
    goal: "≤ + 10 %",
    cell: ({ episodes }) =>
      episodes &&
      [episodes.residentMiB.map(Math.round).join(" → "), episodes.residentMiB[1] <= 1.1 * episodes.residentMiB[0]],
  },
];

function survival({ start, survives }: Result): [string, boolean] {
  if (start === "names why not") return ["named error", true];
  return start === "died" ? ["no start", false] : [survives ? "yes" : "DIES", survives];
}

function early({ early }: Result): [string, boolean] | undefined {
  return early && [early.survives ? nextText(early.next) : "DIES", early.survives && early.next.ms < Infinity];
}

function cpu(idle: Load, loaded: Load, mostMore: number): [string, boolean] {
  const more = loaded.cpuPercent - idle.cpuPercent;
  return [`${idle.cpuPercent.toFixed(1)} ${more < 0 ? "−" : "+"} ${Math.abs(more).toFixed(1)}`, more <= mostMore];
}

function latency(idle: Load, held: Load): [string, boolean] {
  return [
    `${idle.p99Ms.toFixed(2)}, ${held.p99Ms.toFixed(2)}`,
    held.p99Ms <= Math.max(1.5 * idle.p99Ms, idle.p99Ms + 1),
  ];
}

function outcomes({ outcomes }: Result): [string, boolean] | undefined {
  return outcomes && [
    Object.entries(outcomes).map(([outcome, count]) => `${count} ${outcome}`).join(", "),
    !outcomes.hanging && !outcomes.cut && !outcomes.refused,
  ];
}

function told({ told, isSpillway }: Result): [string, boolean] | undefined {
  if (told === undefined) return undefined;
  return isSpillway ? [told.join(", "), told.join() === "start,end"] : ["nobody", false];
}

function stormLatency({ idle, storm }: Result): [string, boolean] | undefined {
  return idle && storm && [storm.p99Ms.toFixed(2), storm.p99Ms <= 2 * idle.p99Ms];
}

function nextText({ ms, attempts }: Next): string {
  return ms === Infinity ? "NEVER" : `${ms.toFixed(1)} ms${attempts === 1 ? "" : `, try ${attempts}`}`;
}

function atMost(value: number | undefined, limit: number): [string, boolean] | undefined {
  return value === undefined
    ? undefined
    : [value.toFixed(value < 10 && !Number.isInteger(value) ? 1 : 0), value <= limit];
}

/** How many figures of a result miss their goal. */
export function misses(result: Result): string[] {
  return COLUMNS.filter(({ cell }) => cell(result)?.[1] === false).map(({ title }) => title);
}

/** Results with one limit and one flood, a line each. A figure that misses its goal has a mark: ✗. */
export function formatTable(results: readonly Result[]): string {
  const rows = [
    ["", ...COLUMNS.map(({ title }) => title)],
    ["goal", ...COLUMNS.map(({ goal }) => goal)],
    ...results.map((result) => [
      result.contestant,
      ...COLUMNS.map(({ cell }) => {
        const [text, isReached] = cell(result) ?? ["", true];
        return isReached ? text : `${text} ✗`;
      }),
    ]),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const lines = rows.map((row) => row.map((text, column) => text.padEnd(widths[column]!)).join("  ").trimEnd());
  lines.splice(2, 0, "─".repeat(Math.max(...lines.map((line) => line.length))));
  return lines.join("\n");
}
