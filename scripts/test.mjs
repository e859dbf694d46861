/**
 * Runs the suite in every runtime, whatever the others' results, and compares them: a test must exist in all or in none.
 * `RUNTIMES=deno,bun` limits the runtimes; arguments go to Vitest.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
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

// Or Deno would look for a newer version meanwhile, with descriptors that tests would count.
process.env.DENO_NO_UPDATE_CHECK = "1";

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
const sum = { passed: 0, failed: 0, skipped: 0 };
console.log("\nruntime  passed  failed  skipped   total");
for (const { runtime, code, names, ...counts } of results) {
  const absent = [...everywhere].filter((name) => !names.has(name));
  // Whatever made Vitest fail is at least one failure, and so is each test that only other runtimes have.
  counts.failed = Math.max(counts.failed, code === 0 ? 0 : 1) + absent.length;
  for (const key in sum) sum[key] += counts[key];
  const row = [...Object.values(counts), counts.passed + counts.failed + counts.skipped];
  console.log(`${runtime.padEnd(7)}${row.map((n) => String(n).padStart(8)).join(" ")}`);
  for (const name of absent) console.log(`        missing in ${runtime}: ${name}`);
}
console.log(`\n${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
process.exitCode = sum.failed > 0 ? 1 : 0;

/** Reads a report of Vitest. A test file that broke off (a crash, an error outside its tests) counts as one failure. */
function count(file) {
  const counts = { passed: 0, failed: 0, skipped: 0, names: new Set() };
  if (!existsSync(file)) return counts; // Vitest did not come to its end
  for (const { name: path, status, assertionResults: tests } of JSON.parse(readFileSync(file, "utf8")).testResults) {
    for (const test of tests) {
      counts.names.add(`${relative(process.cwd(), path)}: ${test.fullName}`);
      counts[test.status === "passed" || test.status === "failed" ? test.status : "skipped"]++;
    }
    if (status === "failed" && !tests.some((test) => test.status === "failed")) counts.failed++;
  }
  return counts;
}
