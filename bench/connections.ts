/**
 * What very many open connections cost a server, most of them silent: Spillway's beside the runtimes' own sockets, in one
 * run: `npm run bench:connections`.
 *
 *     npm run bench:connections -- --connections 10000 --rounds 3 --seconds 3 --only "bun:"
 *
 * Each contestant is measured in turn, round after round, so that a slow minute of the machine hits all of them. Server
 * and clients are processes of their own; memory and CPU are the server's, from /proc.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { RLIMIT } from "../ffi/constants.ts";
import type { Rlimit } from "../ffi/layout.ts";
import { getrlimit } from "../ffi/syscalls.ts";
import { median, spread } from "./figures.ts";
import { killServers, ServerProcess } from "./overload/server_process.ts";
import { OWN, RUN, type Runtime } from "./runtimes.ts";

const { values } = parseArgs({
  options: {
    connections: { type: "string", default: "10000" },
    rounds: { type: "string", default: "3" },
    /** How long CPU is looked at: with all connections silent, and then with one in a hundred talking. */
    seconds: { type: "string", default: "3" },
    /** Messages a second of each client that talks. */
    rate: { type: "string", default: "20" },
    /** Contestants whose name contains this; several times for several. */
    only: { type: "string", multiple: true, default: [""] },
    /** Clients that come from one address, 127.0.0.1 and those that follow; by default as many as it has ports. */
    "per-address": { type: "string" },
  },
});

/** What a server's runtime, and Spillway's reserve and headroom, need beside the connections. */
const SPARE_DESCRIPTORS = 256;
/** The part of an address's ports that is used: others use some too. */
const PORTS_PART = 0.8;
/** For what a runtime does on its own time after something has happened. */
const SETTLE_MS = 500;

const HERE = fileURLToPath(new URL("./", import.meta.url));
const CONTESTANTS = (Object.keys(RUN) as Runtime[])
  .flatMap((runtime) => [
    { name: `${runtime}: Spillway`, command: [...RUN[runtime], `${HERE}servers/spillway.ts`, "level"] },
    {
      name: `${runtime}: Spillway, runBlocking()`,
      command: [...RUN[runtime], `${HERE}servers/spillway.ts`, "level", "blocking"],
    },
    { name: OWN[runtime], command: [...RUN[runtime], `${HERE}servers/${runtime}.ts`] },
  ])
  .filter(({ name }) => values.only.some((part) => name.includes(part)));

const { hard } = getrlimit(RLIMIT.nofile) as Rlimit;
const asked = Number(values.connections);
const connections = Math.min(asked, hard - SPARE_DESCRIPTORS);
const [firstPort, lastPort] = readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8").split("\t").map(Number);
const perAddress = Number(values["per-address"] ?? Math.floor(PORTS_PART * (lastPort! - firstPort!)));

/** What a client process says of the phase in which one in a hundred talks. */
interface Talk {
  readonly messages: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** One round of one contestant. */
interface Figures extends Talk {
  /** User-space memory of a connection that was answered once and is silent. */
  readonly bytesEach: number;
  /** CPU of the server while all are silent, in percent of one. */
  readonly idlePercent: number;
  /** CPU of the server for one message, of those that one in a hundred sends. */
  readonly cpuMicros: number;
}

/** The clients of one server, in a process of their own. */
class Load {
  readonly #child;
  readonly #lines: AsyncIterator<string>;

  constructor(port: number) {
    const args = [port, connections, perAddress, values.rate, values.seconds].map(String);
    const [program, ...rest] = [...RUN.bun, `${HERE}connections_load.ts`, ...args];
    this.#child = spawn(program!, rest, { stdio: ["pipe", "pipe", "inherit"] });
    this.#lines = createInterface(this.#child.stdout)[Symbol.asyncIterator]();
  }

  /** Has it do something, and returns what it says of that. */
  async do<T>(phase: "warm" | "open" | "talk"): Promise<T> {
    this.#child.stdin.write(`${phase}\n`);
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`Cannot measure: the clients ended in phase "${phase}"`);
    return JSON.parse(value);
  }

