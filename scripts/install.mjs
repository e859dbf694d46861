/**
 * Installs the development tools if they are missing or older than the lockfile. Runs before every npm script that needs
 * them, and after npm's own install (as `prepare`) to note that one. Only Node's built-ins: nothing is installed yet.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { run } from "./run.mjs";

const script = fileURLToPath(import.meta.url);
const root = dirname(dirname(script));
const lockfile = join(root, "package-lock.json");
const modules = join(root, "node_modules");
/** Holds the hash of the lockfile that was installed; written last, so an interrupted install has none. */
const stamp = join(modules, ".spillway-installed");
const programs = ["deno", "bun", "node", "tsc", "vitest", "dts-bundle-generator"];

function missing() {
  return programs.filter((name) => !existsSync(join(modules, ".bin", name)));
}

function lockfileHash() {
  return createHash("sha256").update(readFileSync(lockfile)).digest("hex");
}

function isInstalled() {
  return existsSync(stamp) && readFileSync(stamp, "utf8") === lockfileHash() && missing().length === 0;
}

async function install() {
  console.error(
    `${existsSync(stamp) ? "The lockfile changed: " : ""}installing development tools from npm ` +
      "(Deno, Bun, Node 26, TypeScript, Vitest: about 500 MB, once) ...",
  );
  rmSync(stamp, { force: true });
  // npm must not run on the Node that it is about to replace.
  const path = process.env.PATH.split(delimiter).filter((directory) => !directory.startsWith(modules));
  // Tools are devDependencies, which NODE_ENV=production or a user's configuration would leave out.
  // npm's output goes to stderr: stdout belongs to the script that follows.
  const code = await run("npm", ["ci", "--include=dev", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: root,
    env: { ...process.env, PATH: path.join(delimiter) },
    stdio: ["ignore", 2, 2],
  });
  if (code !== 0) fail(`npm ci failed with code ${code} (see above)`);
  if (missing().length > 0) {
    fail(`npm ci left out ${missing().join(", ")}; are install scripts disabled (npm config get ignore-scripts)?`);
  }
  note();
}

function note() {
  writeFileSync(stamp, lockfileHash());
}

function fail(reason) {
  console.error(`Cannot install the development tools: ${reason}.`);
  process.exit(1);
}

if (process.env.npm_lifecycle_event === "prepare") {
  if (existsSync(modules) && missing().length === 0) note();
} else if (!isInstalled()) {
  // One at a time: a second one waits, and so does one that follows an interrupted one whose npm still tidies up. The
  // kernel drops the lock with the last process that holds it.
  if (process.argv[2] === "locked") await install();
  else process.exitCode = await run("flock", ["--no-fork", lockfile, process.execPath, script, "locked"]);
}
