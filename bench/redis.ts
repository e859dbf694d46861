/** examples/redis.ts beside redis-server, under Redis' own benchmark. */
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { Child, output } from "./child.ts";
import { versionOf } from "./compile.ts";
import { inTurn, type Subject } from "./in_turn.ts";
import type { Figures } from "./results.ts";
import { NAMES, RUN, RUNTIMES } from "./runtimes.ts";
import type { Section } from "./sections.ts";

const EXAMPLE = fileURLToPath(new URL("../examples/redis.ts", import.meta.url));
const CLIENTS = 50;
/** What it takes, as Debian calls it. */
const PACKAGES = ["redis-server", "redis-tools"];

interface RedisCase {
  readonly name: string;
  readonly about: string;
  readonly tests: readonly string[];
  /** Requests of a client that are under way at a time. */
  readonly depth: number;
  /** Of a value. */
  readonly bytes: number;
  /** About what a fast server answers: a round is so many requests of each kind. */
  readonly perSecond: number;
}

const ALL = { tests: ["SET", "GET", "INCR", "LPUSH"], bytes: 3 } as const;

/** One request at a time for each client. */
export const REDIS: Section = redis({
  ...ALL,
  name: "redis-1",
  about: "Redis, a request at a time",
  depth: 1,
  perSecond: 60_000,
});

/** Requests gathered, as a client does that has many. */
export const REDIS_PIPELINED: Section = redis({
  ...ALL,
  name: "redis-16",
  about: "Redis, 16 requests at a time",
  depth: 16,
  perSecond: 600_000,
});

/** Values of a page, where it tells how often they are copied. */
export const REDIS_LARGE: Section = redis({
  name: "redis-16-4KiB",
  about: "Redis, 16 requests at a time, values of 4 KiB",
  tests: ["SET", "GET"],
  depth: 16,
  bytes: 4096,
  perSecond: 150_000,
});

interface RedisContestant {
  readonly name: string;
  start(): Promise<{ server: Child; port: number }>;
}

const CONTESTANTS: readonly RedisContestant[] = [
  ...RUNTIMES.map((runtime): RedisContestant => ({
    name: `Spillway on ${NAMES[runtime]}`,
    async start() {
      const server = new Child([...RUN[runtime], EXAMPLE, "--port", "0"]);
      return { server, port: Number((await server.line()).split(":").at(-1)) };
    },
  })),
  {
    name: "redis-server",
    async start() {
      const port = await freePort();
      const server = new Child(["redis-server", "--port", `${port}`, "--save", "", "--appendonly", "no"]);
      while (!(await server.line()).includes("Ready to accept connections"));
      return { server, port };
    },
  },
];

function redis(one: RedisCase): Section {
  const { name, about, tests, depth, bytes, perSecond } = one;
  return {
    name,
    about: `${about}: examples/redis.ts beside redis-server`,
    isQuick: true,
    own: () => CONTESTANTS,
    async run({ rounds, roundMs, chosen }) {
      const title =
        `examples/redis.ts beside redis-server without persistence: requests per second by redis-benchmark ` +
        `-c ${CLIENTS} -P ${depth} -d ${bytes}`;
      const figures = {
        ...Object.fromEntries(tests.map((test) => [test, test])),
        cpuMicros: "CPU µs/request",
        loadPercent: "load CPU %",
      };
      if (versionOf("redis-server", "--version") === undefined || versionOf("redis-cli", "--version") === undefined) {
        return { name, title: `${title}: not here (Debian: ${PACKAGES.join(" and ")})`, figures, entries: [] };
      }
      const requests = Math.ceil(perSecond * roundMs / 1000);
      const entries = await inTurn(name, chosen(CONTESTANTS), rounds, async (contestant) => {
        const subject = new RedisSubject(await contestant.start(), one, requests);
        await subject.round(); // to warm up
        return subject;
      });
      return { name, title, figures, entries };
    },
  };
}

/** A server that redis-benchmark is run against. */
class RedisSubject implements Subject<Figures> {
  readonly #server: Child;
  readonly #port: number;
  readonly #case: RedisCase;
  readonly #requests: number;

  constructor({ server, port }: { server: Child; port: number }, one: RedisCase, requests: number) {
    this.#server = server;
    this.#port = port;
    this.#case = one;
    this.#requests = requests;
  }

  get complaint(): string {
    return this.#server.complaint;
  }

  async round(): Promise<Figures> {
    const { tests, depth, bytes } = this.#case;
    await output(["redis-cli", "-p", `${this.#port}`, "FLUSHALL"]); // a list would grow from round to round
    const cpuBefore = this.#server.cpuSeconds;
    const startedAt = performance.now();
    const lines = await output([
      // What the shell and its children took: user and system.
      ...["sh", "-c", 'redis-benchmark "$@" && times', "sh", "-p", `${this.#port}`, "-c", `${CLIENTS}`, "--csv"],
      ...["-t", tests.join(",").toLowerCase(), "-P", `${depth}`, "-d", `${bytes}`, "-n", `${this.#requests}`],
    ]);
    const seconds = (performance.now() - startedAt) / 1000;
    const perSecond = lines.flatMap((line) => /^"(\w+)","([\d.]+)"/.exec(line)?.slice(1) ?? []);
    const times = [...lines.at(-1)!.matchAll(/(\d+)m([\d.]+)s/g)];
    const loadSeconds = times.reduce((sum, [, minutes, seconds]) => sum + 60 * Number(minutes) + Number(seconds), 0);
    return {
      ...Object.fromEntries(tests.map((test) => [test, Number(perSecond[perSecond.indexOf(test) + 1])])),
      cpuMicros: 1e6 * (this.#server.cpuSeconds - cpuBefore) / (tests.length * this.#requests),
      loadPercent: 100 * loadSeconds / seconds,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
  }
}

/** A port that nobody has, for a server that does not choose one. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
