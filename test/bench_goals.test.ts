/** bench/goals.ts and how bench/table.ts shows what came of them. */
import { expect, test } from "vitest";
import { median } from "../bench/figures.ts";
import { judge, type Verdict } from "../bench/goals.ts";
import type { Entry, Round, WorkloadResult } from "../bench/results.ts";
import { formatGoals, formatSection, formatTable } from "../bench/table.ts";
import { WORKLOADS } from "../bench/workloads.ts";

function round(some: Partial<Round>): Round {
  const none = { cpuMicros: 1, userTicks: 0, systemTicks: 1, serverPercent: 50, loadPercent: 50, residentMiB: 1 };
  return { perSecond: 1, p50: 1, p99: 1, p999: 1, ...none, ...some };
}

function entry(contestant: string, rounds: readonly Partial<Round>[]): Entry {
  return { contestant, rounds: rounds.map(round) };
}

function workload(name: string, ...entries: Entry[]): WorkloadResult {
  return { ...WORKLOADS.find((each) => each.name === name)!, entries };
}

function verdict(workloads: WorkloadResult[], title: string): Verdict | undefined {
  return judge({ workloads, sections: [] }).find((each) => each.title === title && each.measure === workloads[0]!.name);
}

test("median() of an even number is the mean of the two in the middle", () => {
  expect([median([3]), median([4, 1]), median([9, 1, 2]), median([1, 8, 2, 4])]).toEqual([3, 2.5, 2, 3]);
  expect(median([])).toBeNaN();
});

test("judge() takes the median of the ratios of the same rounds", () => {
  const many = workload(
    "echo-64B-64",
    entry("Spillway on Bun", [{ cpuMicros: 8 }, { cpuMicros: 20 }, { cpuMicros: 9 }]),
    entry("Bun.listen", [{ cpuMicros: 10 }, { cpuMicros: 10 }, { cpuMicros: 12 }]),
  );
  expect(verdict([many], "CPU: Spillway on Bun ÷ Bun.listen")).toEqual({
    measure: "echo-64B-64",
    title: "CPU: Spillway on Bun ÷ Bun.listen",
    value: 0.8,
    bound: "≤ 0.85",
    isReached: true,
  });
});

test("judge() knows latency, throughput and a ratio of two workloads", () => {
  const single = workload(
    "echo-64B-1",
    entry("Spillway on Deno", [{ p50: 54 }]),
    entry("Spillway on Deno, spin", [{ p50: 36 }]),
    entry("Deno.listen", [{ p50: 50 }]),
  );
  expect(verdict([single], "p50: Spillway on Deno ÷ Deno.listen")).toMatchObject({ value: 1.08, isReached: true });
  expect(verdict([single], "p50: Spillway on Deno, spin ÷ Deno.listen")).toMatchObject({
    value: 0.72,
    isReached: false,
  });
  const few = workload(
    "echo-64B-64",
    entry("Spillway on Deno", [{ perSecond: 90, cpuMicros: 4 }]),
    entry("Deno.listen", [{ perSecond: 90 }]),
  );
  expect(verdict([few], "throughput: Spillway on Deno ÷ Deno.listen")).toMatchObject({ value: 1, isReached: false });
  const many = workload("echo-64B-1000", entry("Spillway on Deno", [{ cpuMicros: 5 }]));
  expect(verdict([many, few], "CPU: Spillway on Deno ÷ Spillway on Deno in echo-64B-64")).toMatchObject({
    value: 1.25,
    bound: "≤ 1.15",
    isReached: false,
  });
});

test("judge() has every goal, and none is reached that was not measured", () => {
  const failed = { ...entry("Bun.listen", []), failure: "it ended" };
  const verdicts = judge({
    workloads: [workload("echo-64B-64", entry("Spillway on Bun", [{}]), failed)],
    sections: [],
  });
  expect(verdicts.length).toBe(judge({ workloads: [], sections: [] }).length);
  expect(verdicts.filter(({ value, isReached }) => value !== undefined || isReached)).toEqual([]);
  expect(new Set(verdicts.map(({ measure, title }) => measure + title)).size).toBe(verdicts.length);
});

