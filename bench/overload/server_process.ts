import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";

const START_MS = 10_000;

/** What came of starting a server. */
export type Start = "listens" | "names why not" | "died";

const running = new Set<ServerProcess>();

/** Kills every server that is left. */
export function killServers(): void {
  for (const server of running) server.kill();
}

/** A server in a process of its own, under a descriptor limit, and what /proc tells of it. */
export class ServerProcess {
  /** Where it listens on loopback; 0 until then. */
  port = 0;
  /** Kinds of the events of overload that it was told, in order. */
  readonly told: string[] = [];
  /** When each line of its log was written. */
  readonly loggedAtMs: number[] = [];
  /** Settles once it listens or has ended. */
  readonly started: Promise<Start>;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #log = "";
  #isAlive = true;

  /** Starts it with soft and hard limit `limit`. */
  constructor(command: readonly string[], limit: number) {
    this.#child = spawn("sh", ["-c", 'ulimit -n "$0" && exec "$@"', `${limit}`, ...command], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    running.add(this);
    this.#ended = new Promise((resolve, reject) => {
      this.#child.once("error", reject).once("exit", () => {
        this.#isAlive = false;
        running.delete(this);
        resolve();
      });
    });
    createInterface(this.#child.stderr!).on("line", (line) => {
      this.#log += `${line}\n`;
      this.loggedAtMs.push(performance.now());
    });
    this.started = new Promise((resolve, reject) => {
      createInterface(this.#child.stdout!).on("line", (line) => {
        if (this.port === 0) {
          this.port = Number(line);
          return resolve("listens");
        }
        this.told.push(JSON.parse(line).kind);
      });
      this.#child.once(
        "close",
        () => resolve(/of \d+ descriptors \d+ are taken/.test(this.#log) ? "names why not" : "died"),
      );
      this.#ended.catch(reject);
      setTimeout(() => this.port === 0 && this.kill(), START_MS).unref();
    });
  }

  /** Whether it has not ended. */
  get isAlive(): boolean {
    return this.#isAlive;
  }

  /** User and system time of all its threads so far. proc(5) rounds it in `stat`; `schedstat` has nanoseconds. */
  get cpuSeconds(): number {
    if (!this.#isAlive) return NaN;
    const threads = readdirSync(`/proc/${this.#child.pid}/task`);
    const nanoseconds = threads.map((thread) => Number(this.#read(`task/${thread}/schedstat`).split(" ")[0]));
    return nanoseconds.reduce((sum, each) => sum + each) / 1e9;
  }

  /** Descriptors it has open. */
  get descriptors(): number {
    return this.#isAlive ? readdirSync(`/proc/${this.#child.pid}/fd`).length : NaN;
  }

  /** Memory it has resident. */
  get residentMiB(): number {
    return this.#isAlive ? Number(/^VmRSS:\s+(\d+) kB$/m.exec(this.#read("status"))![1]) / 1024 : NaN;
  }

  /** Most lines that it logged within a minute. */
  get logLinesPerMinute(): number {
    const times = this.loggedAtMs;
    return Math.max(0, ...times.map((from, i) => times.slice(i).filter((at) => at < from + 60_000).length));
  }

  kill(): void {
    if (this.#isAlive) process.kill(this.#child.pid!, "SIGKILL");
  }

  /** Kills it and waits for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.kill();
    await this.#ended;
  }

  #read(name: string): string {
    return readFileSync(`/proc/${this.#child.pid}/${name}`, "utf8");
  }
}
