/** examples/echo.ts as its users run it: a process of its own, with clients from outside. */
import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { allAnswered, drive, EchoClient } from "./support/clients.ts";
import { until } from "./support/conditions.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { temporaryFolder } from "./support/folders.ts";
import {
  endsWell,
  expectNoProcesses,
  type ServerProcess,
  start,
  startProgram,
  startServer,
} from "./support/processes.ts";
import { needsProgram } from "./support/programs.ts";
import { randomStreams } from "./support/random.ts";
import { bytes } from "./support/sockets.ts";

const ECHO = "examples/echo.ts";
const MIB = 1024 * 1024;
/** As src/limits.ts has them; known here so that a change is noticed. */
const HIGH_WATER_BYTES = MIB;
const RECEIVE_BUFFER_BYTES = 64 * 1024;

expectNoLeak();
expectNoProcesses();

const inFolder = temporaryFolder();
const { stream, pieceBytes } = randomStreams("echo.test.ts");

function clients(count: number, server: ServerProcess, byteCount: number): EchoClient[] {
  return Array.from({ length: count }, () => new EchoClient(server.sockaddr, stream(byteCount), { pieceBytes }));
}

describe.each(["level", "edge"])("echo, %s-triggered", (trigger) => {
  const listen = (...args: string[]) => startServer(ECHO, ["--port", "0", "--trigger", trigger, ...args]);

  test("200 clients at once get back 1 MiB each, sent in random pieces", async () => {
    const server = await listen();
    await allAnswered(clients(200, server, MIB), "200 MiB of echo");
    await endsWell(server);
  });

  test("1,000 clients that connect at once are all answered", async () => {
    const server = await listen();
    await allAnswered(clients(1_000, server, 64), "1,000 answers");
    await endsWell(server);
  });

  test("a client that sends without reading is held back at the high-water mark, and gets all when it reads", async () => {
    const path = inFolder(`held-${trigger}.sock`);
    const server = await startServer(ECHO, ["--path", path, "--trigger", trigger]);
    const client = new EchoClient(server.sockaddr, stream(8 * MIB), { isReading: false });
    // A Unix socket's buffers do not grow, so what the kernel holds is bounded: one send buffer in each direction.
    const most = HIGH_WATER_BYTES + RECEIVE_BUFFER_BYTES + 2 * client.sendBufferBytes;
    await areHeldBack([client], server);
    expect(client.sent).toBeGreaterThanOrEqual(HIGH_WATER_BYTES);
    expect(client.sent).toBeLessThanOrEqual(most);
    client.isReading = true;
    await allAnswered([client], "what was held back");
    await endsWell(server);
  });

  test("a TCP client that sends without reading is held back as well: the kernel has all but what the mark allows", async () => {
    const server = await listen();
    const client = new EchoClient(server.sockaddr, stream(8 * MIB), { isReading: false, bufferBytes: 64 * 1024 });
    await areHeldBack([client], server);
    // The kernel tells of one queue after the other: bytes that move on meanwhile, as window probes have it, are missed.
    let held: number;
    const isHeldBack = () => {
      held = client.sent - kernelBytes(client.port, server.port);
      return held <= HIGH_WATER_BYTES + RECEIVE_BUFFER_BYTES;
    };
    await until(isHeldBack, "a server that holds no more than the mark allows");
    console.log(`${trigger}: of ${client.sent} bytes sent the server itself held ${held!}`);
    client.isReading = true;
    await allAnswered([client], "what was held back");
    await endsWell(server);
  });

  test("the server's memory does not grow by what clients send without reading", async () => {
    const path = inFolder(`memory-${trigger}.sock`);
    const server = await startServer(ECHO, ["--path", path, "--trigger", trigger]);
    const open = (isReading: boolean) =>
      Array.from({ length: 16 }, () => new EchoClient(server.sockaddr, stream(8 * MIB), { isReading }));
    const readers = open(true);
    await allAnswered(readers, "clients that read"); // compiles the code, and fills the heap with what it keeps anyway
    for (const client of readers) client.close();
    const before = server.residentBytes;
    const silent = open(false);
    await areHeldBack(silent, server);
    const grownBytes = server.residentBytes - before;
    console.log(
      `${trigger}: 16 clients with 8 MiB each, none reads: ${(grownBytes / MIB).toFixed(1)} MiB more resident`,
    );
    // 128 MiB would be the growth without a mark; 17 MiB are the queues with one.
    expect(grownBytes).toBeLessThan(64 * MIB);
    for (const client of silent) client.isReading = true;
    await allAnswered(silent, "what was held back");
    await endsWell(server);
  });

  test("a client that resets in the middle disturbs nobody", async () => {
    const server = await listen();
    const all = clients(40, server, MIB);
    const leaving = all.filter((_, i) => i % 2 === 0);
    const staying = all.filter((_, i) => i % 2 === 1);
    await drive(all, () => leaving.every(({ received }) => received > 1_000), "clients in the middle of their streams");
    for (const client of leaving) client.reset();
    await allAnswered(staying, "those that stay");
    await allAnswered(clients(1, server, MIB), "one more client");
    await endsWell(server);
  });

  test.each(["tcp", "unix"])(
    "a client that ends its %s stream gets everything back, then end of stream",
    async (transport) => {
      const path = inFolder(`ends-${trigger}.sock`);
      const place = transport === "unix" ? ["--path", path] : ["--port", "0"];
      const server = await startServer(ECHO, [...place, "--trigger", trigger]);
      // Below the high-water mark, so the server reads it all, and the end, while most of it is queued: a Unix socket
      // does not hold that much.
      const client = new EchoClient(server.sockaddr, stream(900 * 1024), { endsStream: true, isReading: false });
      await areHeldBack([client], server);
      expect(client.sent).toBe(900 * 1024);
      client.isReading = true;
      await drive([client], () => client.isGone, "the end of the server's stream");
      expect([client.state, client.received, client.difference]).toEqual(["ended", 900 * 1024, undefined]);
      await endsWell(server);
    },
  );

  test.each(["SIGTERM", "SIGINT"] as const)(
    "%s ends the server with code 0 while clients are connected",
    async (signal) => {
      const server = await listen();
      expect(server.announcement).toMatch(/^listening on tcp:\/\/127\.0\.0\.1:[1-9]\d*$/);
      const connected = clients(3, server, 64);
      await allAnswered(connected, "answers before the signal");
      await endsWell(server, undefined, signal);
      await drive(connected, () => connected.every(({ state }) => state === "ended"), "the end of their streams");
    },
  );

  test("--path listens on a Unix socket, whose file is gone afterwards", async () => {
    const path = inFolder(`path-${trigger}.sock`);
    const server = await startServer(ECHO, ["--path", path, "--trigger", trigger]);
    expect(server.announcement).toBe(`listening on unix://${path}`);
    await allAnswered(clients(10, server, 10_000), "answers through a Unix socket");
    expect(existsSync(path)).toBe(true);
    await endsWell(server);
    expect(existsSync(path)).toBe(false);
  });

  test("--max-connections 2 ends the third client's stream, and serves again after one has left", async () => {
    const server = await listen("--max-connections", "2");
    const [first, second] = clients(2, server, 64);
    await allAnswered([first!, second!], "two answers");
    const third = new EchoClient(server.sockaddr, bytes(0)); // silent: what it sent could turn the end into a reset
    await drive([third], () => third.isGone, "the third client's end");
    expect(third.state).toBe("ended");
    await server.closesSockets(1, () => first!.close());
    await allAnswered(clients(1, server, 64), "a client after one has left");
    second!.ask(stream(64));
    await allAnswered([second!], "the second client again");
    // That it is over is said a second later, if the server still runs by then.
    await endsWell(
      server,
      /^spillway: overload on tcp:\S+: maxConnections reached; 1 refused, [^\n]*\n(spillway: [^\n]* is over [^\n]*\n)?$/,
    );
  });

  describe.skipIf(needsProgram("nc"))("with nc", () => {
    test("bytes typed into nc come back, and its half close ends the connection", async () => {
      const server = await listen();
      const file = inFolder(`nc-${trigger}`);
      const out = `${file}.out`;
      // Larger than what the kernel holds, so that most of it is still to come when nc ends its stream.
      const nc = startProgram("sh", [
        "-c",
        `head -c 4000000 /dev/urandom >${file} && nc -N 127.0.0.1 ${server.port} <${file} >${out}`,
      ]);
      expect(await nc.end()).toEqual({ code: 0, signal: null });
      expect(readFileSync(out).equals(readFileSync(file))).toBe(true);
      await endsWell(server);
    });
  });
});

