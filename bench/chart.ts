/**
 * Makes bench/chart.svg from bench/results.json, or from and to the files named: `chart.ts [RESULTS [CHART]]`. The same
 * results make the same bytes, on every runtime.
 */
import * as echarts from "echarts";
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { median } from "./figures.ts";
import type { Entry, Results, WorkloadResult } from "./results.ts";

const RESULTS = fileURLToPath(new URL("results.json", import.meta.url));
const CHART = fileURLToPath(new URL("chart.svg", import.meta.url));

/** What is shown, of the workloads that were measured. */
const SHOWN: readonly (readonly [workload: string, figure: Figure])[] = [
  ["echo-64B-1", "p50"],
  ["wake-ups", "cpuMicros"],
  ["echo-64B-64", "cpuMicros"],
  ["echo-64B-1000", "cpuMicros"],
  ["echo-16KiB-64", "cpuMicros"],
  ["pipelined", "cpuMicros"],
  ["churn", "cpuMicros"],
  ["idle", "cpuMicros"],
  ["bulk-out", "cpuMicros"],
  ["broadcast", "cpuMicros"],
];

const COLUMNS = 2;
const CELL = { width: 500, bar: 19, head: 44, gap: 26 };
const LABEL_WIDTH = 166;
const VALUE_WIDTH = 140;
const MARGIN = 16;
const HEAD = 96;
/** GitHub's. An image has a paper of its own, as who shows it may be dark where the system is light. */
const LIGHT = { paper: "#ffffff", ink: "#1f2328" };
const DARK: typeof LIGHT = { paper: "#0d1117", ink: "#e6edf3" };
/** Visible on both. */
const COLORS = { spillway: "#1a7fd4", c: "#8d6bd0", rival: "#a5793a" };

const IN_THE_DARK = `<style>@media (prefers-color-scheme: dark) {
[fill="${LIGHT.paper}"] { fill: ${DARK.paper} }
[fill="${LIGHT.ink}"] { fill: ${DARK.ink} }
}</style>`;

type Figure = "cpuMicros" | "p50";

/** One workload, in a figure of it. */
interface Panel {
  readonly workload: WorkloadResult;
  readonly figure: Figure;
  /** Those that were measured. */
  readonly entries: readonly Entry[];
}

/** An SVG image of CPU time for a message, workload by workload, and of latency where that counts. */
export function chartOf(results: Results): string {
  const panels = SHOWN.flatMap(([name, figure]): Panel[] =>
    results.workloads.filter((each) => each.name === name).map((workload) => (
      { workload, figure, entries: workload.entries.filter(({ rounds }) => rounds.length > 0) }
    ))
  );
  const { cells, height } = placesOf(panels);
  const width = 2 * MARGIN + COLUMNS * CELL.width;
  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width, height });
  try {
    chart.setOption({
      animation: false,
      backgroundColor: LIGHT.paper,
      textStyle: { fontFamily: "system-ui, sans-serif", color: LIGHT.ink },
      title: [
        title(MARGIN, MARGIN, 17, "Microseconds of the server's CPU, or of latency: less is better", subtitle(results)),
        ...panels.map((panel, i) => title(cells[i]!.left, cells[i]!.top, 13, ...titlesOf(panel))),
      ],
      grid: cells.map(({ left, top }, i) => ({
        left: left + LABEL_WIDTH,
        top: top + CELL.head,
        width: CELL.width - LABEL_WIDTH - VALUE_WIDTH,
        height: panels[i]!.entries.length * CELL.bar,
      })),
      xAxis: panels.map((_, i) => ({ type: "value", gridIndex: i, show: false, min: 0 })),
      yAxis: panels.map(({ entries }, i) => ({
        type: "category",
        gridIndex: i,
        inverse: true,
        data: entries.map(({ contestant }) => contestant),
        axisLine: { show: false },
        axisTick: { show: false },
        axisLabel: { color: LIGHT.ink, fontSize: 12, interval: 0 },
      })),
      series: panels.map(({ figure, entries }, i) => ({
        type: "bar",
        xAxisIndex: i,
        yAxisIndex: i,
        barWidth: 12,
        label: { show: true, position: "right", color: LIGHT.ink, fontSize: 12, textBorderWidth: 0 },
        data: entries.map(({ contestant, rounds }) => ({
          value: median(rounds.map((round) => round[figure]!)),
          itemStyle: { color: colorOf(contestant) },
          label: { formatter: spreadOf(rounds.map((round) => round[figure]!)) },
        })),
      })),
    });
    return `${chart.renderToSVGString().replace(/(?<=^<svg[^>]*>)/, IN_THE_DARK)}\n`;
  } finally {
    chart.dispose(); // a timer would keep the process
  }
}

/** Writes the chart of the results of one file to another. */
export function writeChart(results: string = RESULTS, chart: string = CHART): void {
  writeFileSync(chart, chartOf(JSON.parse(readFileSync(results, "utf8"))));
}

/** Where each panel begins: row by row, each as high as the longer of its panels. */
function placesOf(panels: readonly Panel[]): { cells: { left: number; top: number }[]; height: number } {
  const cells = [];
  let top = HEAD;
  for (let first = 0; first < panels.length; first += COLUMNS) {
    const row = panels.slice(first, first + COLUMNS);
    cells.push(...row.map((_, column) => ({ left: MARGIN + column * CELL.width, top })));
    top += CELL.head + Math.max(...row.map(({ entries }) => entries.length)) * CELL.bar + CELL.gap;
  }
  return { cells, height: top };
}

function title(left: number, top: number, fontSize: number, text: string, subtext: string) {
  const style = { color: LIGHT.ink, fontFamily: "system-ui, sans-serif" };
  return {
    left,
    top,
    padding: 0,
    text,
    subtext,
    itemGap: 4,
    textStyle: { ...style, fontSize },
    subtextStyle: { ...style, fontSize: 12, lineHeight: 18 },
  };
}

/** A title that is too long for one line has a colon. */
function titlesOf({ workload: { title, unit, latency }, figure }: Panel): [text: string, subtext: string] {
  const [text, ...more] = title.split(": ");
  const what = figure === "p50" ? `median latency, ${latency}` : `CPU for a ${unit}`;
  return [text!, [...more, what].join("; ")];
}

function subtitle({ machine, versions, settings, goals = [] }: Results): string {
  const { cpu, cores, kernel } = machine;
  const runtimes = [`Deno ${digits(versions.deno)}`, `Bun ${digits(versions.bun)}`, `Node ${digits(versions.node)}`];
  const { rounds, roundMs, mostConnections } = settings;
  const reached = goals.filter(({ isReached }) => isReached).length;
  return [
    `${cpu}, ${cores} cores, Linux ${digits(`${kernel}`)}; ${runtimes.join(", ")}`,
    `Median of ${rounds} rounds of ${Number(roundMs) / 1000} s (min to max); at most ${
      mostConnections!.toLocaleString("en")
    } connections; ${reached} of ${goals.length} goals reached, all listed by "npm run bench"`,
  ].join("\n");
}

function digits(text: string | undefined): string {
  return /\d+(\.\d+)*/.exec(text ?? "")?.[0] ?? "";
}

function spreadOf(values: readonly number[]): string {
  return `${short(median(values))} (${short(Math.min(...values))} to ${short(Math.max(...values))})`;
}

function short(value: number): string {
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

function colorOf(contestant: string): string {
  if (contestant.startsWith("Spillway")) return COLORS.spillway;
  return contestant.startsWith("C,") ? COLORS.c : COLORS.rival;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeChart(process.argv[2], process.argv[3]);
