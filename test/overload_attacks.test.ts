/** Who makes overload worse: threads that take the descriptors we give up, and clients that come again at once. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { allAnswered, drive } from "./support/clients.ts";
import { closeNow, expectNoLeak } from "./support/descriptors.ts";
import {
  close,
  complaints,
  connect,
  hasNobody,
  isServed,
  isServing,
  nonZero,
  report,
  SETTLING_MS,
  startOverloaded,
} from "./support/overloaded.ts";
import { ends, expectNoProcesses } from "./support/processes.ts";
import { addressOf, bytes, tcpListener } from "./support/sockets.ts";

const PING = bytes("ping");
const BATCHES = 10;
const CLIENTS = 150;
const STORM_MS = 1_200;

expectNoLeak();
expectNoProcesses();

/** A port that nobody listens on. */
function freePort(): number {
  const listener = tcpListener();
  const { port } = addressOf(listener) as { port: number };
  closeNow(listener);
  return port;
}

describe.each(["level", "edge"] as const)("overload under attack, %s-triggered,", (trigger) => {
  test.each([
    [1, "the whole ladder", 16, true],
    [4, "the whole ladder", 16, true],
    [1, "no slack", 0, true],
    [4, "no slack", 0, true],
    [4, "neither slack nor a queue to reset", 0, false],
  ])("%i threads that steal descriptors strand nobody, with %s", async (thieves, _, slack, canReset) => {
    const port = canReset ? freePort() : 0;
    // Its threads need descriptors of their own, and each holds one more while it steals.
    const server = await startOverloaded(160, {
      trigger,
      port,
      thieves,
      overload: { headroom: 0, reserve: 2, slack },
    });
    await sleep(SETTLING_MS);
    let answers = 0;
    const ended: Record<string, number> = {};
    for (let batch = 0; batch < BATCHES; batch++) {
      const clients = connect(server, CLIENTS);
      const come = () => {
        // Without a last resort those who are left over wait for room: nobody is told to.
        for (const client of canReset ? [] : clients) if (isServed(client)) client.close();
        return clients.every((client) => client.isAnswered || client.isGone);
      };
      await drive(clients, come, "each answered or refused");
      for (const { state, isAnswered } of clients) {
        if (isAnswered) answers++;
        else ended[state] = (ended[state] ?? 0) + 1;
      }
      close(clients);
    }
    const during = await report(server);
    console.log(
      `${trigger}, ${thieves} thieves, slack ${slack}, ${canReset ? "" : "no "}queue reset: ${answers} answered, ` +
        `others ${JSON.stringify(ended)}; ${nonZero(during.counters)}; reserve missing ${during.missing}`,
    );
    expect(answers).toBeGreaterThan(0);
    server.kill("SIGHUP");
    let after = await report(server);
    while (after.isOverloaded) after = await report(server);
    expect([after.missing, after.size]).toEqual([0, 2]);
    for (const { reserve } of after.events.filter(({ kind }) => kind === "end")) expect(reserve).toBe(2);
    await isServing(server);
    await ends(server);
    expect(complaints(server)).toEqual([]);
  });

  test.each([
    ["at the mark", {}],
    ["with the table full", { headroom: 0 }],
    ["at maxConnections", { maxConnections: 20 }],
  ])("a storm of clients that come again at once is held to the budget, %s", async (_, given: object) => {
    const { maxConnections, ...overload } = given as { maxConnections?: number; headroom?: number };
    const shedPerSecond = 200;
    const server = await startOverloaded(96, {
      trigger,
      maxConnections,
      overload: { ...overload, shedPerSecond },
    });
    await sleep(SETTLING_MS);
    const established = connect(server, 10);
    await allAnswered(established, "answers before the storm");
    const startedAt = performance.now();
    const clients = [...established, ...connect(server, 90)];
    let [answers, comings] = [0, 0];
    const storm = () => {
      for (const client of established) {
        if (!client.isAnswered) continue;
        answers++;
        client.ask(PING);
      }
      for (let i = established.length; i < clients.length; i++) {
        if (!clients[i]!.isGone) continue;
        clients[i]!.close();
        clients[i] = connect(server, 1)[0]!;
        comings++;
      }
      const isOver = performance.now() - startedAt > STORM_MS && comings > shedPerSecond;
      return isOver || established.some(({ isGone }) => isGone);
    };
    await drive(clients, storm, "the end of the storm");
    await allAnswered(established, "answers to those who were there before");
    const { counters } = await report(server);
    const seconds = (performance.now() - startedAt) / 1_000;
    console.log(
      `${trigger}: ${comings} came again in ${seconds.toFixed(1)} s; ${answers} answers; ${nonZero(counters)}`,
    );
    const refused = counters.refused + counters.shed;
    // One second's worth at once, and what a turn began with a token left.
    expect(refused).toBeLessThanOrEqual(shedPerSecond * (seconds + 1) + 32);
    expect(refused, "and it was a storm").toBeGreaterThan(shedPerSecond);
    expect(counters.emfile).toBeLessThanOrEqual(200 * seconds + counters.accepted + counters.shed);
    close(clients);
    await hasNobody(server);
    await isServing(server);
    await ends(server);
  });
});
