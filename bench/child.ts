import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { createInterface, type Interface } from "node:readline";

/** Raises the soft limit of descriptors to the hard one, for what is started. */
const WITH_DESCRIPTORS = ["sh", "-c", 'ulimit -n "$(ulimit -Hn)" && exec "$0" "$@"'] as const;

const ANSWER_MS = 20_000;
const COMPLAINT_LENGTH = 300;
const TICKS_PER_SECOND = 100;

const running = new Set<Child>();

/** Kills whatever is left. */
export function killAll(): void {
  for (const child of running) child.kill();
}

/** Does `work`; if it throws, what it has started and not ended is killed, or it would keep this process. */
export async function allOrNothing(work: () => Promise<void>): Promise<void> {
  const before = new Set(running);
  try {
    await work();
  } catch (error) {
    for (const child of running) if (!before.has(child)) await child[Symbol.asyncDispose]();
    throw error;
  }
}

/** A process that talks in lines. */
export class Child {
  /** What it has said on standard error. */
  stderr = "";
  /** Settles when it has ended, with its exit code or signal. */
  readonly ended: Promise<number | string>;
  readonly #child: ChildProcess;
  readonly #reader: Interface;
  /** Lines of its standard output that nobody has taken by {@linkcode Child.line}. */
  readonly lines: string[] = [];
  #isOver = false;
  #wake = () => {};

  constructor(command: readonly string[]) {
    const [program, ...args] = [...WITH_DESCRIPTORS, ...command];
    // Half a second after its start Deno would ask the network for a newer version.
    const env = { ...process.env, DENO_NO_UPDATE_CHECK: "1" };
    this.#child = spawn(program!, args, { stdio: ["pipe", "pipe", "pipe"], env });
    running.add(this);
    this.#child.stderr!.setEncoding("utf8").on("data", (text) => this.#told(() => this.stderr += text));
    this.#child.stdin!.on("error", () => {}); // it has ended, which `ended` tells
    this.#reader = createInterface(this.#child.stdout!);
    this.#reader.on("line", (line) => this.#told(() => this.lines.push(line)));
    this.ended = new Promise((resolve, reject) => {
      this.#child.once("error", reject).once("close", (code, signal) => {
        running.delete(this);
        this.#told(() => this.#isOver = true);
        resolve(signal ?? code ?? 0);
      });
    });
    this.ended.catch(() => {});
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** What it has said on standard error, in one line. */
  get complaint(): string {
    return this.stderr.trim().replace(/\s*\n\s*/g, "; ").slice(0, COMPLAINT_LENGTH);
  }

  /** Memory of it that is of no file. */
  get anonymousKiB(): number {
    return Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))![1]);
  }

  /** CPU time of all its threads, those that ended too: in ticks of 10 ms. proc(5). */
  get cpuSeconds(): number {
    const stat = readFileSync(`/proc/${this.pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  }

  /** Whether each of its threads waits for something: none runs, or is stopped by who traces it. proc(5). */
  get isAsleep(): boolean {
    return readdirSync(`/proc/${this.pid}/task`).every((thread) => {
      try {
        return / S [^)]*$/.test(readFileSync(`/proc/${this.pid}/task/${thread}/stat`, "utf8"));
      } catch {
        return false; // it has ended meanwhile
      }
    });
  }

  /** How many descriptors it has open. */
  get descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  /** The next line of its standard output. Throws as {@linkcode Child.until}. */
  async line(withinMs: number = ANSWER_MS): Promise<string> {
    await this.until(() => this.lines.length > 0, withinMs);
    return this.lines.shift()!;
  }

  /** Waits until what it says makes `condition` true. Throws with what it said if it ends first, and after `withinMs`. */
  async until(condition: () => boolean, withinMs: number = ANSWER_MS): Promise<void> {
    let isLate = false;
    const timer = withinMs < Infinity ? setTimeout(() => this.#told(() => isLate = true), withinMs) : undefined;
    try {
      while (!condition()) {
        if (this.#isOver) throw new Error(this.complaint || `it ended with ${await this.ended}, and said nothing`);
        if (isLate) {
          throw new Error(`it has not answered within ${withinMs / 1000} s; it said: ${this.complaint || "nothing"}`);
        }
        await new Promise<void>((resolve) => this.#wake = resolve);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Sends a line to its standard input. */
  say(line: string): void {
    this.#child.stdin!.write(`${line}\n`);
  }

  /** Ends its standard input. */
  endInput(): void {
    this.#child.stdin!.end();
  }

  kill(signal: "SIGINT" | "SIGKILL" = "SIGKILL"): void {
    if (!this.#isOver) process.kill(this.pid, signal);
  }

  /** Kills it and waits for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.kill();
    await this.ended;
  }

  #told(note: () => void): void {
    note();
    this.#wake();
  }
}

/** The lines that a program prints until it ends. Throws with what it said if it does not end well. */
export async function output(command: readonly string[]): Promise<readonly string[]> {
  await using child = new Child(command);
  const ended = await child.ended;
  if (ended !== 0) throw new Error(`${command[0]} ended with ${ended}: ${child.complaint}`);
  return child.lines;
}