describe.skipIf(needsProgram("strace"))("echo, with strace slowing its writes down", () => {
  // Its handlers were set after the announcement: whoever signalled at once, as supervisors may, killed it.
  test("a signal as soon as it has announced itself ends it with code 0", async () => {
    const under = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=write,writev:delay_exit=100000"];
    const server = await startServer(ECHO, ["--port", "0"], { under });
    await endsWell(server);
  });
});

describe("echo, its command line", () => {
  test.each([
    ["--bogus", "--bogus"],
    ["--trigger both", "--trigger"],
    ["--port many", "--port"],
    ["--port 1 --path x", "--path"],
    ["--overload never", "--overload"],
    ["--overload grace", "--grace-ms"],
    ["--overload grace --grace-ms soon", "--grace-ms"],
    ["--grace-ms=5", "--overload grace"],
    ["--port 65536", "--port"],
    ["--refuse", "--refuse"],
    ["--refuse -ERR", "'--refuse=-XYZ'"],
    ["--headroom few", "--headroom"],
    ["--reserve -1", "--reserve"],
  ])("%s ends it with code 2 and one line that names the flag", async (args, named) => {
    const server = start(ECHO, args.split(" "));
    expect(await server.end()).toEqual({ code: 2, signal: null });
    expect(server.stdout).toBe("");
    expect(server.stderr).toMatch(/^[^\n]+\n$/);
    expect(server.stderr).toContain(named);
  });

  test("--help says how it is used, and what it listens on", async () => {
    const server = start(ECHO, ["--help"]);
    expect(await server.end()).toEqual({ code: 0, signal: null });
    expect(server.stdout).toMatch(/^Usage: echo.ts \[flags\]\n\n {2}--host .*\n {2}--port .* \(7007\)\n/);
    expect(server.stdout).toMatch(/ --refuse .* \(fin\)\n/);
  });

  test("a port in use ends it with code 1 and a message", async () => {
    const server = await startServer(ECHO, ["--port", "0"]);
    const second = start(ECHO, ["--port", String(server.port)]);
    expect(await second.end()).toEqual({ code: 1, signal: null });
    expect(second.stdout).toBe("");
    expect(second.stderr).toMatch(/^[^\n]+ EADDRINUSE [^\n]+\n$/);
    expect(second.stderr).toContain(server.announcement.replace("listening on ", ""));
    await endsWell(server);
  });
});

