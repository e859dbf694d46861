import { fileURLToPath } from "node:url";
import { Child } from "./child.ts";
import { compileC } from "./compile.ts";
import type { LoadMode } from "./workloads.ts";

/** What the clients of a server are told: load.c says what each means. */
export interface LoadPlan {
  readonly mode: LoadMode;
  readonly clients: number;
  readonly idle: number;
  readonly bytes: number;
  readonly depth: number;
  readonly interval: number;
  readonly total: number;
  readonly warmup: number;
  readonly ms: number;
}

/** What the clients saw of it. Latencies in microseconds; 0: none were taken. */
export interface Load {
  readonly seconds: number;
  readonly messages: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  /** CPU time of the server. */
  readonly serverSeconds: number;
  /** How that is shared: ticks of the kernel's clock, which are not as exact. */
  readonly userTicks: number;
  readonly systemTicks: number;
  /** CPU time of the clients themselves. */
  readonly loadSeconds: number;
  /** Memory of the server, at the end. */
  readonly residentKiB: number;
  /** The part of it that is of no file. */
  readonly anonymousKiB: number;
}

/** Starts clients. */
export class Generator {
  /** Whether it is the program in C. The other is slower than some servers, and says so in the table. */
  readonly isC: boolean;
  readonly #command: readonly string[];

  /** @param mayCompile False: as if there were no compiler. */
  constructor(mayCompile: boolean) {
    const program = mayCompile ? compileC(fileURLToPath(new URL("./load.c", import.meta.url))) : undefined;
    this.isC = program !== undefined;
    const bun = fileURLToPath(new URL("../node_modules/.bin/bun", import.meta.url));
    this.#command = program === undefined ? [bun, fileURLToPath(new URL("./load.ts", import.meta.url))] : [program];
  }

  /**
   * Runs clients once. `watch` is called when they are warm and have paused, and what it returns when they are done but
   * still connected.
   */
  async run(server: Child, port: number, plan: LoadPlan, watch?: () => Promise<() => Promise<void>>): Promise<Load> {
    const settings = { ...plan, port, pid: server.pid, wait: watch === undefined ? 0 : 1 };
    const args = Object.entries(settings).map(([key, value]) => `${key}=${value}`);
    await using load = new Child([...this.#command, ...args]);
    // It ends by itself when the server does not answer.
    if (watch === undefined) return JSON.parse(await load.line(Infinity));
    await load.line(Infinity);
    const end = await watch();
    load.say("go");
    const result = JSON.parse(await load.line(Infinity));
    await end();
    load.endInput();
    await load.ended;
    return result;
  }
}
