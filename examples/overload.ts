/**
 * Watch a server run out of descriptors, and go on: 64 of them, and 150 clients at once.
 *
 *     npm run demo
 *     npm run demo -- --runtime bun      # deno, bun or node
 *     npm run demo -- --phase-ms 1000    # a shorter show
 *
 * Three processes: the server (overload_server.ts), its clients (overload_clients.ts), and this one, which watches.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseFlags, refuse } from "./command_line.ts";
import type { ClientsReport } from "./overload_clients.ts";
import { createScreen, type Figures, PHASES } from "./overload_screen.ts";
import type { ServerReport } from "./overload_server.ts";

const LIMIT = 64;
const START_MS = 30_000;
const END_MS = 20_000;
const LOOK_MS = 200;
const TICKS_PER_SECOND = 100; // time(7)

const RUNTIMES = {
  deno: ["deno", "run", "--no-prompt", "--allow-ffi", "--allow-net"],
  bun: ["bun"],
  node: ["node", "--disable-warning=ExperimentalWarning"],
};

const flags = parseFlags({
  "runtime": { type: "string", default: "deno" },
  "phase-ms": { type: "string", default: "3500" },
  "help": { type: "boolean", short: "h", default: false },
});
if (flags.help) {
  console.log(`Usage: npm run demo -- [flags]

  --runtime deno|bun|node  where the server and its clients run (deno)
  --phase-ms N             how long each of the four phases lasts (3500)
`);
  process.exit(0);
}
const runtime = flags.runtime as keyof typeof RUNTIMES;
if (!Object.hasOwn(RUNTIMES, runtime)) refuse(`--runtime is deno, bun or node, not "${runtime}"`);
const phaseMs = Number(flags["phase-ms"]);
if (!(phaseMs > 0 && phaseMs < Infinity)) refuse(`--phase-ms takes a number above 0, not "${flags["phase-ms"]}"`);

const children = new Set<ChildProcess>();
process.on("exit", () => children.forEach((child) => child.kill("SIGKILL")));
process.on("SIGINT", () => process.exit(130));
process.on("SIGTERM", () => process.exit(143));

let server: ServerReport | undefined;
const serverProcess = start<ServerReport>(`ulimit -n ${LIMIT}`, "overload_server.ts", [], (report) => server = report);
await until(() => server !== undefined, START_MS, "the server");

let clients: ClientsReport | undefined;
const clientsProcess = start<ClientsReport>(
  "ulimit -n $(ulimit -Hn)",
  "overload_clients.ts",
  [`${server!.port}`],
  (report) => {
    clients = report;
  },
);
await until(() => clients !== undefined, START_MS, "the clients");

const screen = createScreen(`${runtime[0]!.toUpperCase()}${runtime.slice(1)}`, LIMIT, server!.headroom);
let [cpuBefore, lookedAtMs] = [cpuSeconds(), performance.now()];
let mostCpuPercent = 0;
for (const [phase, { name }] of PHASES.entries()) {
  clientsProcess.stdin!.write(`${name}\n`);
  for (const endAtMs = performance.now() + phaseMs; performance.now() < endAtMs;) {
    await sleep(LOOK_MS);
    screen.show(phase, look());
  }
}
// Overload is over once a second has passed in which nobody was refused.
await until(() => clients!.next !== undefined && server!.overload === "over", END_MS, "the recovery");
screen.show(PHASES.length, look());

const { next, answered, slowestMs } = clients!;
screen.end(
  `With room for ${answered} more clients the server refused ${
    server!.refused
  } times, told those who came first within ` +
    `${slowestMs.toFixed(0)} ms, used at most ${
      mostCpuPercent.toFixed(0)
    } % of one CPU, kept serving the 8 who were there, ` +
    (next!.isServed
      ? `and served the next client at once, in ${next!.ms.toFixed(1)} ms.`
      : "but refused the next client."),
);
process.exit(next!.isServed ? 0 : 1);

/** Runs a script of this folder after a shell command, and hands over each line that it prints. */
function start<Report>(
  before: string,
  script: string,
  args: string[],
  onReport: (report: Report) => void,
): ChildProcess {
  const file = fileURLToPath(new URL(script, import.meta.url));
  const bin = fileURLToPath(new URL("../node_modules/.bin", import.meta.url));
  const child = spawn("sh", ["-c", `${before}; exec "$@"`, "sh", ...RUNTIMES[runtime], file, ...args], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, PATH: `${bin}:${process.env.PATH}` },
  });
  children.add(child);
  child.once("exit", (code, signal) => {
    children.delete(child);
    console.error(`${script} ended by itself: ${signal ?? code}`);
    process.exit(1);
  });
  createInterface(child.stdout!).on("line", (line) => onReport(JSON.parse(line)));
  return child;
}

async function until(condition: () => boolean, timeoutMs: number, what: string): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) {
      console.error(`Cannot see ${what}: it did not come within ${timeoutMs / 1000} s`);
      process.exit(1);
    }
    await sleep(20);
  }
}

function look(): Figures {
  const [cpu, now] = [cpuSeconds(), performance.now()];
  const cpuPercent = 100_000 * (cpu - cpuBefore) / (now - lookedAtMs);
  [cpuBefore, lookedAtMs] = [cpu, now];
  mostCpuPercent = Math.max(mostCpuPercent, cpuPercent);
  const { connections, waiting, refused, told } = server!;
  const free = LIMIT - readdirSync(`/proc/${serverProcess.pid}/fd`).length;
  return { connections, free, waiting, refused, told, cpuPercent, p99Ms: clients!.p99Ms };
}

/** CPU that the server has used: user and system time, proc(5). */
function cpuSeconds(): number {
  const fields = readFileSync(`/proc/${serverProcess.pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
