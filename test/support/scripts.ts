/** Scripts that tests run in a process of their own, under the runtime that runs the test. */
import { spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";

const DEADLINE_MS = 60_000;

/** The runtime of this process. */
export const RUNTIME: "deno" | "bun" | "node" = process.versions.bun ? "bun" : process.versions.deno ? "deno" : "node";

/** How {@linkcode runScript} runs a script. */
export interface ScriptOptions {
  /** Arguments of the script. */
  readonly args?: readonly string[];
  /** Arguments of the runtime itself; by default what gives the script every permission. */
  readonly flags?: readonly string[];
  /** A program and its arguments that the runtime is started by, such as `["strace", "-f"]`. */
  readonly under?: readonly string[];
}

/** What a script left behind. */
export interface ScriptResult {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

const DEFAULT_FLAGS = { deno: ["-A"], bun: [], node: ["--disable-warning=ExperimentalWarning"] };

/** Runs `test/fixtures/<name>` to its end, without a terminal. */
export async function runScript(name: string, options: ScriptOptions = {}): Promise<ScriptResult> {
  const { args = [], flags = DEFAULT_FLAGS[RUNTIME], under = [] } = options;
  const script = fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
  const run = RUNTIME === "deno" ? ["run", "--no-prompt"] : [];
  const [program, ...rest] = [...under, process.execPath, ...run, ...flags, script, ...args];
  const child = spawn(program!, rest, {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: DEADLINE_MS,
    killSignal: "SIGKILL",
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text) => stdout += text);
  child.stderr.setEncoding("utf8").on("data", (text) => stderr += text);
  const [code, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
    child.on("error", reject).on("close", (code, signal) => resolve([code, signal]));
  });
  return { code, signal, stdout, stderr };
}

/** The JSON that a script printed; fails with all it said if it did not end well. */
export async function scriptOutput(name: string, options?: ScriptOptions): Promise<unknown> {
  const { code, signal, stdout, stderr } = await runScript(name, options);
  if (code !== 0) {
    throw new Error(`Cannot read what ${name} printed: it ended with ${signal ?? code}\n${stdout}${stderr}`);
  }
  return JSON.parse(stdout);
}
