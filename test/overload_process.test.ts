/** Overload in whole processes: who is told what, who waits, what is stolen, and what is left when it is over. */
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { AcceptCounters, OverloadEvent } from "../mod.ts";
import { allAnswered, drive, summary } from "./support/clients.ts";
import { until } from "./support/conditions.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import {
  areServed,
  close,
  connect,
  isServed,
  isServing,
  leave,
  limited,
  nonZero,
  report,
  settled,
  SETTLING_MS,
  startOverloaded,
} from "./support/overloaded.ts";
import { ends, expectNoProcesses, type ServerProcess, startProgram, startServer } from "./support/processes.ts";
import { needsProgram } from "./support/programs.ts";
import { RUNTIME, scriptOutput } from "./support/scripts.ts";
import { bytes } from "./support/sockets.ts";

const ECHO = "examples/echo.ts";
const SILENCE = bytes(0);
const FAREWELL = "-ERR max number of clients reached\r\n";
/** Clients that come at once: more than 64 descriptors are enough for. */
const CLIENTS = 150;
/** `npm run test:full` asks for more. */
const EPISODES = Number(process.env.OVERLOAD_EPISODES ?? 1_000);

expectNoLeak();
expectNoProcesses();

/** Does `task` again and again until `isDone`; throws if that takes too long. */
async function repeatUntil(isDone: () => boolean, what: string, task: () => Promise<void>): Promise<void> {
  const deadline = performance.now() + 40_000;
  while (!isDone()) {
    if (performance.now() > deadline) throw new Error(`Cannot see ${what}: it did not happen in time`);
    await task();
  }
}

