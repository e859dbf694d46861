/** What the figures depend on, beside the code. */
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import { versionOf } from "./compile.ts";

/** Descriptors that a server, or the load generator, needs beside its connections. */
const SPARE_DESCRIPTORS = 100;

/** The machine that this runs on. */
export function machine(): Record<string, string | number> {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    kernel: release(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
  };
}

/** Versions of all that is measured or measures. */
export function versions(): Record<string, string> {
  const bin = fileURLToPath(new URL("../node_modules/.bin/", import.meta.url));
  const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  const found = {
    spillway: version,
    deno: versionOf(`${bin}deno`, "--version"),
    bun: withName("bun", versionOf(`${bin}bun`, "--version")),
    node: withName("node", versionOf(`${bin}node`, "--version")),
    cc: versionOf("cc", "--version"),
    go: versionOf("go", "version"),
    redis: versionOf("redis-server", "--version")?.split(" sha=")[0],
  };
  return Object.fromEntries(Object.entries(found).filter(([, text]) => text !== undefined));
}

/** For those that say no more than a number. */
function withName(name: string, version: string | undefined): string | undefined {
  return version === undefined ? undefined : `${name} ${version}`;
}

/** Processes that have wanted a core, in the last minute. */
export function loadAverage(): number {
  return loadavg()[0]!;
}

/** How many connections a server can have here, up to `bound`, and what says so. */
export function mostConnections(bound: number): { count: number; because: string } {
  const hardLimit = Number(
    /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync("/proc/self/limits", "utf8"))![1]!.replace("unlimited", "1e9"),
  );
  const count = Math.min(bound, hardLimit - SPARE_DESCRIPTORS);
  const because = count === bound
    ? "--connections"
    : `the descriptor limit of ${hardLimit.toLocaleString("en")} less ${SPARE_DESCRIPTORS}`;
  return { count, because };
}
