/** What strace(1) saw of a process. */
import { readFileSync } from "node:fs";
import { until } from "./conditions.ts";
import { startProgram, type TestProcess } from "./processes.ts";

/** One system call that has returned. */
export interface Call {
  readonly thread: number;
  readonly name: string;
  /** As strace prints them. */
  readonly args: string;
  readonly result: number;
  /** The name of the errno, or `""`. */
  readonly error: string;
}

/**
 * For `under`: has strace write the calls of `names` to `file`, and leaves the process the id it was started with. Names
 * that this CPU does not have are passed over: aarch64 has ppoll and epoll_pwait only.
 */
export function tracedBy(file: string, names: readonly string[]): string[] {
  const trace = names.map((name) => `?${name}`).join(",");
  return ["strace", "-D", "-f", "-qq", "-o", file, "-e", `trace=${trace}`, "-e", "signal=none"];
}

/** Arguments of strace that have it write the calls that `inject` names to `file`, and make them fail as it says. */
export function injection(file: string, inject: string): string[] {
  const [name] = inject.split(":");
  return ["-f", "-o", file, "-e", `trace=${name}`, "-e", `inject=${inject}`];
}

/**
 * Attaches strace to a process that runs, all its threads, and has the calls that `inject` names fail as it says, such
 * as `"accept4:error=ENFILE:when=1..2"`, until {@linkcode detach}. The process survives both.
 */
export async function injectInto(pid: number, file: string, inject: string): Promise<TestProcess> {
  const tracer = startProgram("strace", ["-p", String(pid), ...injection(file, inject), "-e", "signal=none"]);
  const isAttached = () => tracer.exit !== undefined || /attached/.test(tracer.stderr);
  await until(isAttached, "strace attached to a process");
  if (tracer.exit !== undefined) throw new Error(`Cannot trace process ${pid}: ${tracer.stderr}`);
  return tracer;
}

/** Ends what {@linkcode injectInto} began. */
export async function detach(tracer: TestProcess): Promise<void> {
  tracer.kill("SIGTERM");
  await tracer.end();
}

/** The calls in `file`, in the order in which they returned; those of one thread in the order in which it made them. */
export function readTrace(file: string): Call[] {
  const calls: Call[] = [];
  const begun = new Map<string, string>();
  for (const line of readFileSync(file, "utf8").split("\n")) {
    const unfinished = /^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$/.exec(line);
    if (unfinished !== null) {
      begun.set(unfinished[1]!, unfinished[3]!);
      continue;
    }
    const match = /^(\d+) +(?:(\w+)\(|<\.\.\. (\w+) resumed>)(.*)\) += (-?\d+)(?: (E\w+))?/.exec(line);
    if (match === null) continue;
    const [, thread, whole, resumed, args, result, error] = match;
    calls.push({
      thread: Number(thread),
      name: whole ?? resumed!,
      args: resumed === undefined ? args! : begun.get(thread!) + args!,
      result: Number(result),
      error: error ?? "",
    });
  }
  return calls;
}

/**
 * Without the files of /proc that a thread opens, and closes again: JavaScriptCore looks at /proc/self/statm when it has
 * allocated much, on the very thread that runs our code, between any two calls of ours. `calls` are to have the names
 * `open`, `openat` and `close`.
 */
export function withoutProcFiles(calls: readonly Call[]): Call[] {
  const opened = new Set<string>();
  return calls.filter(({ thread, name, args, result }) => {
    if (/^open(at)?$/.test(name) && args.includes('"/proc/')) {
      if (result >= 0) opened.add(`${thread} ${result}`);
      return false;
    }
    return name !== "close" || !opened.delete(`${thread} ${args}`);
  });
}
