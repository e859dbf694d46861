import { setTimeout as sleep } from "node:timers/promises";
import { median, quantile } from "../figures.ts";
import { type Client, Clients, type Outcome } from "./clients.ts";
import type { Contestant } from "./contestants.ts";
import { ServerProcess, type Start } from "./server_process.ts";

/** How much is measured. */
export interface Plan {
  /** Soft and hard descriptor limit of the server. */
  readonly limit: number;
  /** Clients that connect at once; 1: clients connect one by one until one finds no room. */
  readonly excess: number;
  /** Times that the flood comes, holds and leaves; figures are medians. */
  readonly rounds: number;
  /** How long latencies are looked at, and then CPU: without the flood, and while it holds. */
  readonly windowMs: number;
  /** The same while refused clients connect again at once; 0: not tried. */
  readonly stormMs: number;
  /** Short floods one after the other; 0: not tried. */
  readonly episodes: number;
}

/** How the established clients and the server are. */
export interface Load {
  /** CPU time of the server, in percent of one CPU. */
  readonly cpuPercent: number;
  readonly samples: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** What came of many short floods. */
export interface Episodes {
  readonly count: number;
  /** After how many the next client was not served at its first attempt. */
  readonly failed: number;
  readonly descriptors: readonly [before: number, after: number];
  readonly residentMiB: readonly [before: number, after: number];
}

/** What came of a client that connects once the flood has left. */
export interface Next {
  /** Until it was served; `Infinity` if it never was. */
  readonly ms: number;
  readonly attempts: number;
}

/** What was measured of one contestant with one plan; absent where the server did not live to see it. */
export interface Result {
  readonly contestant: string;
  readonly isSpillway: boolean;
  readonly limit: number;
  readonly excess: number;
  start: Start;
  survives: boolean;
  idle?: Load;
  held?: Load;
  storm?: Load & { readonly reconnectsPerSecond: number };
  outcomes?: Readonly<Partial<Record<Outcome, number>>>;
  /** The last of those that learned anything. */
  learnedWithinMs?: number;
  /** Kinds of the events of overload that the application was told of the first flood. */
  told?: readonly string[];
  next?: Next;
  logLinesPerMinute?: number;
  episodes?: Episodes;
  /** Another server, flooded 0.1 s after its start. */
  early?: { readonly survives: boolean; readonly next: Next };
}

const ESTABLISHED = 8;
const PINGS_PER_SECOND = 2_000;
/** While CPU is looked at, pings are so much rarer: what they cost varies more than what is looked for. */
const SLOWER = 10;
/** Runtimes open descriptors for themselves in their first second, and compile what runs often. */
const SETTLE_MS = 1_200;
/** The flood's first moments are no state that lasts: CPU is measured from here on. */
const FLOODING_MS = 300;
/** Until overload is over by Spillway's definition, and a little more: see src/episode.ts. */
const QUIET_MS = 5_000;
const QUIET_MIN_MS = 300;
const ATTEMPT_MS = 1_000;
const RETRY_MS = 100;
const NEXT_MS = 3_000;
const LEARN_MS = 1_000;
/** Clients of a short flood: few enough that their refusals need no budget, which would only make the wait longer. */
const EPISODE_CLIENTS = 60;
/** Nobody learned anything for so long: those who have not do not. */
const SILENCE_MS = 100;
/** Where somebody hangs in each, there is not the time for all of them. */
const EPISODES_MS = 90_000;
const EARLY_MS = 100;
const EARLY_CLIENTS = 150;

/** Measures one contestant. A server that dies ends its measures, not the run. */
export async function measure(contestant: Contestant, plan: Plan): Promise<Result> {
  const { name, command, isSpillway } = contestant;
  const { limit, excess } = plan;
  const result: Result = { contestant: name, isSpillway, limit, excess, start: "died", survives: false };
  await using server = new ServerProcess(command, limit);
  result.start = await server.started;
  if (result.start !== "listens") return result;
  const establishedCount = limit < 48 ? 2 : ESTABLISHED;
  using clients = new Clients(server.port, 1000 * establishedCount / PINGS_PER_SECOND, () => server.isAlive);
  const scene = new Scene(server, clients, plan);
  await scene.establish(establishedCount);
  await clients.during(SETTLE_MS);
  await scene.rounds(result);
  if (server.isAlive && plan.stormMs > 0) result.storm = await scene.storm();
  if (server.isAlive && plan.episodes > 0) result.episodes = await scene.episodes();
  result.logLinesPerMinute = server.logLinesPerMinute;
  result.survives = server.isAlive;
  result.early = await measureEarly(contestant, limit);
  return result;
}

async function measureEarly({ command }: Contestant, limit: number): Promise<Result["early"]> {
  await using server = new ServerProcess(command, limit);
  await server.started;
  await sleep(EARLY_MS);
  using clients = new Clients(server.port, 1000, () => server.isAlive);
  const scene = new Scene(server, clients, {
    limit,
    excess: EARLY_CLIENTS,
    rounds: 1,
    windowMs: 0,
    stormMs: 0,
    episodes: 0,
  });
  await scene.flood();
  await clients.during(SETTLE_MS);
  clients.leave();
  const next = await scene.next();
  return { survives: server.isAlive, next };
}

/** A server, its clients, and what happens to them. */
class Scene {
  readonly #server: ServerProcess;
  readonly #clients: Clients;
  readonly #plan: Plan;

