/** A server whose descriptors run out: the process survives, clients get an answer quickly, service resumes by itself. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { allAnswered, drive, type EchoClient, summary } from "./support/clients.ts";
import { until } from "./support/conditions.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { temporaryFolder } from "./support/folders.ts";
import { areServed, close, connect, isServed, isServing, limited, settled, SETTLING_MS } from "./support/overloaded.ts";
import {
  endsWell,
  expectNoProcesses,
  type ServerProcess,
  start,
  startServer,
  TICKS_PER_SECOND,
} from "./support/processes.ts";
import { needsProgram } from "./support/programs.ts";
import { type Call, readTrace, tracedBy, withoutProcFiles } from "./support/trace.ts";

const ECHO = "examples/echo.ts";
const CLIENTS = 150;
const LIMIT = 64;
/** No flood of them on standard error. */
const FEW_LINES = /^(.*\n){0,8}$/;

expectNoLeak();
expectNoProcesses();

const inFolder = temporaryFolder();

/** Connects clients at once, each of which sends a ping and holds, until every one is answered or refused. */
async function flood(server: ServerProcess): Promise<{ answered: EchoClient[]; refused: EchoClient[] }> {
  const { served: answered, refused } = await settled(connect(server, CLIENTS));
  // By the server, with FIN or RST; not by a listener that is gone, and not after an answer.
  expect(refused.filter(({ state, received }) => (state !== "ended" && state !== "reset") || received > 0)).toEqual([]);
  expect(answered.length, "clients answered").toBeGreaterThan(0);
  expect(refused.length, "clients refused").toBeGreaterThan(0);
  close(refused);
  return { answered, refused };
}

/** All leave, and the next client is served at its first attempt. */
async function leave(server: ServerProcess, clients: readonly EchoClient[]): Promise<void> {
  close(clients);
  await isServing(server);
}

/** The share of one CPU that a process uses in three seconds, in percent. */
async function cpuPercent(server: ServerProcess): Promise<number> {
  const seconds = 3;
  const before = server.cpuTicks;
  await sleep(1_000 * seconds);
  return 100 * (server.cpuTicks - before) / (seconds * TICKS_PER_SECOND);
}

/** Descriptors that count against `limit`: those with smaller numbers. */
function used(server: ServerProcess, limit: number): number {
  return server.numbers.filter((fd) => fd < limit).length;
}

/** Clients that come one by one until no descriptor is left. */
async function fill(server: ServerProcess): Promise<EchoClient[]> {
  const clients: EchoClient[] = [];
  while (used(server, LIMIT) < LIMIT) {
    const next = connect(server, 1);
    clients.push(...next);
    await allAnswered(next, "one more client's answer");
  }
  return clients;
}

