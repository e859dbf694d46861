/** bench/connections, very short and small: what it counts must be right, whatever it times. */
import { expect, test, vi } from "vitest";
import { expectNoLeak } from "./support/descriptors.ts";
import { expectNoProcesses, start } from "./support/processes.ts";
import { RUNTIME } from "./support/scripts.ts";

vi.setConfig({ testTimeout: 60_000 });
expectNoLeak();
expectNoProcesses();

test("bench/connections measures a server beside its runtime's own, with clients from several addresses", async () => {
  const size = ["--connections", "100", "--per-address", "40", "--rounds", "1", "--seconds", "0.3"];
  const harness = start("bench/connections.ts", [...size, "--only", `${RUNTIME}:`], { permissions: "all" });
  expect(await harness.ended, harness.stderr).toEqual({ code: 0, signal: null });
  expect(harness.lines[0]).toBe("100 connections from 3 addresses");
  const rows = harness.lines.filter((line) => line.startsWith(`${RUNTIME}: `));
  expect(rows.length).toBe(3);
  for (const row of rows) {
    const [, ...figures] = row.split(/ {2,}/).map((cell) => Number.parseFloat(cell));
    expect(figures.length).toBe(6);
    expect(figures.filter(Number.isNaN)).toEqual([]);
    const [cpuMicros, p50Ms, , perSecond] = figures.slice(2) as [number, number, number, number];
    expect(cpuMicros).toBeGreaterThan(0);
    expect(p50Ms).toBeGreaterThan(0);
    expect(perSecond).toBeGreaterThan(0);
  }
});

test("bench/connections says how many connections fit, where the descriptor limit is low", async () => {
  const args = ["--connections", "1000", "--rounds", "1", "--seconds", "0.1", "--only", "bun: Bun"];
  const under = ["sh", "-c", 'ulimit -n 400 && exec "$@"', "sh"];
  const harness = start("bench/connections.ts", args, { permissions: "all", under });
  expect(await harness.ended, harness.stderr).toEqual({ code: 0, signal: null });
  expect(harness.lines.slice(0, 2)).toEqual([
    "144 connections from 1 address",
    "(1000 were asked for, and the hard descriptor limit is 400)",
  ]);
});

test("bench/connections says so where nobody is to be measured", async () => {
  const harness = start("bench/connections.ts", ["--only", "nobody"], { permissions: "all" });
  expect(await harness.ended).toEqual({ code: 2, signal: null });
  expect(harness.stderr).toContain("--only is part of a name");
});
