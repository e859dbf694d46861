import { setTimeout as sleep } from "node:timers/promises";
import { Child } from "./child.ts";
import type { Contestant } from "./contestants.ts";
import type { Generator, Load, LoadPlan } from "./generator.ts";
import type { Subject } from "./in_turn.ts";
import type { Entry, Round } from "./results.ts";
import type { ServerMode } from "./workloads.ts";

/** How long a server may take to forget the clients of a round, or to have nothing more to do. */
const SETTLE_MS = 10_000;
/** How many warm up a server that is then measured with fewer. */
const WARM_CLIENTS = 8;
/** Descriptors that a runtime may open for itself while it serves. */
const OWN_DESCRIPTORS = 16;

/** A contestant that serves one workload. */
export class MeasuredServer implements Subject<Round> {
  readonly #child: Child;
  readonly #generator: Generator;
  readonly #plan: LoadPlan;
  #port = 0;
  #descriptors = 0;

  private constructor(child: Child, generator: Generator, plan: LoadPlan) {
    this.#child = child;
    this.#generator = generator;
    this.#plan = plan;
  }

  /** Starts it, and waits until it listens. */
  static async start(contestant: Contestant, mode: ServerMode, generator: Generator, plan: LoadPlan) {
    const server = new MeasuredServer(new Child(contestant.command(mode, plan.total)), generator, plan);
    server.#port = Number(await server.#child.line());
    server.#descriptors = server.#child.descriptors;
    return server;
  }

  /** Lets its code be compiled, and where there is strace(1), counts its system calls for each message meanwhile. */
  async warm(ms: number, withStrace: boolean): Promise<Pick<Entry, "syscalls" | "traced">> {
    // Few messages compile nothing, and what was compiled for a single client is compiled anew for the next.
    if (this.#plan.interval > 0) {
      const clients = Math.max(WARM_CLIENTS, this.#plan.clients);
      await this.#load({ ...this.#plan, clients, interval: 0, ms });
    }
    let summary = "";
    const load = await this.#load({ ...this.#plan, warmup: ms, ms: withStrace ? ms : 1 }, async () => {
      if (!withStrace) return async () => {};
      await this.#settled(() => this.#child.isAsleep); // or the end of a call is counted that was begun for the message before
      const strace = new Child(["strace", "-c", "-f", "-p", `${this.#child.pid}`]);
      await strace.until(() => /attached/.test(strace.stderr));
      return async () => {
        await this.#settled(() => this.#child.isAsleep); // the call that sent the last answer has returned
        strace.kill("SIGINT");
        await strace.ended;
        summary = strace.stderr;
      };
    });
    if (!withStrace) return {};
    return { syscalls: callsOf(summary, load.messages), traced: load.messages };
  }

  get complaint(): string {
    return this.#child.complaint;
  }

  /** One round. */
  async round(): Promise<Round> {
    const load = await this.#load(this.#plan);
    const { seconds, messages, p50, p99, p999, userTicks, systemTicks } = load;
    return {
      perSecond: messages / seconds,
      ...p50 > 0 ? { p50, p99, p999 } : {},
      cpuMicros: 1e6 * load.serverSeconds / messages,
      userTicks,
      systemTicks,
      serverPercent: 100 * load.serverSeconds / seconds,
      loadPercent: 100 * load.loadSeconds / seconds,
      residentMiB: load.residentKiB / 1024,
    };
  }

  /** Kills it and waits for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
  }

  async #load(plan: LoadPlan, watch?: () => Promise<() => Promise<void>>): Promise<Load> {
    const load = await this.#generator.run(this.#child, this.#port, plan, watch).catch((error) => {
      throw new Error(`${error.message}; the server said: ${this.complaint || "nothing"}`);
    });
    if (load.messages === 0) throw new Error("no message was answered in time: measure for longer");
    // The next one is measured when this one has nothing left to do.
    await this.#settled(() => this.#child.descriptors <= this.#descriptors + OWN_DESCRIPTORS);
    return load;
  }

  /** Waits for `isSettled`, for as long as a server may take. */
  async #settled(isSettled: () => boolean): Promise<void> {
    const deadline = performance.now() + SETTLE_MS;
    while (!isSettled() && performance.now() < deadline) await sleep(5);
  }
}

/** System calls for each message, from the summary of `strace -c`. */
function callsOf(summary: string, messages: number): Record<string, number> {
  const rows = summary.matchAll(/^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?([a-z]\w*)$/gm);
  const calls = [...rows].map(([, count, name]) => [name!, Number(count) / messages] as const);
  return Object.fromEntries(calls.filter(([name]) => name !== "total"));
}
