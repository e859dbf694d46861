/** Compiles what is not TypeScript, once for each version of the source. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { basename, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const CACHE = fileURLToPath(new URL("../node_modules/.cache/spillway-bench/", import.meta.url));

/** The path of the program; `undefined` where there is no compiler. */
export function compileC(source: string): string | undefined {
  return compile(source, "cc", (target) => ["-O2", "-pthread", "-o", target, source]);
}

/** The path of the program; `undefined` where there is no compiler. */
export function compileGo(source: string): string | undefined {
  return compile(source, "go", (target) => ["build", "-o", target, source]);
}

/** The first line of what a program says of its version; `undefined` where there is none. */
export function versionOf(program: string, flag: string): string | undefined {
  const { status, stdout } = spawnSync(program, [flag], { encoding: "utf8" });
  return status === 0 ? stdout.split("\n")[0]!.trim() : undefined;
}

function compile(
  source: string,
  compiler: string,
  args: (target: string) => string[],
): string | undefined {
  const version = versionOf(compiler, compiler === "go" ? "version" : "--version");
  if (version === undefined) return undefined;
  const hash = createHash("sha256").update(version).update(readFileSync(source)).digest("hex").slice(0, 16);
  const target = join(CACHE, `${basename(source).replace(/\..*$/, "")}-${hash}`);
  if (existsSync(target)) return target;
  mkdirSync(CACHE, { recursive: true });
  const unfinished = `${target}.${process.pid}`; // somebody else may compile it too
  const { status, stderr } = spawnSync(compiler, args(unfinished), { encoding: "utf8" });
  if (status !== 0) throw new Error(`Cannot compile ${basename(source)}: ${compiler} ended with ${status}\n${stderr}`);
  renameSync(unfinished, target);
  return target;
}
