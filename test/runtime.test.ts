/** A server beside everything else that its runtime does: under load, and idle. */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { allAnswered, drive, EchoClient } from "./support/clients.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { temporaryFolder } from "./support/folders.ts";
import { ends, expectNoProcesses, startServer, TICKS_PER_SECOND } from "./support/processes.ts";
import { needsProgram } from "./support/programs.ts";
import { bytes } from "./support/sockets.ts";
import { readTrace, tracedBy } from "./support/trace.ts";

const SHARED_THREAD = "test/fixtures/shared_thread.ts";
const TRIGGERS = ["level", "edge"];
const IDLE_SECONDS = 10;

expectNoLeak();
expectNoProcesses();

const inFolder = temporaryFolder();

describe.each(TRIGGERS)("run(), %s-triggered", (trigger) => {
  test("under load, the runtime's timers fire, its fetch ends and promises settle", async () => {
    const clients: EchoClient[] = [];
    let answers = 0;
    let held: { response: ServerResponse; untilAnswers: number } | undefined;
    // Answered when the load has gone on: with one answer for each client and one more, some client has asked since.
    const http = createServer((_, response) => held = { response, untilAnswers: answers + clients.length + 1 });
    await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
    try {
      const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/`;
      const server = await startServer(SHARED_THREAD, [trigger, url], { permissions: ["--allow-net=127.0.0.1"] });
      const stream = bytes(256 * 1024).fill(7);
      for (let i = 0; i < 16; i++) clients.push(new EchoClient(server.sockaddr, stream));
      const isDone = () => {
        for (const client of clients) {
          if (!client.isAnswered) continue;
          answers++;
          client.ask(stream);
        }
        if (held !== undefined && answers >= held.untilAnswers) {
          held.response.end("fetched");
          held = undefined;
        }
        return server.lines.length > 2 || server.exit !== undefined;
      };
      await drive(clients, isDone, "the end of the server's chores");
      const [ticks, fetched, promises] = JSON.parse(await server.line(2));
      console.log(`${trigger}: bytes that came in during 30 ticks: ${ticks[1]}, a fetch: ${fetched[1]}`);
      expect([ticks[0], fetched[0], promises[0]]).toEqual([30, "fetched", 1_000]);
      // The load went on meanwhile. The promises may have settled within one job.
      expect(ticks[1]).toBeGreaterThan(0);
      expect(fetched[1]).toBeGreaterThanOrEqual(stream.byteLength);
      await allAnswered(clients, "the last answers");
      await ends(server);
      expect(server.stderr).toBe("");
    } finally {
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
    }
  });
});

describe.skipIf(needsProgram("strace"))("run(), idle", () => {
  test("for 10 seconds, it uses under 1 % of a CPU and calls epoll_wait fewer than 5 times", async () => {
    const servers = await Promise.all(TRIGGERS.map(async (trigger) => {
      const file = inFolder(trigger);
      const server = await startServer(SHARED_THREAD, [trigger], {
        under: tracedBy(file, ["epoll_wait", "epoll_pwait"]),
      });
      const epollFd = Number(/^epoll (\d+)$/.exec(await server.line(1))![1]);
      /** Calls on our own descriptor: the runtime has others. */
      const waits = () => readTrace(file).filter(({ args }) => Number.parseInt(args) === epollFd).length;
      return { trigger, server, waits };
    }));
    // Idle, not unused: clients are connected, and code is compiled.
    const clients = servers.flatMap(({ server }) =>
      Array.from({ length: 3 }, () => new EchoClient(server.sockaddr, bytes("ping")))
    );
    await allAnswered(clients, "answers before the idle time");
    const before = servers.map(({ server, waits }) => ({ ticks: server.cpuTicks, waits: waits() }));
    await sleep(1_000 * IDLE_SECONDS);
    for (const [i, { trigger, server, waits }] of servers.entries()) {
      const ticks = server.cpuTicks - before[i]!.ticks;
      const calls = waits() - before[i]!.waits;
      console.log(`${trigger}, idle for ${IDLE_SECONDS} s: ${ticks} ticks, ${calls} × epoll_wait`);
      expect(before[i]!.waits, "calls before, which strace saw").toBeGreaterThan(0);
      expect(ticks).toBeLessThan(0.01 * IDLE_SECONDS * TICKS_PER_SECOND);
      expect(calls).toBeLessThan(5);
    }
    for (const client of clients) client.ask(bytes("pong"));
    await allAnswered(clients, "answers after the idle time");
    for (const { server } of servers) {
      await ends(server);
      expect(server.stderr).toBe("");
    }
  });
});
