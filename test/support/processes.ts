/** Servers in processes of their own, under the runtime that runs the test; each is killed when its test ends. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { afterEach, expect } from "vitest";
import { encodeSockaddr } from "../../ffi/layout.ts";
import { until } from "./conditions.ts";
import { RUNTIME } from "./scripts.ts";
import { loopback } from "./sockets.ts";

const START_MS = 30_000;
const END_MS = 60_000;

/** Ticks a second of the times in /proc/PID/stat: USER_HZ, which is 100 on every architecture. proc(5). */
export const TICKS_PER_SECOND = 100;

/** How each runtime runs a script. */
const FLAGS = {
  deno: ["run", "--no-prompt"],
  bun: [],
  node: ["--disable-warning=ExperimentalWarning"],
};

/** How {@linkcode start} runs a script. */
export interface StartOptions {
  /** Flags of Deno, beside `--allow-ffi`; or everything, which Deno asks for to look at other processes in /proc. */
  readonly permissions?: readonly string[] | "all";
  /** A program and its arguments that end by executing the runtime, such as `["prlimit", "--nofile=64:64"]`. */
  readonly under?: readonly string[];
}

/** Signals that tests send. */
export type TestSignal = "SIGTERM" | "SIGINT" | "SIGKILL" | "SIGHUP" | "SIGUSR2" | "SIGWINCH" | "SIGSTOP" | "SIGCONT";

/** How a process ended. */
export interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
}

/** A process of a test. */
export class TestProcess {
  /** What it has written so far. */
  stdout = "";
  /** What it has written so far. */
  stderr = "";
  /** Settles when it has ended and all it wrote is here. */
  readonly ended: Promise<Exit>;
  /** Set once it has ended. */
  exit: Exit | undefined;
  readonly #child: ChildProcess;

  constructor(program: string, args: readonly string[]) {
    this.#child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.#child.stdout!.setEncoding("utf8").on("data", (text) => this.stdout += text);
    this.#child.stderr!.setEncoding("utf8").on("data", (text) => this.stderr += text);
    this.ended = new Promise((resolve, reject) => {
      this.#child.on("error", reject).on("close", (code, signal) => resolve(this.exit = { code, signal }));
    });
    this.ended.catch(() => {}); // a program that is missing: told to whoever waits
  }

  get pid(): number {
    return this.#child.pid!;
  }

  kill(signal: TestSignal): void {
    // Not ChildProcess#kill: after that, Deno 2.9 says the process ended by the signal, whatever its exit code.
    if (this.exit === undefined) process.kill(this.pid, signal);
  }

  /** How it ended; kills it and throws if that takes too long. */
  async end(): Promise<Exit> {
    const timer = setTimeout(() => this.kill("SIGKILL"), END_MS);
    try {
      return await this.ended;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Lines of standard output that are complete. */
  get lines(): string[] {
    return this.stdout.split("\n").slice(0, -1);
  }

  /** Waits for line number `index` of standard output. */
  async line(index: number): Promise<string> {
    await until(() => this.lines.length > index || this.exit !== undefined, `line ${index + 1} of a process`, START_MS);
    const line = this.lines[index];
    if (line === undefined) {
      throw new Error(
        `Cannot read line ${index + 1} of a process: it ended with ${this.exit!.signal ?? this.exit!.code}\n` +
          this.stdout + this.stderr,
      );
    }
    return line;
  }

  /** The numbers of its descriptors. */
  get numbers(): number[] {
    return readdirSync(`/proc/${this.pid}/fd`).map(Number);
  }

  /** How many descriptors it has open. A runtime opens some of its own at any time. */
  get descriptors(): number {
    return this.numbers.length;
  }

  /** What each of its descriptors means, such as `"socket:[4711]"`: no other socket is ever called that. */
  get openFiles(): string[] {
    return readdirSync(`/proc/${this.pid}/fd`).flatMap((name) => {
      try {
        return [readlinkSync(`/proc/${this.pid}/fd/${name}`)];
      } catch {
        return []; // closed meanwhile
      }
    });
  }

  /** Waits until `count` sockets that it has now are closed, once `act` has run. */
  async closesSockets(count: number, act: () => void): Promise<void> {
    const before = this.openFiles.filter((file) => file.startsWith("socket:"));
    act();
    const closed = () => {
      const now = new Set(this.openFiles);
      return before.filter((socket) => !now.has(socket)).length;
    };
    await until(() => closed() >= count, `${count} sockets of a process closed`);
  }

  /** The CPU time that all its threads have used, in ticks. */
  get cpuTicks(): number {
    const stat = readFileSync(`/proc/${this.pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return Number(fields[11]) + Number(fields[12]); // utime and stime, fields 14 and 15 of all
  }

  /** Memory it has resident. */
  get residentBytes(): number {
    return 1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${this.pid}/status`, "utf8"))![1]);
  }
}