  [Symbol.dispose](): void {
    this.#child.kill("SIGKILL");
  }
}

async function measure(command: readonly string[]): Promise<Figures> {
  await using server = new ServerProcess(command, connections + SPARE_DESCRIPTORS);
  const start = await server.started;
  if (start !== "listens") throw new Error(`Cannot measure: ${command.at(-1)} ${start}`);
  using load = new Load(server.port);
  await load.do("warm");
  await sleep(SETTLE_MS);
  const emptyMiB = server.residentMiB;
  await load.do("open");
  await sleep(SETTLE_MS);
  const [idleFromMs, idleFrom] = [performance.now(), server.cpuSeconds];
  await sleep(1_000 * Number(values.seconds));
  // A thread that has ended took its time with it.
  const idleSeconds = Math.max(0, server.cpuSeconds - idleFrom);
  const idlePercent = 100_000 * idleSeconds / (performance.now() - idleFromMs);
  const bytesEach = 1024 * 1024 * (server.residentMiB - emptyMiB) / connections;
  const talkFrom = server.cpuSeconds;
  const talk = await load.do<Talk>("talk");
  return { ...talk, bytesEach, idlePercent, cpuMicros: 1e6 * (server.cpuSeconds - talkFrom) / talk.messages };
}

process.on("exit", killServers);
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => process.exit(signal === "SIGINT" ? 130 : 143));
}

if (CONTESTANTS.length === 0) {
  console.error('Nobody to measure: --only is part of a name such as "bun: Spillway"');
  process.exit(2);
}
const results = CONTESTANTS.map((contestant) => ({ ...contestant, rounds: [] as Figures[] }));
for (let round = 1; round <= Number(values.rounds); round++) {
  for (const { name, command, rounds } of results) {
    process.stderr.write(`\rround ${round} of ${values.rounds}: ${name.padEnd(30)}`);
    rounds.push(await measure(command));
  }
}
process.stderr.write("\r".padEnd(60) + "\r");

const COLUMNS: readonly (readonly [title: string, cell: (rounds: readonly Figures[]) => string])[] = [
  ["memory each, KiB", (rounds) => spread(rounds.map(({ bytesEach }) => bytesEach / 1024), 2)],
  ["idle CPU, %", (rounds) => spread(rounds.map(({ idlePercent }) => idlePercent), 2)],
  ["CPU a message, µs", (rounds) => spread(rounds.map(({ cpuMicros }) => cpuMicros), 1)],
  ["p50, ms", (rounds) => median(rounds.map(({ p50Ms }) => p50Ms)).toFixed(2)],
  ["p99, ms", (rounds) => spread(rounds.map(({ p99Ms }) => p99Ms), 2)],
  ["messages/s", (rounds) => median(rounds.map(({ perSecond }) => perSecond)).toFixed(0)],
];
const rows = [
  ["", ...COLUMNS.map(([title]) => title)],
  ...results.map(({ name, rounds }) => [name, ...COLUMNS.map(([, cell]) => cell(rounds))]),
];
const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));

const active = Math.ceil(connections / 100);
const addresses = Math.ceil(connections / perAddress);
console.log(`${connections} connections from ${addresses} ${addresses === 1 ? "address" : "addresses"}`);
if (connections < asked) console.log(`(${asked} were asked for, and the hard descriptor limit is ${hard})`);
console.log(
  `Each was answered once, then all are silent, then ${active} of them send 64 B ${values.rate} times a second each.\n` +
    `Median (min to max) of ${values.rounds}; ${availableParallelism()} CPUs, load average ${
      loadavg().map((load) => load.toFixed(1)).join(", ")
    }. Memory is what the server's process has resident\nmore than before they came; sockets in the kernel are not counted.\n`,
);
for (const [name, ...cells] of rows) {
  console.log(name!.padEnd(widths[0]!) + cells.map((cell, i) => `  ${cell.padStart(widths[i + 1]!)}`).join(""));
}