describe.each(["level", "edge"] as const)("a server in a process of its own, %s-triggered,", (trigger) => {
  const ARGS = ["--port", "0", "--trigger", trigger];

  /** One that refuses at the mark, and one that does with the table full. */
  async function startBoth(...args: string[]): Promise<ServerProcess[]> {
    const start = (...more: string[]) => startServer(ECHO, [...ARGS, ...args, ...more], { under: limited(64) });
    const servers = await Promise.all([start(), start("--headroom", "0")]);
    await sleep(SETTLING_MS);
    return servers;
  }

  test.each([
    ["fin", "ended", ""],
    ["rst", "reset", ""],
    [FAREWELL, "ended", FAREWELL],
  ])("sheds, and tells each excess client with %j", async (refuse, state, head) => {
    for (const server of await startBoth(`--refuse=${refuse}`)) {
      const { served, refused } = await settled(connect(server, CLIENTS));
      close(refused);
      expect(served.length).toBeGreaterThan(0);
      // Those that have sent nothing: what arrives after the server has looked would turn its close into a reset.
      const silent = connect(server, 50, SILENCE);
      await drive(silent, () => silent.every(({ isGone }) => isGone), "each silent client refused");
      expect(new Set(silent.map((client) => client.state))).toEqual(new Set([state]));
      expect(new Set(silent.map((client) => client.head))).toEqual(new Set([head]));
      await areServed(served);
      await leave(server, served);
      await isServing(server);
      await ends(server);
    }
  });

  test("a farewell reaches clients whole that have sent 64 KiB before", async () => {
    for (const server of await startBoth(`--refuse=${FAREWELL}`)) {
      const { served, refused } = await settled(connect(server, CLIENTS));
      close(refused);
      const talkers = connect(server, 0);
      server.kill("SIGSTOP"); // all is sent before the server sees any of it
      try {
        talkers.push(...connect(server, 100, bytes(64 * 1024).fill(7)));
        await drive(talkers, () => talkers.every(({ sent }) => sent === 64 * 1024), "64 KiB sent by each");
      } finally {
        server.kill("SIGCONT");
      }
      await drive(talkers, () => talkers.every(({ isGone }) => isGone), "each client that talks refused");
      console.log(`${trigger}: of those that have sent 64 KiB ${summary(talkers)}`);
      expect(new Set(talkers.map((client) => client.head))).toEqual(new Set([FAREWELL]));
      await areServed(served);
      await ends(server);
    }
  });

  test('"wait": those without room are served in their order as others leave, and nobody is refused', async () => {
    const server = await startServer(ECHO, [...ARGS, "--overload", "wait"], { under: limited(64) });
    await sleep(SETTLING_MS);
    const clients = connect(server, CLIENTS);
    const answered = () => clients.filter(({ isAnswered }) => isAnswered).length;
    const some = connect(server, 1); // its end is not awaited: it is one of those who wait
    clients.push(...some);
    await drive(clients, () => answered() > 0 && clients.every(({ sent }) => sent > 0), "the first answers");
    let room = 0;
    // Room is what there is when nobody else is answered while somebody who is asks again and again.
    for (let rounds = 0; rounds < 20; rounds++) {
      if (answered() !== room) rounds = 0;
      room = answered();
      const first = clients.find(isServed)!;
      first.ask(bytes("ping"));
      await drive(clients, () => first.isAnswered, "an answer to one who is served");
    }
    expect(room).toBeLessThan(CLIENTS);
    const order = (from: number, to: number) => clients.slice(from, to).map(isServed);
    expect(order(0, room), "the first to come are the first to be served").toEqual(Array(room).fill(true));
    for (const leaving of [1, 5, room - 6]) {
      const before = answered();
      close(clients.filter(isServed).slice(0, leaving));
      const due = clients.slice(before, before + leaving);
      await drive(clients, () => due.every(isServed), `${leaving} who waited, in place of those who left`);
      expect(answered(), "nobody out of turn").toBe(before + leaving);
    }
    while (!clients.every((client) => client.isAnswered)) {
      const before = answered();
      close(clients.filter(isServed));
      await drive(clients, () => answered() > before, "more of those who waited");
    }
    expect(clients.filter(({ isGone }) => isGone)).toEqual([]);
    close(clients);
    await isServing(server);
    await ends(server);
  });

  test("grace: those without room wait so long, then they are refused", async () => {
    const graceMs = 600;
    const args = [...ARGS, "--overload", "grace", "--grace-ms", String(graceMs)];
    const server = await startServer(ECHO, args, { under: limited(64) });
    await sleep(SETTLING_MS);
    const startedAt = performance.now();
    const clients = connect(server, CLIENTS);
    await drive(clients, () => clients.some(({ isGone }) => isGone), "the end of the grace");
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(graceMs - 10);
    const { served, refused } = await settled(clients);
    expect(served.length).toBeGreaterThan(0);
    close(refused);
    await areServed(served);
    await leave(server, served);
    await isServing(server);
    await ends(server);
  });

  test("answers or refuses a flood at once upon its start, with 48 descriptors", async () => {
    const server = await startServer(ECHO, ARGS, { under: limited(48) });
    const { served, refused } = await settled(connect(server, CLIENTS));
    expect(served.length).toBeGreaterThan(0);
    close(refused);
    await sleep(SETTLING_MS); // and through whatever the runtime does meanwhile
    await areServed(served);
    await leave(server, served);
    await isServing(server);
    await ends(server);
  });

  test("tells of overload once when it begins and once when it is over, with the right counts", async () => {
    const server = await startOverloaded(64, { trigger });
    await sleep(SETTLING_MS);
    const ended: OverloadEvent[][] = [];
    for (let episode = 0; episode < 2; episode++) {
      const clients = connect(server, CLIENTS);
      const { served, refused } = await settled(clients);
      close(clients);
      let now = await report(server);
      while (now.events.length < 2 * (episode + 1)) {
        expect(now.isOverloaded, "is overloaded from start to end").toBe(now.events.length % 2 === 1);
        now = await report(server);
      }
      expect(now.isOverloaded).toBe(false);
      const [first, last, ...more] = now.events.slice(2 * episode);
      expect(more).toEqual([]);
      expect([first!.kind, first!.cause, last!.kind, last!.cause]).toEqual(["start", "headroom", "end", "headroom"]);
      expect(last!.refused).toBe(refused.length);
      // Those before the first who found no room are not of the episode.
      expect(last!.served).toBeLessThanOrEqual(served.length);
      expect([last!.limit, last!.headroom, last!.reserve, last!.connections]).toEqual([64, now.headroom, now.size, 0]);
      expect(last!.durationMs).toBeGreaterThanOrEqual(1_000);
      ended.push([first!, last!]);
    }
    expect((await report(server)).counters.episodes).toBe(2);
    await ends(server);
    expect(server.stderr).toBe("");
  });

  test("writes a line when overload begins and one when it is over, and never more than three a minute", async () => {
    const server = await startServer(ECHO, ARGS, { under: limited(64) });
    await sleep(SETTLING_MS);
    const lines = () => server.stderr.split("\n").slice(0, -1);
    for (let episode = 0; episode < 3; episode++) {
      const { served, refused } = await settled(connect(server, CLIENTS));
      close([...served, ...refused]);
      if (episode === 0) await until(() => lines().length === 2, "the line that overload is over");
      else await sleep(1_300); // longer than the second that ends an episode, or else it is one: no line more
      if (episode > 0) continue;
      expect(lines()[0]).toMatch(
        /^spillway: overload on tcp:\S+: out of file descriptors but [^;]* \(limit 64\); \d+ refused, .*; cure: raise /,
      );
      expect(lines()[1]).toMatch(
        new RegExp(`is over after \\S+ s: ${refused.length} refused, .* 0 connected, 0 waiting$`),
      );
    }
    expect(lines()).toHaveLength(3);
    await ends(server);
  });

  test("many episodes in a row leave descriptors and heap where they were, and no flood of lines", async () => {
    const collectable = { deno: ["-A", "--v8-flags=--expose-gc"], bun: [], node: ["--expose-gc"] };
    const flags = RUNTIME === "node" ? ["--disable-warning=ExperimentalWarning"] : [];
    const { before, after, counters, minutes, lines } = await scriptOutput("episodes.ts", {
      args: [trigger, String(EPISODES)],
      flags: [...flags, ...collectable[RUNTIME]],
      under: limited(96),
    }) as {
      before: { descriptors: number; heapBytes: number };
      after: { descriptors: number; heapBytes: number };
      counters: AcceptCounters;
      minutes: number;
      lines: number;
    };
    console.log(
      `${trigger}: ${EPISODES} episodes, descriptors ${before.descriptors} → ${after.descriptors}, ` +
        `heap ${before.heapBytes} → ${after.heapBytes} bytes, ${lines} lines in ${minutes.toFixed(1)} minutes; ` +
        nonZero(counters),
    );
    expect(counters.episodes).toBeGreaterThanOrEqual(EPISODES);
    expect(after.descriptors).toBe(before.descriptors);
    // The lines are kept by the script: 300 bytes each. Collecting is not exact in any runtime.
    expect(after.heapBytes - before.heapBytes).toBeLessThan(2 * 1024 * 1024);
    expect(lines).toBeLessThanOrEqual(3 * (minutes + 1));
  });

  test("while overloaded, its own first fetch, Worker, import and signal handler work, one after the other", async () => {
    const http = await startServer("test/fixtures/http_server.ts", [], { permissions: ["--allow-net=127.0.0.1"] });
    const server = await startServer("test/fixtures/chores_server.ts", [trigger, `http://127.0.0.1:${http.port}/`], {
      under: limited(128),
      permissions: ["--allow-net=127.0.0.1", "--allow-read"],
    });
    await sleep(SETTLING_MS); // else there is room for one more once that is over
    const { served, refused } = await settled(connect(server, CLIENTS));
    expect(refused.length).toBeGreaterThan(0);
    close(refused);
    served[0]!.ask(bytes("work"));
    await allAnswered([served[0]!], "the start of the chores");
    // Overloaded all the while: others come, and are refused.
    let isSignalled = false;
    let others = 0;
    await repeatUntil(
      () => server.lines.length === 6 || server.exit !== undefined,
      "the end of the chores",
      async () => {
        const more = connect(server, 10);
        await drive(more, () => more.every(({ isGone }) => isGone), "each refused");
        close(more);
        others += more.length;
        if (!isSignalled && server.lines.length === 5) {
          isSignalled = true;
          server.kill("SIGWINCH");
        }
        await sleep(2); // what the servers print is read
      },
    );
    console.log(`${trigger}: ${others} refused during the chores`);
    expect(server.lines.slice(1)).toEqual(["fetched", "worked", "function", "waiting for a signal", "signalled"]);
    await areServed(served);
    await leave(server, served);
    await isServing(server);
    await ends(server);
  });

  describe.skipIf(needsProgram("prlimit"))("with prlimit", () => {
    async function setLimit(server: ServerProcess, soft: number): Promise<void> {
      const prlimit = startProgram("prlimit", ["--pid", String(server.pid), `--nofile=${soft}:`]);
      expect(await prlimit.end()).toEqual({ code: 0, signal: null });
    }

    test.each([
      ["", []],
      [", without headroom", ["--headroom", "0"]],
    ])("a limit that is lowered and raised while it runs counts at once%s", async (_, args) => {
      const server = await startServer(ECHO, [...ARGS, ...args], { under: limited(128) });
      await sleep(SETTLING_MS);
      const first = await settled(connect(server, CLIENTS));
      close(first.refused);
      await setLimit(server, 64);
      await areServed(first.served);
      const none = connect(server, 20);
      await drive(none, () => none.every(({ isGone }) => isGone), "each refused: the table is above the limit");
      close(none);
      await leave(server, first.served);
      await isServing(server);
      const lowered = await settled(connect(server, CLIENTS));
      expect(lowered.served.length).toBeGreaterThan(0);
      expect(lowered.served.length).toBeLessThan(first.served.length);
      close(lowered.refused);
      await setLimit(server, 128);
      const raised = await settled(connect(server, CLIENTS));
      expect(lowered.served.length + raised.served.length).toBe(first.served.length);
      console.log(
        `${trigger}: ${first.served.length} served with 128, ${lowered.served.length} with 64, ` +
          `then ${raised.served.length} more with 128`,
      );
      await areServed([...lowered.served, ...raised.served]);
      close(raised.refused);
      await leave(server, [...lowered.served, ...raised.served]);
      await isServing(server);
      await ends(server);
    });

    test("a limit that is raised lets in those who wait", async () => {
      const server = await startServer(ECHO, [...ARGS, "--overload", "wait", "--headroom", "4"], {
        under: ["prlimit", "--nofile=64:256"],
      });
      await sleep(SETTLING_MS);
      // Bun and Node raise the soft limit to the hard one when they start.
      await setLimit(server, 64);
      const clients = connect(server, CLIENTS);
      await drive(clients, () => clients.some((client) => client.isAnswered), "the first answers");
      await setLimit(server, 256);
      await allAnswered(clients, "answers to those who waited");
      close(clients);
      await ends(server);
    });
  });
});
