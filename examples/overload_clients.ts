/**
 * The clients of overload.ts: `overload_clients.ts PORT`. Does what the lines of standard input say, "calm", "flood",
 * "storm" or "leave", and prints a line of JSON ten times a second. They know nothing of Spillway: sockets of the runtime.
 */
import { connect, type Socket } from "node:net";
import process from "node:process";
import { createInterface } from "node:readline";

/** How the clients are. */
export interface ClientsReport {
  /** 99 of 100 pings of the last second were answered faster. */
  readonly p99Ms: number;
  /** Clients of the flood by what they learned. */
  readonly answered: number;
  readonly refused: number;
  readonly hanging: number;
  /** The longest that one who came with the flood had to wait for an answer, be it no. */
  readonly slowestMs: number;
  /** The first client after the flood; absent before it has come. */
  readonly next?: { readonly isServed: boolean; readonly ms: number };
}

const REGULARS = 8;
const PING_MS = 20;
const FLOOD = 150;
const REPORT_MS = 100;
/** Pings that are answered between the flood's leaving, which the server has to read of, and the next client. */
const LEAVE_PINGS = 5 * REGULARS;
const SECOND_MS = 1_000;

const port = Number(process.argv[2]);
let pings: { atMs: number; ms: number }[] = [];
const flood = new Set<Socket>();
let [pongs, answered, refused, slowestMs] = [0, 0, 0, 0];
let isStorm = false;
let next: ClientsReport["next"];
let nextAt = Infinity;

const COMMANDS: Readonly<Record<string, () => void>> = {
  calm() {
    for (let i = 0; i < REGULARS; i++) setTimeout(startRegular, i * PING_MS / REGULARS);
  },
  flood() {
    for (let i = 0; i < FLOOD; i++) startOther();
  },
  storm() {
    isStorm = true;
    for (let i = flood.size; i < FLOOD; i++) startOther();
  },
  leave() {
    isStorm = false;
    for (const socket of flood) socket.destroy();
    nextAt = pongs + LEAVE_PINGS;
  },
};

createInterface(process.stdin).on("line", (line) => COMMANDS[line]!()).on("close", () => process.exit());
setInterval(report, REPORT_MS);

/** Connects and sends a ping; `learned` is called once: with the answer, or when the server hangs up instead. */
function ask(learned: (isAnswered: boolean, ms: number) => void): Socket {
  const startedAtMs = performance.now();
  let isOpen = true;
  const learn = (isAnswered: boolean) => {
    if (isOpen) learned(isAnswered, performance.now() - startedAtMs);
    isOpen = false;
  };
  const socket = connect(port, "127.0.0.1", () => socket.write("ping"));
  return socket.setNoDelay()
    .once("data", () => learn(true))
    .on("error", () => {}) // "close" follows
    .once("close", () => learn(false));
}

/** A client that was there before the flood, and pings as long as it lives. */
function startRegular(): void {
  const socket = ask(() => setInterval(ping, PING_MS));
  let pingedAtMs = 0;
  const ping = () => {
    if (pingedAtMs !== 0) return; // not answered yet
    pingedAtMs = performance.now();
    socket.write("ping");
  };
  socket.on("data", () => {
    const atMs = performance.now();
    if (pingedAtMs === 0) return;
    pings.push({ atMs, ms: atMs - pingedAtMs });
    pingedAtMs = 0;
    if (++pongs === nextAt) ask((isServed, ms) => next = { isServed, ms });
  });
}

/** One of the flood. */
function startOther(): void {
  const socket = ask((isAnswered, ms) => {
    if (!isStorm) slowestMs = Math.max(slowestMs, ms);
    if (isAnswered) {
      answered++;
      return;
    }
    flood.delete(socket);
    refused++;
    if (isStorm) startOther();
  });
  flood.add(socket);
}

function report(): void {
  const now = performance.now();
  pings = pings.filter(({ atMs }) => atMs > now - SECOND_MS);
  const sorted = pings.map(({ ms }) => ms).sort((a, b) => a - b);
  const p99Ms = sorted[Math.floor(0.99 * sorted.length)] ?? 0;
  const figures = { p99Ms, answered, refused, hanging: flood.size - answered, slowestMs, next };
  console.log(JSON.stringify(figures satisfies ClientsReport));
}