test("judge() knows what a section measured, by itself and beside another", () => {
  const memory = {
    name: "memory",
    title: "Memory",
    figures: { kibEach: "KiB each" },
    entries: [
      { contestant: "Spillway on Node", rounds: [{ kibEach: 1.5 }, { kibEach: 1.5 }] },
      { contestant: "Bun.listen", rounds: [{ kibEach: 1.2 }, { kibEach: 1.2 }] },
    ],
  };
  const reached = judge({ workloads: [], sections: [memory] }).filter(({ value }) => value !== undefined);
  expect(reached).toEqual([
    { measure: "memory", title: "KiB each: Spillway on Node", value: 1.5, bound: "≤ 1.50", isReached: true },
    {
      measure: "memory",
      title: "KiB each: Spillway on Node ÷ Bun.listen",
      value: 1.25,
      bound: "< 1.00",
      isReached: false,
    },
  ]);
  expect(formatSection(memory)).toMatch(/^Bun\.listen +1\.20 +1\.20 to 1\.20$/m);
  const once = memory.entries.map(({ contestant, rounds: [round] }) => ({
    contestant,
    rounds: [round!],
    notes: ["so"],
  }));
  expect(formatSection({ ...memory, entries: once })).toMatch(
    /^Bun\.listen +1\.20\nSpillway on Node: so\nBun\.listen: so$/m,
  );
});

test("formatGoals() has a line for each goal, and rounds nothing to its bound", () => {
  const about = { measure: "echo-64B-1", bound: "< 1.00" };
  const text = formatGoals([
    { ...about, title: "p50: one", value: 0.9987, isReached: true },
    { ...about, title: "p50: another", value: 1.234, isReached: false },
    { ...about, title: "p50: nobody", isReached: false },
  ]);
  expect(text.trim().split("\n").slice(1).map((line) => line.split(/ {2,}/))).toEqual([
    ["echo-64B-1, p50: one", "0.999", "< 1.00", "reached"],
    ["echo-64B-1, p50: another", "1.23", "< 1.00", "MISSED"],
    ["echo-64B-1, p50: nobody", "-", "< 1.00", "not measured"],
  ]);
});

test("formatTable() shares the median of CPU time as the ticks of all rounds are, if there are enough", () => {
  const few = { cpuMicros: 340, userTicks: 3, systemTicks: 2 };
  const many = { cpuMicros: 40, userTicks: 2, systemTicks: 6 };
  const table = formatTable(workload(
    "wake-ups",
    entry("C, epoll", [few, { ...few, userTicks: 0 }, few]),
    entry("Bun.listen", [many, { ...many, userTicks: 0 }, { ...many, cpuMicros: 44 }]),
  ));
  const cells = table.split("\n").map((line) => line.split(/ {2,}/));
  const from = cells[2]!.indexOf("user");
  expect(cells.slice(3, 5).map((row) => row.slice(from, from + 2))).toEqual([["-", "-"], ["7.27", "32.7"]]);
});

test("formatTable() tells who failed and who complained", () => {
  const table = formatTable(workload(
    "echo-64B-1",
    { ...entry("Spillway on Deno", [{}, {}]), failure: "the server is gone" },
    { ...entry("Deno.listen", []), failure: "it ended with 1, and said nothing" },
    { ...entry("Bun.listen", [{}]), complaint: "out of descriptors" },
  ));
  expect(table).toMatch(/^Spillway on Deno .* FAILED: the server is gone$/m);
  expect(table).toMatch(/^Deno\.listen +FAILED: it ended with 1, and said nothing$/m);
  expect(table).toMatch(/^Bun\.listen said: out of descriptors$/m);
});
