/**
 * What load.c does, for machines without a C compiler: the same arguments, the same line. Runs under Bun, and is slower
 * than some of the servers it measures; all clients have one address.
 */
import type { Socket } from "bun";
import { readFileSync } from "node:fs";
import process from "node:process";
import type { Load } from "./generator.ts";

interface Client {
  missing: number;
  unsent: number;
  /** When each message under way was sent, oldest first. */
  readonly sentAt: number[];
  onAnswer: (answers: number) => void;
}

const given = Object.fromEntries(process.argv.slice(2).map((each) => each.split("=") as [string, string]));
const mode = given.mode!;
const [port, pid, clients, idle, bytes, depth, interval, warmup, ms, wait, total] = [
  "port",
  "pid",
  "clients",
  "idle",
  "bytes",
  "depth",
  "interval",
  "warmup",
  "ms",
  "wait",
  "total",
].map((key) => Number(given[key]));

const TICKS_PER_SECOND = 100;
const CONNECTS_AT_ONCE = 128;
const TRACED_CLIENTS = 256;
const SILENCE_MS = 15_000;
const message = new Uint8Array(2 * bytes! * depth!).map((_, i) => i % bytes! % 251);
const latencies: number[] = [];
let [messages, underWay, isOver, isMeasured] = [0, 0, false, false];
let onIdle = () => {};
const lines = console[Symbol.asyncIterator]();

