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
const SHOWN = ["echo-64B-64", "echo-64B-1000", "echo-16KiB-64", "pipelined", "churn", "idle", "bulk-out", "broadcast"];

const COLUMNS = 2;
const CELL = { width: 490, bar: 19, head: 44, gap: 26 };
const LABEL_WIDTH = 132;
const VALUE_WIDTH = 140;
const HEAD = 64;
/** As legible on white as on GitHub's dark background: a contrast of 4.3 to 1 on both. */
const INK = "#747b86";
const COLORS = { spillway: "#1a7fd4", c: "#8d6bd0", rival: "#a5793a" };

/** An SVG image of CPU time for a message, workload by workload. */
export function chartOf(results: Results): string {
  const workloads = SHOWN.flatMap((name) => results.workloads.filter((each) => each.name === name));
  const bars = Math.max(...workloads.map(({ entries }) => entries.length));
  const cellHeight = CELL.head + bars * CELL.bar + CELL.gap;
  const [width, height] = [COLUMNS * CELL.width, HEAD + Math.ceil(workloads.length / COLUMNS) * cellHeight];
  const cells = workloads.map((_, i) => ({
    left: (i % COLUMNS) * CELL.width,
    top: HEAD + Math.floor(i / COLUMNS) * cellHeight,
  }));
  const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width, height });
  try {
    chart.setOption({
      animation: false,
      textStyle: { fontFamily: "system-ui, sans-serif", color: INK },
      title: [
        title(0, 4, 17, "CPU time of the server for a message, in microseconds: less is better", subtitle(results)),
        ...workloads.map((workload, i) => title(cells[i]!.left, cells[i]!.top, 13, ...titlesOf(workload))),
      ],
      grid: cells.map(({ left, top }, i) => ({
        left: left + LABEL_WIDTH,
        top: top + CELL.head,
        width: CELL.width - LABEL_WIDTH - VALUE_WIDTH,
        height: measured(workloads[i]!).length * CELL.bar,
      })),
      xAxis: workloads.map((_, i) => ({ type: "value", gridIndex: i, show: false, min: 0 })),
      yAxis: workloads.map((workload, i) => ({
        type: "category",
        gridIndex: i,
        inverse: true,
        data: measured(workload).map(({ contestant }) => contestant),
        axisLine: { show: false },
        axisTick: { show: false },
        axisLabel: { color: INK, fontSize: 12, interval: 0 },
      })),
      series: workloads.map((workload, i) => ({
        type: "bar",
        xAxisIndex: i,
        yAxisIndex: i,
        barWidth: 12,
        label: { show: true, position: "right", color: INK, fontSize: 12, textBorderWidth: 0 },
        data: measured(workload).map((entry) => ({
          value: middle(entry),
          itemStyle: { color: colorOf(entry.contestant) },
          label: { formatter: spreadOf(entry) },
        })),
      })),
    });
    return `${chart.renderToSVGString()}\n`;
  } finally {
    chart.dispose(); // a timer would keep the process
  }
}

/** Writes the chart of the results of one file to another. */
export function writeChart(results: string = RESULTS, chart: string = CHART): void {
  writeFileSync(chart, chartOf(JSON.parse(readFileSync(results, "utf8"))));
}

function title(left: number, top: number, fontSize: number, text: string, subtext: string) {
  const style = { color: INK, fontFamily: "system-ui, sans-serif" };
  return {
    left,
    top,
    text,
    subtext,
    itemGap: 4,
    textStyle: { ...style, fontSize },
    subtextStyle: { ...style, fontSize: 12 },
  };
}

/** A title that is too long for one line has a colon. */
function titlesOf({ title, unit }: WorkloadResult): [text: string, subtext: string] {
  const [text, ...more] = title.split(": ");
  return [text!, [...more, ...unit === "message" ? [] : [`for a ${unit}`]].join("; ")];
}

function subtitle({ machine, versions, settings }: Results): string {
  const { cpu, cores, kernel } = machine;
  const runtimes = [`Deno ${digits(versions.deno)}`, `Bun ${digits(versions.bun)}`, `Node ${digits(versions.node)}`];
  return `${cpu}, ${cores} cores, Linux ${digits(`${kernel}`)}; ${
    runtimes.join(", ")
  }; median of ${settings.rounds} rounds (min to max)`;
}

function digits(text: string | undefined): string {
  return /\d+(\.\d+)*/.exec(text ?? "")?.[0] ?? "";
}

function measured({ entries }: WorkloadResult): Entry[] {
  return entries.filter(({ rounds }) => rounds.length > 0);
}

function middle({ rounds }: Entry): number {
  return median(rounds.map(({ cpuMicros }) => cpuMicros));
}

function spreadOf(entry: Entry): string {
  const values = entry.rounds.map(({ cpuMicros }) => cpuMicros);
  return `${short(middle(entry))} (${short(Math.min(...values))} to ${short(Math.max(...values))})`;
}

function short(value: number): string {
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

function colorOf(contestant: string): string {
  if (contestant.startsWith("Spillway")) return COLORS.spillway;
  return contestant.startsWith("C,") ? COLORS.c : COLORS.rival;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeChart(process.argv[2], process.argv[3]);
