/**
 * What an echoed message costs the server, beside the runtimes' own sockets, in one run: `npm run bench`.
 *
 * Every contestant is measured in turn, round after round, so that a slow minute of the machine hits all of them. CPU is
 * the server's own, user and system, from /proc; messages are counted by the client. The load must fit in one message of
 * the kernel's buffers, since the rivals' servers are written without back-pressure.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { median, spread } from "./figures.ts";
import { OWN, RUN } from "./runtimes.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "2" },
    clients: { type: "string", default: "64" },
    bytes: { type: "string", default: "64" },
  },
});

const HERE = fileURLToPath(new URL("./", import.meta.url));

const CONTESTANTS = (["deno", "bun", "node"] as const).flatMap((runtime) => [
  { name: `${runtime}: Spillway, level`, command: [...RUN[runtime], `${HERE}servers/spillway.ts`, "level"] },
  { name: `${runtime}: Spillway, edge`, command: [...RUN[runtime], `${HERE}servers/spillway.ts`, "edge"] },
  { name: OWN[runtime], command: [...RUN[runtime], `${HERE}servers/${runtime}.ts`] },
]);

const TICKS_PER_SECOND = 100; // USER_HZ, the same on every Linux of these CPUs: time(7)

/** User and system time of all threads of a process, in seconds. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function start([program, ...args]: readonly string[]) {
  const child = spawn(program!, args, { stdio: ["ignore", "pipe", "inherit"] });
  const firstLine = new Promise<string>((resolve, reject) => {
    createInterface(child.stdout).once("line", resolve);
    child.once("error", reject).once("exit", (code) => reject(new Error(`${args.at(-1)} ended with ${code}`)));
  });
  return { child, firstLine };
}

/** One round of one contestant. */
async function measure(command: readonly string[]): Promise<{ perSecond: number; cpuMicros: number }> {
  const server = start(command);
  try {
    const port = await server.firstLine;
    const before = cpuSeconds(server.child.pid!);
    const load = start([...RUN.bun, `${HERE}load.ts`, port, values.clients, values.bytes, values.seconds]);
    const messages = Number(await load.firstLine);
    const cpu = cpuSeconds(server.child.pid!) - before;
    return { perSecond: messages / Number(values.seconds), cpuMicros: 1e6 * cpu / messages };
  } finally {
    server.child.kill();
  }
}

const results = CONTESTANTS.map(({ name, command }) => ({
  name,
  command,
  perSecond: [] as number[],
  cpu: [] as number[],
}));
for (let round = 1; round <= Number(values.rounds); round++) {
  for (const { name, command, perSecond, cpu } of results) {
    process.stderr.write(`\rround ${round} of ${values.rounds}: ${name.padEnd(30)}`);
    const result = await measure(command);
    perSecond.push(result.perSecond);
    cpu.push(result.cpuMicros);
  }
}
process.stderr.write("\r".padEnd(60) + "\r");

console.log(`echo of ${values.bytes} B, ${values.clients} clients; median (min to max) of ${values.rounds}\n`);
console.log(`${"".padEnd(24)}${"messages/s".padStart(12)}${"server CPU a message".padStart(34)}`);
for (const { name, perSecond, cpu } of results) {
  console.log(
    name.padEnd(24) + `${Math.round(median(perSecond))}`.padStart(12) + `${spread(cpu, 2)} µs`.padStart(34),
  );
}