/** User and system ticks of a process. */
function ticks(of: number): [number, number] {
  const stat = readFileSync(`/proc/${of}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return [Number(fields[11]), Number(fields[12])];
}

function flush(socket: Socket<Client>): void {
  const { data } = socket;
  while (data.unsent > 0) {
    const from = (bytes! - data.unsent % bytes!) % bytes!;
    const sent = socket.write(message.subarray(from, from + Math.min(data.unsent, bytes! * depth!)));
    if (sent <= 0) return;
    data.unsent -= sent;
  }
}

function ask(socket: Socket<Client>, count: number): void {
  const { data } = socket;
  underWay += count;
  for (let i = 0; i < count; i++) data.sentAt.push(performance.now());
  data.missing += count * bytes!;
  data.unsent += count * bytes!;
  flush(socket);
}

function answered(startedAt: number, count: number): void {
  if (isMeasured) latencies.push(performance.now() - startedAt);
  messages += count;
}

function done(count: number): void {
  underWay -= count;
  if (underWay === 0) onIdle();
}

function dial(): Promise<Socket<Client>> {
  return Bun.connect<Client>(
    {
      hostname: "127.0.0.1",
      port: port!,
      socket: {
        open(socket) {
          socket.data = { missing: 0, unsent: 0, sentAt: [], onAnswer() {} };
          socket.setNoDelay(true);
        },
        data(socket, { byteLength }) {
          const { data } = socket;
          const before = Math.ceil(data.missing / bytes!);
          data.missing -= byteLength;
          const answers = before - Math.ceil(data.missing / bytes!);
          if (answers > 0) data.onAnswer(answers);
        },
        drain: flush,
        error(_, error) {
          throw error;
        },
      },
    },
  );
}

/** One message there and back. */
function probe(socket: Socket<Client>): Promise<void> {
  return new Promise((resolve) => {
    socket.data.onAnswer = (answers) => {
      socket.data.sentAt.length = 0;
      underWay -= answers;
      resolve();
    };
    ask(socket, 1);
  });
}

async function connectAll(count: number): Promise<Socket<Client>[]> {
  const all: Socket<Client>[] = [];
  while (all.length < count) {
    const some = await Promise.all(
      Array.from({ length: Math.min(CONNECTS_AT_ONCE, count - all.length) }, () => dial()),
    );
    await Promise.all(some.map(probe));
    all.push(...some);
  }
  return all;
}

async function churn(): Promise<void> {
  while (!isOver) {
    const startedAt = performance.now();
    underWay++;
    const socket = await dial();
    await probe(socket);
    answered(startedAt, 1);
    socket.end();
    done(1);
  }
}

function begin(all: readonly Socket<Client>[]): void {
  isOver = false;
  if (mode === "churn") {
    for (let i = 0; i < clients!; i++) void churn();
  } else if (mode === "broadcast") {
    let undelivered = clients!;
    for (const { data } of all) {
      data.missing = 0;
      data.onAnswer = (answers) => {
        undelivered -= answers;
        if (undelivered > 0) return;
        undelivered = clients!;
        answered(all[0]!.data.sentAt.shift()!, clients!);
        done(1);
        if (!isOver) ask(all[0]!, 1);
      };
    }
    ask(all[0]!, 1);
  } else {
    for (const socket of all) {
      socket.data.onAnswer = (answers) => {
        for (let i = 0; i < answers; i++) answered(socket.data.sentAt.shift()!, 1);
        done(answers);
        if (!isOver && interval === 0) ask(socket, answers);
      };
      ask(socket, depth!);
    }
    if (interval! > 0) sendAtIntervals(all);
  }
}

/** One after the other. */
function sendAtIntervals(all: readonly Socket<Client>[]): void {
  for (const [i, socket] of all.entries()) {
    setTimeout(() => {
      const timer = setInterval(() => {
        if (isOver) return clearInterval(timer);
        if (socket.data.missing === 0) ask(socket, depth!);
      }, interval);
    }, i * interval! / all.length);
  }
}

function comeIn(): Promise<void> {
  isOver = true;
  return new Promise((resolve) => {
    onIdle = resolve;
    if (underWay === 0) resolve();
  });
}

async function sayReady(): Promise<void> {
  console.log("ready");
  await lines.next();
}

/** One transfer. */
async function pour(): Promise<void> {
  const chunk = new Uint8Array(256 * 1024);
  await new Promise<void>((resolve, reject) => {
    let left = total!;
    const send = (socket: Socket) => {
      while (left > 0) {
        const sent = socket.write(chunk.subarray(0, Math.min(left, chunk.byteLength)));
        left -= Math.max(0, sent);
        if (sent < chunk.byteLength) return;
      }
    };
    Bun.connect({
      hostname: "127.0.0.1",
      port: port!,
      socket: {
        open: (socket) => void (mode === "in" ? send(socket) : socket.write(message.subarray(0, bytes))),
        drain: (socket) => void (mode === "in" && send(socket)),
        data(_, { byteLength }) {
          if (mode === "out") left -= byteLength;
          if (left === 0) resolve();
        },
        close: () => reject(new Error("Cannot measure: the server ended a connection")),
      },
    }).catch(reject);
  });
  messages = total! / 1024 / 1024;
}

const isBulk = mode === "in" || mode === "out";
const all: Socket<Client>[] = [];
if (!isBulk) {
  if (mode !== "churn") {
    await connectAll(idle!);
    all.push(...await connectAll(clients!));
  }
  begin(all);
  await Bun.sleep(warmup!);
}
if (wait) {
  if (!isBulk) await comeIn();
  await sayReady();
  if (!isBulk) begin(mode === "broadcast" ? all : all.slice(0, TRACED_CLIENTS));
}
[messages, isMeasured] = [0, true];
const [startedAt, before, own] = [performance.now(), ticks(pid!), process.cpuUsage()];
await (isBulk ? pour() : Bun.sleep(ms!));
while (messages === 0 && (interval === 0 || interval! < ms!) && performance.now() - startedAt < SILENCE_MS) {
  await Bun.sleep(1);
}
isMeasured = false;
if (wait && !isBulk) await comeIn();
const [userTicks, systemTicks] = ticks(pid!).map((each, i) => each - before[i]!) as [number, number];
const { user, system } = process.cpuUsage(own);
latencies.sort((a, b) => a - b);
const percentile = (share: number) => 1000 * (latencies[Math.ceil(share * latencies.length) - 1] ?? 0);
const memory = (name: string) =>
  Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]);
const load: Load = {
  seconds: (performance.now() - startedAt) / 1000,
  messages,
  p50: percentile(0.5),
  p99: percentile(0.99),
  p999: percentile(0.999),
  serverSeconds: (userTicks + systemTicks) / TICKS_PER_SECOND,
  userTicks,
  systemTicks,
  loadSeconds: (user + system) / 1e6,
  residentKiB: memory("VmRSS"),
  anonymousKiB: memory("RssAnon"),
};
console.log(JSON.stringify(load));
if (wait) await lines.next();
process.exit(0);