  constructor(server: ServerProcess, clients: Clients, plan: Plan) {
    this.#server = server;
    this.#clients = clients;
    this.#plan = plan;
  }

  /** Connects those that ping. */
  async establish(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const client = this.#clients.connect();
      await this.#clients.until(() => client.outcome !== "hanging", LEARN_MS);
      if (client.outcome !== "answered") return client.close();
      this.#clients.establish(client);
    }
  }

  /** The flood comes, holds and leaves, again and again. */
  async rounds(result: Result): Promise<void> {
    const [idle, held, nexts, learned]: [Load[], Load[], Next[], number[]] = [[], [], [], []];
    for (let round = 0; round < this.#plan.rounds && this.#server.isAlive; round++) {
      idle.push(await this.#load(this.#plan.windowMs));
      held.push(await this.#load(this.#plan.windowMs, () => this.flood()));
      const informed = this.#clients.flood.filter(({ outcome }) => outcome !== "hanging");
      learned.push(Math.max(0, ...informed.map(({ learnedAfterMs }) => learnedAfterMs).filter((ms) => ms === ms)));
      result.outcomes ??= count(this.#clients.flood);
      this.#clients.leave();
      nexts.push(await this.next());
      await this.#quiet();
      result.told ??= [...this.#server.told];
    }
    result.idle = typical(idle);
    if (!this.#server.isAlive) return;
    result.held = typical(held);
    result.learnedWithinMs = median(learned);
    // At the first attempt in every round; how fast is the machine's business as well.
    result.next = {
      ms: median(nexts.map(({ ms }) => ms)),
      attempts: Math.max(...nexts.map(({ attempts }) => attempts)),
    };
  }

  /** Fills the server. With one client more than it has room for, one by one; else all at once. */
  async flood(): Promise<void> {
    const { flood } = this.#clients;
    if (this.#plan.excess > 1) {
      for (let i = 0; i < this.#plan.excess; i++) flood.push(this.#clients.connect());
      await this.#clients.during(FLOODING_MS);
      return;
    }
    for (let isRoom = true; isRoom && this.#server.isAlive;) {
      const client = this.#clients.connect();
      flood.push(client);
      isRoom = await this.#clients.until(() => client.outcome !== "hanging", FLOODING_MS) && !client.isRefused;
    }
  }

  /** Connects, again and again where that is refused, until answered. */
  async next(): Promise<Next> {
    const startedAtMs = performance.now();
    for (let attempts = 1;; attempts++) {
      const client = this.#clients.connect();
      await this.#clients.until(() => client.outcome !== "hanging", ATTEMPT_MS);
      client.close();
      const ms = performance.now() - startedAtMs;
      if (client.outcome === "answered") return { ms, attempts };
      if (ms > NEXT_MS || !this.#server.isAlive) return { ms: Infinity, attempts };
      await this.#clients.during(RETRY_MS);
    }
  }

  /** Those who are refused connect again at once, for a while. */
  async storm(): Promise<Result["storm"]> {
    const clients = this.#clients;
    clients.isStorm = true;
    const startedAtMs = performance.now();
    const load = await this.#load(this.#plan.stormMs, () => this.flood());
    const reconnectsPerSecond = 1000 * clients.reconnects / (performance.now() - startedAtMs);
    clients.isStorm = false;
    clients.leave();
    await this.#quiet();
    return { ...load, reconnectsPerSecond };
  }

  /** Short floods, each until everybody knows, the next one at once after the last. */
  async episodes(): Promise<Episodes> {
    const tenth = Math.ceil(this.#plan.episodes / 10); // the first of them warms the server up
    const server = this.#server;
    const residentMiB: number[] = [];
    let [failed, descriptors] = [0, NaN];
    const deadline = performance.now() + EPISODES_MS;
    for (let i = 0; i < tenth + this.#plan.episodes && server.isAlive && performance.now() < deadline; i++) {
      if (i === tenth) {
        await this.#quiet();
        [failed, descriptors] = [0, server.descriptors];
      }
      if (!await this.#episode()) failed++;
      residentMiB.push(server.residentMiB);
    }
    await this.#quiet();
    // The least of each: garbage that is not yet collected is no leak.
    const [first, last] = [residentMiB.slice(tenth, 2 * tenth), residentMiB.slice(-tenth)];
    return {
      count: Math.max(0, residentMiB.length - tenth),
      failed,
      descriptors: [descriptors, server.descriptors],
      residentMiB: [Math.min(...first), Math.min(...last)],
    };
  }

  /** Waits until nothing of the flood is left to be done. */
  async #quiet(): Promise<void> {
    const { told } = this.#server;
    await this.#clients.during(QUIET_MIN_MS);
    await this.#clients.until(() => told.at(-1) !== "start", QUIET_MS);
  }

  /** Returns whether the client that comes after it is served at its first attempt. */
  async #episode(): Promise<boolean> {
    const clients = this.#clients;
    for (let i = 0; i < EPISODE_CLIENTS; i++) clients.flood.push(clients.connect());
    clients.learnedAtMs = performance.now();
    const isOver = () =>
      performance.now() > clients.learnedAtMs + SILENCE_MS ||
      clients.flood.every(({ outcome }) => outcome !== "hanging");
    await clients.until(isOver, LEARN_MS);
    // The server may still be accepting: a client that comes this moment is looked at before those who leave. Once each
    // of the established clients may have been answered twice, that turn is over.
    const answers = clients.latenciesMs.length + 2 * clients.established.length;
    await clients.until(() => clients.latenciesMs.length > answers, LEARN_MS);
    clients.leave();
    return (await this.next()).attempts === 1;
  }

  /** Latencies from `begin` on, and CPU after that, each for `ms`. */
  async #load(ms: number, begin: () => Promise<void> = () => Promise.resolve()): Promise<Load> {
    const clients = this.#clients;
    clients.latenciesMs = [];
    await begin();
    await clients.during(ms);
    const { latenciesMs } = clients;
    const latencies = { samples: latenciesMs.length, p50Ms: median(latenciesMs), p99Ms: quantile(latenciesMs, 0.99) };
    clients.pingEveryMs *= SLOWER;
    const [startedAtMs, before] = [performance.now(), this.#server.cpuSeconds];
    await clients.during(ms);
    const cpuPercent = 100_000 * (this.#server.cpuSeconds - before) / (performance.now() - startedAtMs);
    clients.pingEveryMs /= SLOWER;
    return { cpuPercent, ...latencies };
  }
}

function count(clients: readonly Client[]): Partial<Record<Outcome, number>> {
  const counts: Partial<Record<Outcome, number>> = {};
  for (const { outcome } of clients) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

/** Each figure's median. */
function typical(loads: readonly Load[]): Load {
  const of = (figure: keyof Load) => median(loads.map((load) => load[figure]));
  return { cpuPercent: of("cpuPercent"), samples: of("samples"), p50Ms: of("p50Ms"), p99Ms: of("p99Ms") };
}