/**
 * Sends until the server takes no more: while another client of the same loop is answered 50 times, which are 50 turns
 * in which it could have read on, not one more byte is taken.
 */
async function areHeldBack(clients: readonly EchoClient[], server: ServerProcess): Promise<void> {
  const other = new EchoClient(server.sockaddr, stream(64));
  let sent = -1;
  for (let rounds = 0; rounds < 50; rounds++) {
    other.ask(stream(64));
    await drive([...clients, other], () => other.isAnswered, "another client's answers");
    const sum = clients.reduce((sum, client) => sum + client.sent, 0);
    if (sum !== sent || clients.some(({ state }) => state === "connecting")) rounds = 0;
    sent = sum;
  }
  other.close();
}

/** Bytes of the connection between two ports of loopback that are in the kernel: in its four queues. proc_net(5). */
function kernelBytes(clientPort: number, serverPort: number): number {
  let sum = 0;
  for (const line of readFileSync("/proc/net/tcp", "utf8").split("\n").slice(1, -1)) {
    const [, local, remote, , queues] = line.trim().split(/\s+/);
    const ports = [local, remote].map((address) => parseInt(address!.split(":")[1]!, 16)).sort((a, b) => a - b);
    if (`${ports}` !== `${[clientPort, serverPort].sort((a, b) => a - b)}`) continue;
    for (const queue of queues!.split(":")) sum += parseInt(queue, 16);
  }
  return sum;
}
