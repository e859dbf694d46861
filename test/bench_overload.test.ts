/** bench/overload, in a very short run: what it counts must be right, whatever it times. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import type { Result } from "../bench/overload/measures.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { temporaryFolder } from "./support/folders.ts";
import { expectNoProcesses, start } from "./support/processes.ts";
import { RUNTIME } from "./support/scripts.ts";

const CLIENTS = 150;
const SHORT = ["--rounds", "1", "--window-ms", "300", "--storm-ms", "300", "--episodes", "3"];

expectNoLeak();
expectNoProcesses();

const inFolder = temporaryFolder();

/** Measures this runtime's server of that name. */
async function bench(variant: string): Promise<Result> {
  const json = inFolder(variant);
  const args = [
    "--only",
    `${RUNTIME}: Spillway, ${variant}`,
    "--limit",
    "64",
    "--excess",
    `${CLIENTS}`,
    "--json",
    json,
  ];
  const harness = start("bench/overload/main.ts", [...args, ...SHORT], { permissions: "all" });
  expect(await harness.ended, harness.stderr).toEqual({ code: 0, signal: null });
  expect(harness.stdout).toContain(`${RUNTIME}: Spillway, ${variant}`);
  const results = JSON.parse(readFileSync(json, "utf8"));
  expect(results.length).toBe(1);
  return results[0];
}

test.each([["level", "fin"], ["edge", "fin"], ["farewell", "farewell"]] as const)(
  "bench/overload sees a %s server survive, tell everybody, and serve who comes after",
  async (variant, answer) => {
    const result = await bench(variant);
    expect(result).toMatchObject({ start: "listens", survives: true, told: ["start", "end"] });
    // A ping that arrives when the server has just closed makes a reset of a good ending.
    const { answered = 0, [answer]: told = 0, rst = 0, ...others } = result.outcomes!;
    expect(others).toEqual({});
    expect(answered).toBeGreaterThan(0);
    expect(told).toBeGreaterThan(rst);
    expect(answered + told + rst).toBe(CLIENTS);
    expect(result.next!.attempts).toBe(1);
    expect(result.logLinesPerMinute).toBeLessThanOrEqual(3);
    expect(result.storm!.reconnectsPerSecond).toBeGreaterThan(0);
    expect(result.episodes!.failed).toBe(0);
    expect(result.episodes!.descriptors[1]).toBe(result.episodes!.descriptors[0]);
    expect(result.early!.survives).toBe(true);
  },
);

test("bench/overload says with --help how it is used", async () => {
  const harness = start("bench/overload/main.ts", ["--help"], { permissions: "all" });
  expect(await harness.end()).toEqual({ code: 0, signal: null });
  expect(harness.stdout).toMatch(/^Usage: npm run bench:overload -- \[options\]\n/);
});

test.each([
  [["--bogus"], "Unknown option '--bogus'"],
  [["deno"], "Unexpected argument 'deno'"],
  [["--rounds", "x"], '--rounds takes a whole number, not "x"'],
  [["--limit", "100"], "Nobody to measure: limits are 64,48,32"],
  [["--only", "perl"], "Nobody to measure: "],
])("bench/overload refuses %j in one line, with code 2", async (args, reason) => {
  const harness = start("bench/overload/main.ts", args, { permissions: "all" });
  expect(await harness.end()).toEqual({ code: 2, signal: null });
  expect(harness.stderr).toContain(reason);
  expect(harness.stderr).toMatch(/^[^\n]+ \(--help says more\)\n$/);
});