describe.each(["level", "edge"])("a server with 64 descriptors, %s-triggered", (trigger) => {
  const ARGS = ["--port", "0", "--trigger", trigger];

  test("answers or refuses each of 150 clients, uses no CPU while they hold, and serves again; twice in a row", async () => {
    const server = await startServer(ECHO, ARGS, { under: limited(LIMIT) });
    const first = await flood(server);
    const percent = await cpuPercent(server);
    console.log(`${trigger}: ${first.answered.length} answered, ${first.refused.length} refused, ${percent} % CPU`);
    expect(percent).toBeLessThan(10);
    // What fetch and a Worker need in each runtime; a quarter of what is free at start is more.
    expect(LIMIT - used(server, LIMIT), "descriptors left to the runtime").toBeGreaterThanOrEqual(8);
    await areServed(first.answered);
    await leave(server, first.answered);
    const second = await flood(server);
    expect(second.answered.length).toBeGreaterThanOrEqual(first.answered.length);
    await areServed(second.answered);
    await leave(server, second.answered);
    await endsWell(server, FEW_LINES);
  });

  test("survives a flood 0.1 s after its start", async () => {
    const server = await startServer(ECHO, ARGS, { under: limited(LIMIT) });
    await sleep(100);
    const { answered } = await flood(server);
    await areServed(answered);
    await leave(server, answered);
    await endsWell(server, FEW_LINES);
  });

  test("survives floods without headroom, the table full", async () => {
    const server = await startServer(ECHO, [...ARGS, "--headroom", "0"], { under: limited(LIMIT) });
    const first = await flood(server);
    const percent = await cpuPercent(server);
    console.log(
      `${trigger}, full: ${first.answered.length} answered, ${first.refused.length} refused, ${percent} % CPU`,
    );
    expect(percent).toBeLessThan(10);
    await areServed(first.answered);
    await leave(server, first.answered);
    const second = await flood(server);
    expect(second.answered.length).toBeGreaterThanOrEqual(first.answered.length);
    await areServed(second.answered);
    await leave(server, second.answered);
    await endsWell(server, FEW_LINES);
  });

  test("with 32 descriptors it serves and refuses as well, or says at start that none is left for a client", async () => {
    const server = start(ECHO, ARGS, { under: limited(32) });
    await until(() => server.lines.length > 0 || server.exit !== undefined, "an announcement or an end");
    if (server.exit !== undefined) {
      expect(server.exit).toEqual({ code: 1, signal: null });
      expect(server.stderr).toMatch(
        /^[^\n]+ of 32 descriptors \d+ are taken or about to be, and \d+ kept free [^\n]+ulimit -n[^\n]+\n$/,
      );
      return;
    }
    server.announcement = server.lines[0]!;
    await sleep(SETTLING_MS);
    for (let round = 0; round < 2; round++) {
      const { answered } = await flood(server);
      await areServed(answered);
      await leave(server, answered);
    }
    await endsWell(server, FEW_LINES);
  });

  describe.skipIf(needsProgram("strace"))("under strace", () => {
    let traces = 0;
    async function startTraced(...args: string[]): Promise<{ server: ServerProcess; accepts: () => Call[] }> {
      const file = inFolder(`${trigger}-${traces++}`);
      const names = ["accept4", "close", "dup3", "fcntl", "poll", "ppoll", "epoll_ctl", "epoll_wait", "epoll_pwait"];
      names.push("open", "openat");
      const under = [...tracedBy(file, names), ...limited(LIMIT)];
      const server = await startServer(ECHO, [...ARGS, "--headroom", "0", ...args], { under });
      await sleep(SETTLING_MS); // only then can clients fill the table
      /** The calls of the thread that accepts. */
      const accepts = () => {
        const calls = withoutProcFiles(readTrace(file));
        const thread = calls.find(({ name }) => name === "accept4")?.thread;
        return calls.filter((call) => call.thread === thread);
      };
      return { server, accepts };
    }

    test("sheds with accept4 → EMFILE, confirmed, close, accept4, dup3 on one thread, and calls accept4 no more than that", async () => {
      const { server, accepts } = await startTraced();
      let answers = 0;
      for (let round = 0; round < 2; round++) {
        const { answered } = await flood(server);
        await areServed(answered);
        await leave(server, answered);
        answers += answered.length + 1;
      }
      await endsWell(server, FEW_LINES);
      const calls = accepts();
      const sheds = calls.flatMap((call, at) => isShed(calls, at) ? [call.result] : []);
      const accepted = count(calls, ({ name, result }) => name === "accept4" && result >= 0);
      const full = count(calls, isFull);
      console.log(
        `${trigger}: ${answers} served, ${sheds.length} shed, accept4: ${accepted} accepts, ${full} × EMFILE`,
      );
      console.log(excerpt(calls, calls.findIndex(isFull)));
      expect(sheds.length).toBeGreaterThan(0);
      // Nobody was shed in another way: each dup3 of the keeper is part of a shed. Others give a slot its own file again.
      const keeper = calls[calls.findIndex((_, at) => isShed(calls, at)) + 5]!.args.split(",")[0];
      expect(count(calls, ({ name, args }) => name === "dup3" && args.startsWith(`${keeper},`))).toBe(sheds.length);
      // One before each shed, and one more each time that accepting stops: false alarms.
      expect(full).toBeLessThanOrEqual(sheds.length + answers);
      expect(count(calls, ({ name }) => name === "accept4")).toBeLessThanOrEqual(2 * accepted + answers + 20);
    });

    test("a table that the last client exactly filled is no overload: the reserve stays, and the CPU idle", async () => {
      const { server, accepts } = await startTraced();
      const clients = await fill(server);
      await until(() => count(accepts(), isFull) > 0, "EMFILE");
      const percent = await cpuPercent(server);
      const calls = accepts();
      const from = calls.findIndex(isFull);
      const after = calls.slice(from);
      console.log(`${trigger}: table full with ${clients.length} clients, ${percent} % CPU\n${excerpt(calls, from)}`);
      expect(percent).toBeLessThan(10);
      expect(after.find(isPoll)?.result, "who waits, says poll").toBe(0);
      expect(after.filter(({ name }) => name === "close" || name === "dup3")).toEqual([]);
      expect(count(after, ({ name }) => name === "accept4")).toBe(1);
      await areServed(clients);
      await leave(server, clients);
      await endsWell(server, FEW_LINES);
    });

    test("without a reserve it pauses, backs off, and serves who waits when a client leaves", async () => {
      const { server, accepts } = await startTraced("--reserve", "0");
      const clients = await fill(server);
      const answered = () => clients.filter(isServed);
      // Nobody can be refused any more: they wait.
      const waiting = connect(server, 20);
      clients.push(...waiting);
      await drive(clients, () => waiting.every(({ sent }) => sent > 0), "clients that wait");
      const before = count(accepts(), isFull);
      const percent = await cpuPercent(server);
      const failed = count(accepts(), isFull) - before;
      console.log(`${trigger}: ${summary(clients)}; ${failed} × EMFILE in 3 s, ${percent} % CPU`);
      expect(percent).toBeLessThan(10);
      expect(failed).toBeLessThanOrEqual(30);
      const paused = accepts().length;
      for (let left = 1; left <= 10; left++) {
        const served = answered();
        served[0]!.close();
        await drive(clients, () => answered().length === served.length, "one who waited, in place of one who left");
      }
      const calls = accepts();
      const turn = calls.slice(calls.findIndex(({ name }, at) => at >= paused && name === "close"));
      const accept = turn.findIndex(({ name }) => name === "accept4");
      console.log(excerpt(turn, 0));
      expect(turn[accept]!.result, "the descriptor that was released").toBe(Number(turn[0]!.args));
      // At once: the loop did not find nothing to do in between, and wait for the timer.
      const loopFd = loopOf(calls);
      expect(count(turn.slice(0, accept), ({ name, args, result }) => {
        return /^epoll_p?wait$/.test(name) && Number.parseInt(args) === loopFd && result === 0;
      })).toBe(0);
      expect(clients.filter(({ isGone }) => isGone).length, "clients refused").toBe(0);
      close(answered());
      await allAnswered(waiting.filter(({ state }) => state !== "closed"), "the rest of those who waited");
      await leave(server, clients);
      await endsWell(server, FEW_LINES);
    });
  });
});

