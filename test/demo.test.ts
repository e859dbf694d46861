/** `npm run demo`, where nobody looks at it: it shows that clients are refused, and that the server goes on. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { until } from "./support/conditions.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { expectNoProcesses, start } from "./support/processes.ts";
import { RUNTIME } from "./support/scripts.ts";

const DEMO = "examples/overload.ts";

expectNoLeak();
expectNoProcesses();

test("the demo shows refusals and recovery in plain lines, and ends with code 0", async () => {
  const demo = start(DEMO, ["--runtime", RUNTIME, "--phase-ms", "600"], { permissions: "all" });
  expect(await demo.ended, demo.stderr).toEqual({ code: 0, signal: null });
  const { lines } = demo;
  const phases = lines.map((line) => /^(calm|flood|storm|leave): /.exec(line)?.[1]).filter((name) =>
    name !== undefined
  );
  expect(phases).toEqual(["calm", "flood", "storm", "leave"]);
  const refused = lines.flatMap((line) => /\b(\d+) refused, CPU/.exec(line)?.[1] ?? []).map(Number);
  expect(refused[0]).toBe(0);
  expect(refused.at(-1)).toBeGreaterThan(0);
  expect(refused).toEqual(refused.toSorted((a, b) => a - b));
  expect(lines.filter((line) => /told: overload on .*: out of file descriptors/.test(line))).not.toEqual([]);
  expect(lines.filter((line) => /told: overload on .* is over/.test(line))).not.toEqual([]);
  expect(lines.at(-1)).toMatch(/the server refused \d+ times, .*, and served the next client at once, in [\d.]+ ms\.$/);
  // deno-lint-ignore no-control-regex -- a terminal's escape sequences have no place in a pipe
  expect(demo.stdout).not.toMatch(/\x1b/);
  expect(demo.stderr).toBe("");
});

test("Ctrl-C ends the demo and its children", async () => {
  const demo = start(DEMO, ["--runtime", RUNTIME], { permissions: "all" });
  await demo.line(8); // the server and the clients are at work
  const children = childrenOf(demo.pid);
  expect(children.length).toBe(2);
  demo.kill("SIGINT");
  expect(await demo.end()).toEqual({ code: 130, signal: null });
  await until(() => children.every((pid) => !isAlive(pid)), "the end of the demo's children");
});

test("--help says how the demo is used", async () => {
  const demo = start(DEMO, ["--help"], { permissions: "all" });
  expect(await demo.end()).toEqual({ code: 0, signal: null });
  expect(demo.stdout).toMatch(
    /^Usage: npm run demo -- \[flags\]\n\n {2}--runtime deno\|bun\|node .*\n {2}--phase-ms N .*\n/,
  );
  expect(demo.stderr).toBe("");
});

test.each([
  [["--runtime", "perl"], '--runtime is deno, bun or node, not "perl"'],
  [["--phase-ms", "0"], '--phase-ms takes a number above 0, not "0"'],
  [["--phase-ms", "1e999"], '--phase-ms takes a number above 0, not "1e999"'],
  [["--phases", "2"], "--phases"],
  [["bun"], "Unexpected argument 'bun'"],
])("%j is refused in one line, with code 2", async (args, reason) => {
  const demo = start(DEMO, args, { permissions: "all" });
  expect(await demo.end()).toEqual({ code: 2, signal: null });
  expect(demo.stderr).toContain(reason);
  expect(demo.stderr).toMatch(/^[^\n]+ \(--help lists the flags\)\n$/);
});

/** Processes that `pid` started. */
function childrenOf(pid: number): number[] {
  return readdirSync("/proc").map(Number).filter((child) => child > 0 && parentOf(child) === pid);
}

/** 0 for a process that has ended. */
function parentOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    return 0;
  }
}

function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}
