/** Loops of several threads that share a coordinator: descriptors run out for all of them at once. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { AcceptCounters } from "../mod.ts";
import { drive } from "./support/clients.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import {
  areServed,
  close,
  complaints,
  connect,
  isServed,
  isServing,
  kinds,
  leave,
  limited,
  nonZero,
  report,
  settled,
  SETTLING_MS,
} from "./support/overloaded.ts";
import { ends, expectNoProcesses, type ServerProcess, start } from "./support/processes.ts";

/** What our servers open. */
const KINDS = ["socket", "anon_inode:[eventpoll]", "anon_inode:[eventfd]", "/dev/null"];
const LIMIT = 192;
const DEADLINE_MS = 40_000;

expectNoLeak();
expectNoProcesses();

describe.each(["level", "edge"] as const)("loops of three threads, %s-triggered,", (trigger) => {
  describe.each(["exclusive", "reusePort"])("that share a coordinator, listeners %s,", (shared) => {
    const threads = 3;

    async function startThreads(policy: "wait" | "shed") {
      const options = { threads, shared, trigger, overload: { policy } };
      const server = start("test/fixtures/coordinated_server.ts", [JSON.stringify(options)], {
        under: limited(LIMIT),
        permissions: ["--allow-read"],
      });
      expect(await server.line(0)).toBe("threads");
      await sleep(SETTLING_MS);
      const before = kinds(server);
      server.kill("SIGHUP");
      server.announcement = await server.line(1);
      return { server, before };
    }

    interface ThreadReport {
      readonly isSuspended: boolean;
      readonly suspends: number;
      readonly resumes: number;
      readonly counters: AcceptCounters;
      readonly headroom: number;
      readonly connections: number;
      readonly size: number;
      readonly missing: number;
    }

    /** Every server stops, and what they had open is closed. */
    async function stops(server: ServerProcess, before: Record<string, number>): Promise<void> {
      const next = server.lines.length;
      server.kill("SIGHUP");
      expect(await server.line(next)).toBe("stopped");
      // A runtime may have opened something for itself, once.
      const after = kinds(server);
      const counts = (of: Record<string, number>) => KINDS.map((kind) => `${of[kind] ?? 0} ${kind}`).join(", ");
      console.log(`${trigger}, ${shared}: before ${counts(before)}; after ${counts(after)}`);
      for (const kind of KINDS) expect(after[kind] ?? 0, kind).toBeLessThanOrEqual(before[kind] ?? 0);
      await ends(server);
      expect(complaints(server)).toEqual([]);
    }

    test("all pause and resume together, and nobody who waits is stranded or refused", async () => {
      const { server, before } = await startThreads("wait");
      const clients = connect(server, 300);
      const answered = () => clients.filter(({ isAnswered }) => isAnswered).length;
      await drive(clients, () => answered() > 0 && clients.every(({ sent }) => sent > 0), "the first answers");
      const reports = () => report<ThreadReport[]>(server);
      const untilAll = async (isSuspended: boolean) => {
        const deadline = performance.now() + DEADLINE_MS;
        while (!(await reports()).every((thread) => thread.isSuspended === isSuspended)) {
          if (performance.now() > deadline) {
            throw new Error(`Cannot see every thread ${isSuspended ? "pause" : "resume"}`);
          }
        }
      };
      await untilAll(true);
      const room = answered();
      expect(room).toBeLessThan(300);
      // A thread may have served one beyond the room, as it cannot know what the others accept at that moment. If that
      // one leaves, it leaves no place.
      const [{ headroom }] = await reports() as [ThreadReport];
      const beyond = server.numbers.filter((fd) => fd >= LIMIT - headroom).length;
      close(clients.filter(isServed).slice(0, 10));
      await drive(clients, () => answered() >= room + 10 - beyond, "those who waited, in place of ten who left");
      await untilAll(true);
      while (!clients.every((client) => client.isAnswered)) {
        const before = answered();
        close(clients.filter(isServed));
        await drive(clients, () => answered() > before, "more of those who waited");
      }
      close(clients);
      await untilAll(false);
      const now = await reports();
      expect(now.filter(({ suspends }) => suspends === 0), "threads that never paused").toEqual([]);
      expect(clients.filter(({ isGone }) => isGone)).toEqual([]);
      console.log(
        `${trigger}, ${shared}: room for ${room} of 300; ` +
          now.map(({ suspends, resumes, counters }) => `${suspends} pauses, ${resumes} resumes, ${nonZero(counters)}`)
            .join(" | "),
      );
      await isServing(server);
      await stops(server, before);
    });

    test("each client is answered or refused, through one reserve", async () => {
      const { server, before } = await startThreads("shed");
      for (let round = 0; round < 3; round++) {
        const { served, refused } = await settled(connect(server, 300));
        expect(served.length).toBeGreaterThan(0);
        expect(refused.length).toBeGreaterThan(0);
        close(refused);
        await areServed(served);
        await leave(server, served);
      }
      await isServing(server);
      const now = await report<ThreadReport[]>(server);
      console.log(`${trigger}, ${shared}: ${now.map(({ counters }) => nonZero(counters)).join(" | ")}`);
      expect(new Set(now.map(({ size, missing }) => `${size} ${missing}`)).size).toBe(1);
      await stops(server, before);
    });
  });
});
