/** bench/main.ts, in a very short run: what it counts must be right, whatever it times. */
import { existsSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { SMALLEST_OBJECT_BYTES } from "../bench/allocations.ts";
import { Child, output } from "../bench/child.ts";
import { chartOf } from "../bench/chart.ts";
import { inTurn, type Subject } from "../bench/in_turn.ts";
import type { Entry, Figures, Results } from "../bench/results.ts";
import { SECTIONS } from "../bench/sections.ts";
import { WORKLOADS } from "../bench/workloads.ts";
import { until } from "./support/conditions.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { temporaryFolder } from "./support/folders.ts";
import { expectNoProcesses, start } from "./support/processes.ts";
import { hasProgram, needsProgram } from "./support/programs.ts";
import { RUNTIME } from "./support/scripts.ts";

const NAME = { deno: "Deno", bun: "Bun", node: "Node" }[RUNTIME];
/** Those that run on this runtime, or on none. */
const CONTESTANTS = new Set([
  `Spillway on ${NAME}`,
  { deno: "Deno.listen", bun: "Bun.listen", node: "node:net on Node" }[RUNTIME],
  `node:net on ${NAME}`,
  ...hasProgram("cc") ? ["C, epoll"] : [],
  ...hasProgram("go") ? ["Go"] : [],
]);
const KINDS = ["echo-64B-64", "wake-ups", "pipelined", "churn", "idle", "bulk-in", "bulk-out", "broadcast"];
const NOT_DRAWN = new Set(["bulk-in"]);
const SHORT = ["--rounds", "1", "--seconds", "0.03", "--connections", "12", "--bulk-mib", "2"];
const ROOT = new URL("../", import.meta.url);

expectNoLeak();
expectNoProcesses();

const inFolder = temporaryFolder();

function options(option: string, values: Iterable<string>): string[] {
  return Array.from(values, (value) => [option, value]).flat();
}

async function bench(
  args: readonly string[],
  under: readonly string[] = [],
): Promise<{ results: Results; stdout: string; stderr: string }> {
  const json = inFolder("results.json");
  const harness = start("bench/main.ts", [...SHORT, ...args, "--json", json], { permissions: "all", under });
  expect(await harness.ended, harness.stdout + harness.stderr).toEqual({ code: 0, signal: null });
  return { results: JSON.parse(readFileSync(json, "utf8")), stdout: harness.stdout, stderr: harness.stderr };
}

function expectMeasured({ rounds, failure }: Entry, hasLatency: boolean): void {
  expect(failure).toBeUndefined();
  expect(rounds.length).toBe(1);
  const [round] = rounds;
  expect(round!.perSecond).toBeGreaterThan(0);
  expect(round!.cpuMicros).toBeGreaterThanOrEqual(0);
  expect(round!.residentMiB).toBeGreaterThan(0.5);
  if (hasLatency) {
    expect(round!.p50).toBeGreaterThan(0);
    expect(round!.p999).toBeGreaterThanOrEqual(round!.p50!);
  } else expect(Object.keys(round!)).not.toContain("p50");
}

test("bench measures every contestant in every kind of workload, and draws what it found", async () => {
  const { results, stdout, stderr } = await bench([
    ...options("--workload", KINDS),
    ...options("--contestant", CONTESTANTS),
  ]);
  expect(stderr.match(/(?<= min: ).*/g)).toEqual(KINDS); // what it is at
  expect(results.workloads.map(({ name }) => name)).toEqual(KINDS);
  const svg = chartOf(results);
  const reached = results.goals!.filter(({ isReached }) => isReached);
  expect(svg).toContain(`; ${reached.length} of ${results.goals!.length} goals reached`);
  expect(svg).toContain("rounds of 0.03 s (min to max); at most 12 connections");
  for (const { name, title, entries, latency } of results.workloads) {
    expect(stdout).toContain(title);
    if (!NOT_DRAWN.has(name)) { for (const part of title.split(": ")) expect(svg).toContain(part); }
    expect(new Set(entries.map(({ contestant }) => contestant)), name).toEqual(CONTESTANTS);
    for (const entry of entries) expectMeasured(entry, latency !== undefined);
    // Every 10 ms, whatever the machine is busy with.
    if (name === "wake-ups") { for (const { rounds: [round] } of entries) expect(round!.perSecond).toBeLessThan(120); }
  }
  for (const contestant of CONTESTANTS) expect(svg).toContain(`>${contestant}<`);
});

test.skipIf(needsProgram("strace") || !hasProgram("cc"))(
  "bench counts one recv and one send for each message of a server that makes no others",
  async () => {
    const contestants = options("--contestant", [`Spillway on ${NAME}`, "C, epoll"]);
    const { results } = await bench(["--workload", "echo-64B-64", ...contestants]);
    for (const { contestant, syscalls, traced } of results.workloads[0]!.entries) {
      // By one call or the other. Where the others are there as well, they park and wake: the more often, the slower the
      // messages come.
      const { read, recvfrom = read!, write, sendto = write, io_uring_enter: armed = 0 } = syscalls!;
      expect(sendto).toBe(1);
      // Bun's loop receives a byte for each time that a ring was armed, but for one before the first call that was traced,
      // and one after the last.
      if (contestant === "Spillway on Bun") expect(Math.abs(recvfrom - armed - 1) * traced!).toBeLessThan(1.5);
      else expect(recvfrom).toBe(1);
    }
  },
);

test("bench measures what idle connections cost, as many as fit", async () => {
  const names = [`Spillway on ${NAME}`, ...hasProgram("cc") ? ["C, epoll"] : []];
  const { results, stdout } = await bench([
    ...options("--workload", ["memory", "rest"]),
    ...options("--contestant", names),
    ...["--connections", "1000"],
  ], ["sh", "-c", 'ulimit -n 400 && exec "$@"', "sh"]);
  expect(stdout).toContain("at most 300 connections at a time, by the descriptor limit of 400 less 100");
  const [memory, rest] = results.sections;
  expect(memory!.title).toContain("Memory of 300 idle connections");
  expect(rest!.title).toContain("64 idle connections");
  for (const { entries } of [memory!, rest!]) {
    expect(entries.map(({ contestant, failure }) => [contestant, failure])).toEqual(
      names.map((name) => [name, undefined]),
    );
    for (const { rounds } of entries) expect(rounds[0]!.idlePercent).toBeGreaterThanOrEqual(0);
  }
  for (const { rounds } of memory!.entries) expect(rounds[0]!.kibEach).toBeGreaterThan(0);
  expect(results.goals!.map(({ title }) => title)).toEqual([
    `KiB each: Spillway on ${NAME}`,
    `idle CPU %: Spillway on ${NAME}`,
  ]);
});

test("bench measures an import, and wake-ups from another thread", async () => {
  const imported = [`Spillway on ${NAME}`, `an empty module on ${NAME}`, `node:net on ${NAME}`];
  const woken = [`Spillway on ${NAME}`, `Spillway on ${NAME}, blocking`, `postMessage on ${NAME}`];
  if (hasProgram("cc")) woken.push("C, epoll");
  const { results } = await bench([
    ...options("--workload", ["import", "wake"]),
    ...options("--contestant", new Set([...imported, ...woken])),
  ]);
  const measured = results.sections.map(({ entries }) =>
    entries.map(({ contestant, rounds: [round], failure }) =>
      failure ?? (Object.values(round!).every((figure) => figure > 0) && contestant)
    )
  );
  expect(measured).toEqual([imported, woken]);
});

test("bench sees an object that is allocated for each message, and whose it is", async () => {
  const name = `Spillway on ${NAME}`;
  // Long enough for the code to be hot: what is compiled late allocates.
  const { results } = await bench(["--workload", "allocations", "--contestant", name, "--seconds", "0.4"]);
  const { rounds, failure, notes = [] } = results.sections[0]!.entries[0]!;
  expect(failure).toBeUndefined();
  const { echo, planted } = rounds[0]! as { echo: number; planted: number };
  expect(planted - echo).toBeGreaterThan(SMALLEST_OBJECT_BYTES);
  expect(notes.some((note) => note.startsWith("planted object: "))).toBe(NAME !== "Bun"); // which has no profiler
  expect(results.goals!.map(({ title }) => title)).toEqual([
    `echo of 64 B: ${name}`,
    `echo of 16 KiB: ${name}`,
    `16 small writes: ${name}`,
    `broadcast of 256 B: ${name}`,
  ]);
});

test.skipIf(["redis-server", "redis-cli", "redis-benchmark"].some(needsProgram))(
  "bench measures the Redis example beside redis-server",
  async () => {
    const names = [`Spillway on ${NAME}`, "redis-server"];
    const { results, stdout } = await bench([...options("--workload", ["redis"]), ...options("--contestant", names)]);
    expect(results.sections.map(({ name }) => name)).toEqual(["redis-1", "redis-16", "redis-16-4KiB"]);
    for (const { entries, figures } of results.sections) {
      const tests = Object.keys(figures).filter((name) => name === name.toUpperCase());
      expect(tests.length).toBeGreaterThan(1);
      expect(entries.map(({ contestant, failure }) => [contestant, failure])).toEqual(
        names.map((each) => [each, undefined]),
      );
      for (const { rounds: [round] } of entries) {
        for (const test of tests) expect(round![test], test).toBeGreaterThan(0);
      }
    }
    expect(stdout).toContain(`redis-16, LPUSH: Spillway on ${NAME} ÷ redis-server`);
  },
);

test("bench says so where there is nothing but the runtimes", async () => {
  const bin = inFolder("bin");
  mkdirSync(bin);
  symlinkSync("/bin/sh", join(bin, "sh"));
  const { results, stdout } = await bench(["--workload", "redis-1"], ["env", `PATH=${bin}`]);
  for (const missing of ["No C compiler", "No Go", "No strace", "not here (Debian: redis-server and redis-tools)"]) {
    expect(stdout).toContain(missing);
  }
  expect(results.sections[0]!.entries).toEqual([]);
});

test("bench goes on without a compiler, and says so", async () => {
  const { results, stdout } = await bench([
    "--no-compiler",
    ...options("--workload", ["echo-64B-64", "wake-ups", "churn", "bulk-out", "broadcast"]),
    ...options("--contestant", [`Spillway on ${NAME}`]),
  ]);
  expect(stdout).toContain("No C compiler");
  for (const { entries, latency } of results.workloads) expectMeasured(entries[0]!, latency !== undefined);
});

test("bench waits only so long for what a program has to say", async () => {
  await using silent = new Child(["sleep", "60"]);
  await expect(silent.line(20)).rejects.toThrow("it has not answered within 0.02 s; it said: nothing");
  await using failed = new Child(["sh", "-c", "echo no such thing >&2; exit 3"]);
  await expect(failed.line()).rejects.toThrow("no such thing");
  await expect(output(["sh", "-c", "echo so >&2; exit 3"])).rejects.toThrow("sh ended with 3: so");
  expect(await output(["sh", "-c", "echo one; echo two"])).toEqual(["one", "two"]);
});

test("bench ends what a contestant has started when that, or a round, fails", async () => {
  const processes = new Map<string, Child>();
  const begin = (name: string) => processes.set(name, new Child(["sleep", "60"])).get(name)!;
  const running = () => [...processes].filter(([, { pid }]) => existsSync(`/proc/${pid}`)).map(([name]) => name);
  const contestants = [{ name: "starts" }, { name: "fails to start" }, { name: "fails later" }, { name: "looks" }];
  let seen: string[] = [];
  const entries = await inTurn("processes", contestants, 1, async ({ name }): Promise<Subject<Figures>> => {
    const server = begin(name);
    if (name === "fails to start") await server.line(20);
    return {
      complaint: "",
      async round() {
        if (name === "fails later") await begin("clients").line(20);
        if (name === "looks") seen = running();
        return {};
      },
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    };
  });
  const late = "it has not answered within 0.02 s; it said: nothing";
  expect(entries.map(({ failure }) => failure)).toEqual([undefined, late, late, undefined]);
  expect(seen).toEqual(["starts", "fails later", "looks"]);
  expect(running()).toEqual([]);
});

test("bench names what there is when it is asked for something else", async () => {
  for (
    const [reason, ...args] of [
      ["--workload echo of 64 B: there are echo-64B-1; ", "--workload", "echo of 64 B"],
      ["--workload none: there are echo-64B-1; ", "--workload", "echo", "--workload", "none"],
      ["--contestant C, epol: there are", "--workload", "redis-1", "--contestant", "C, epol"],
      ["--contestant C, epoll: there are Spillway on Deno; ", "--workload", "redis-1", "--contestant", "C, epoll"],
    ] as const
  ) {
    const harness = start("bench/main.ts", args, { permissions: "all" });
    expect(await harness.ended).toEqual({ code: 2, signal: null });
    expect(harness.stderr).toContain(`Cannot measure ${reason}`);
  }
});

test("bench says at once that it keeps no results of a run that is not whole", async () => {
  const harness = start("bench/main.ts", ["--rounds", "1"], { permissions: "all" });
  await until(() => harness.stdout.includes("No results are written"), "the head of a run");
  harness.kill("SIGTERM");
  expect(await harness.ended).toEqual({ code: 143, signal: null });
});

test("bench --help tells every option, and a wrong one is refused", async () => {
  const help = start("bench/main.ts", ["--help"], { permissions: "all" });
  expect(await help.ended).toEqual({ code: 0, signal: null });
  for (const option of ["quick", "workload", "contestant", "rounds", "seconds", "connections", "bulk-mib", "json"]) {
    expect(help.stdout).toContain(`  --${option} `);
  }
  for (const { name, title } of WORKLOADS) expect(help.stdout).toContain(`  ${name.padEnd(16)}${title}\n`);
  for (const { name, about } of SECTIONS) expect(help.stdout).toContain(`  ${name.padEnd(16)}${about}\n`);
  for (
    const [reason, ...wrong] of [
      ["Unknown option '--slow'", "--slow"],
      ["Cannot use --rounds none: it must be a number from 1 to 100", "--rounds", "none"],
      ["Cannot use --rounds 1.5: it must be an integer", "--rounds", "1.5"],
      ["Cannot use --seconds 0: it must be a number from 0.01 to 60", "--seconds", "0"],
    ] as const
  ) {
    const refused = start("bench/main.ts", wrong, { permissions: "all" });
    expect(await refused.ended).toEqual({ code: 2, signal: null });
    expect(refused.stderr).toContain(reason);
  }
});

test("the chart in the README is made of the results beside it", async () => {
  const results = new URL("bench/results.json", ROOT);
  const chart = new URL("bench/chart.svg", ROOT);
  const isShown = readFileSync(new URL("README.md", ROOT), "utf8").includes("(bench/chart.svg)");
  expect([existsSync(results), existsSync(chart)]).toEqual([isShown, isShown]);
  if (!isShown) return;
  // In a process of its own: ECharts numbers what it draws, on and on.
  const drawn = inFolder("drawn.svg");
  const drawing = start("bench/chart.ts", [fileURLToPath(results), drawn], { permissions: "all" });
  expect(await drawing.ended).toEqual({ code: 0, signal: null });
  expect(readFileSync(drawn, "utf8")).toBe(readFileSync(chart, "utf8"));
});
