/** What strace(1) saw of a process. */
import { readFileSync } from "node:fs";

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