/** A process that listens. */
export class ServerProcess extends TestProcess {
  /** The first line that it printed, once it has. */
  announcement = "";

  /** The port of its announcement. */
  get port(): number {
    return Number(/^listening on tcp:\/\/.*:(\d+)$/.exec(this.announcement)![1]);
  }

  /** Where it listens. */
  get sockaddr(): Uint8Array<ArrayBuffer> {
    const path = /^listening on unix:\/\/(.*)$/.exec(this.announcement)?.[1];
    return path === undefined
      ? loopback(this.port)
      : encodeSockaddr({ family: "unix", path: new TextEncoder().encode(path) });
  }
}

const running = new Set<TestProcess>();

/** Every test of this file ends with the processes that it started killed. Called at the top of a test file. */
export function expectNoProcesses(): void {
  afterEach(killProcesses);
}

/** Kills what was started, each by its own id, and waits for the end. */
async function killProcesses(): Promise<void> {
  for (const child of running) {
    if (child.exit === undefined) child.kill("SIGKILL");
    await child.ended.catch(() => {});
  }
  running.clear();
}

/** Starts a script, named from the root of the project, and waits for nothing. */
export function start(script: string, args: readonly string[] = [], options: StartOptions = {}): ServerProcess {
  const { permissions = [], under = [] } = options;
  const path = fileURLToPath(new URL(`../../${script}`, import.meta.url));
  // What a server needs and no more, unless a test says so.
  const granted = permissions === "all" ? ["--allow-all"] : ["--allow-ffi", ...permissions];
  const flags = RUNTIME === "deno" ? [...FLAGS.deno, ...granted] : FLAGS[RUNTIME];
  const [program, ...rest] = [...under, process.execPath, ...flags, path, ...args];
  const child = new ServerProcess(program!, rest);
  running.add(child);
  return child;
}

/** Starts a script that listens, and waits for its announcement; throws with what it said if it does not come. */
export async function startServer(
  script: string,
  args: readonly string[] = [],
  options: StartOptions = {},
): Promise<ServerProcess> {
  const server = start(script, args, options);
  server.announcement = await server.line(0);
  return server;
}

/** Starts any other program. */
export function startProgram(program: string, args: readonly string[]): TestProcess {
  const child = new TestProcess(program, args);
  running.add(child);
  return child;
}

/** Still there, and ends as it should when its user ends it. */
export async function ends(server: ServerProcess, signal: "SIGTERM" | "SIGINT" = "SIGTERM"): Promise<void> {
  expect(server.exit).toBeUndefined();
  server.kill(signal);
  expect(await server.end()).toEqual({ code: 0, signal: null });
}

/** {@linkcode ends}, and has announced where it listens, and complained of nothing but what `said` matches. */
export async function endsWell(
  server: ServerProcess,
  said: RegExp = /^$/,
  signal?: "SIGTERM" | "SIGINT",
): Promise<void> {
  await ends(server, signal);
  expect(server.stderr).toMatch(said);
  expect(server.lines).toEqual([server.announcement]);
}
