/**
 * Runs the suite in every runtime, whatever the others' results, and compares them: a test must exist in all or in none.
 * `RUNTIMES=deno,bun` limits the runtimes; arguments go to Vitest.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { run } from "./run.mjs";

const RUNTIMES = ["deno", "bun", "node"];
const runtimes = process.env.RUNTIMES?.split(",").filter((name) => name !== "") ?? RUNTIMES;
const unknown = runtimes.filter((name) => !RUNTIMES.includes(name));
if (unknown.length > 0 || runtimes.length === 0) {
  console.error(`RUNTIMES is "${process.env.RUNTIMES}"; it must be a list of ${RUNTIMES.join(", ")}`);
  process.exit(2);
}

const reports = mkdtempSync(join(tmpdir(), "spillway-test-"));
process.on("exit", () => rmSync(reports, { recursive: true, force: true }));

const results = [];
for (const runtime of runtimes) {
  const file = join(reports, `${runtime}.json`);
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${file}`];
  console.log(`\n== ${runtime}`);
  const code = await run("npm", ["run", "--silent", `test:${runtime}`, "--", ...reporters, ...process.argv.slice(2)]);
  if (code > 128) process.exit(code); // ended by a signal, and so are we
  results.push({ runtime, code, ...count(file) });
}

const everywhere = new Set(results.flatMap(({ names }) => [...names]));
let failed = false;
console.log("\nruntime  passed  failed  skipped   total");
for (const { runtime, code, passed, failures, skipped, names } of results) {
  const row = [passed, failures, skipped, passed + failures + skipped];
  console.log(`${runtime.padEnd(7)}${row.map((n) => String(n).padStart(8)).join(" ")}`);
  const absent = [...everywhere].filter((name) => !names.has(name));
  for (const name of absent) console.log(`        not run in ${runtime}: ${name}`);
  if (code !== 0 || failures > 0 || absent.length > 0) failed = true;
}
const total = (key) => results.reduce((sum, result) => sum + result[key], 0);
console.log(`\n${total("passed")} passed, ${total("failures")} failed, ${total("skipped")} skipped`);
process.exitCode = failed ? 1 : 0;

/** Reads a report of Vitest. A test file that broke off (a crash, an error outside its tests) counts as one failure. */
function count(file) {
  const counts = { passed: 0, failures: 0, skipped: 0, names: new Set() };
  let report;
  try {
    report = JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return { ...counts, failures: 1 }; // Vitest itself did not come to its end
  }
  for (const { name: path, status, assertionResults: tests } of report.testResults) {
    for (const { fullName, status } of tests) {
      counts.names.add(`${relative(process.cwd(), path)}: ${fullName}`);
      if (status === "passed") counts.passed++;
      else if (status === "failed") counts.failures++;
      else counts.skipped++;
    }
    if (status === "failed" && !tests.some((test) => test.status === "failed")) counts.failures++;
  }
  return counts;
}