const isFull = ({ name, error }: Call) => name === "accept4" && error === "EMFILE";

const isPoll = ({ name }: Call) => /^p?poll$/.test(name);

function count(calls: readonly Call[], is: (call: Call) => boolean): number {
  return calls.filter(is).length;
}

/**
 * Whether a shed begins at index `at`: EMFILE, confirmed by another call while somebody waits, the
 * reserve given up, the client accepted in its place and replaced.
 */
function isShed(calls: readonly Call[], at: number): boolean {
  const [full, poll, confirmed, close, accept, dup] = calls.slice(at, at + 6);
  if (!isFull(calls[at]!) || dup === undefined) return false;
  return full!.error === "EMFILE" && isPoll(poll!) && poll!.result === 1 &&
    confirmed!.name === "fcntl" && confirmed!.error === "EMFILE" &&
    close!.name === "close" && accept!.name === "accept4" && accept!.result === Number(close!.args) &&
    dup.name === "dup3" && dup.result === accept!.result;
}

/** The epoll descriptor that the listener was added to. */
function loopOf(calls: readonly Call[]): number {
  const listener = Number.parseInt(calls.find(({ name }) => name === "accept4")!.args);
  const added = calls.find(({ name, args }) => name === "epoll_ctl" && args.includes(`EPOLL_CTL_ADD, ${listener},`));
  return Number.parseInt(added!.args);
}

function excerpt(calls: readonly Call[], from: number): string {
  return calls.slice(from, from + 7).map(({ thread, name, args, result, error }) =>
    `  ${thread} ${name}(${args}) = ${result} ${error}`
  ).join("\n");
}
