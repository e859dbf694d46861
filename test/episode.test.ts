/** src/episode.ts: from the first client there was no room for until a quiet second has passed. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  Episode,
  formatOverload,
  type OverloadCause,
  type OverloadEvent,
  type OverloadFigures,
} from "../src/episode.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { check } from "./support/properties.ts";

expectNoLeak();

const QUIET_MS = 1_000;
const SUMMARY_MS = 30_000;

const FIGURES: OverloadFigures = {
  served: 3,
  refused: 1234,
  reaped: 0,
  pauses: 2,
  waiting: 7,
  connections: 50,
  limit: 64,
  headroom: 4,
  reserve: 2,
};

describe("Episode.trouble()", () => {
  test("Episode.trouble() begins an episode with the first client, not with those that follow", () => {
    const episode = new Episode();
    expect(episode.isActive).toBe(false);
    expect(episode.trouble("headroom", 0)).toBe(true);
    const again = Array.from({ length: 10_000 }, (_, i) => episode.trouble("descriptors", i));
    expect(again).not.toContain(true);
    expect(episode.isActive).toBe(true);
    expect(episode.event("summary", 9_999, FIGURES)).toMatchObject({ cause: "headroom", durationMs: 9_999 });
  });
});

describe("Episode.due()", () => {
  test("Episode.due() is the end once a second was quiet, counted from the last client", () => {
    const episode = new Episode();
    episode.trouble("headroom", 0);
    expect(episode.due(QUIET_MS - 1, false)).toBeUndefined();
    episode.trouble("headroom", QUIET_MS - 1);
    expect(episode.due(2 * QUIET_MS - 2, false)).toBeUndefined();
    expect(episode.due(2 * QUIET_MS - 1, false)).toBe("end");
  });

  test("Episode.due() is no end while somebody waits, nor in the second after", () => {
    const episode = new Episode();
    episode.trouble("descriptors", 0);
    expect(episode.due(10 * QUIET_MS, true)).toBeUndefined();
    expect(episode.due(11 * QUIET_MS - 1, false)).toBeUndefined();
    expect(episode.due(11 * QUIET_MS, false)).toBe("end");
  });

  test("Episode.due() is the end again until that was told", () => {
    const episode = new Episode();
    episode.trouble("descriptors", 0);
    expect([episode.due(QUIET_MS, false), episode.due(QUIET_MS + 250, false)]).toEqual(["end", "end"]);
  });

  test("Episode.due() is a summary each half minute while it lasts", () => {
    const episode = new Episode();
    episode.trouble("memory", 500);
    const told: number[] = [];
    for (let now = 500; now <= 500 + 3 * SUMMARY_MS; now += 250) {
      episode.trouble("memory", now);
      if (episode.due(now, false) === "summary") told.push(now - 500);
    }
    expect(told).toEqual([SUMMARY_MS, 2 * SUMMARY_MS, 3 * SUMMARY_MS]);
  });
});

describe("Episode.event()", () => {
  test("Episode.event() has the figures it is given, and how long it has lasted", () => {
    const episode = new Episode();
    episode.trouble("maxConnections", 100.25);
    expect(episode.event("start", 100.25, FIGURES)).toEqual({
      kind: "start",
      cause: "maxConnections",
      cure: expect.any(String),
      durationMs: 0,
      ...FIGURES,
    });
    expect(episode.isActive).toBe(true);
    expect(episode.event("summary", 200, FIGURES).durationMs).toBe(100);
  });

  test("Episode.event() of the end ends it, and the next client begins another, with its own cause", () => {
    const episode = new Episode();
    episode.trouble("headroom", 0);
    expect(episode.event("end", 1_000, FIGURES)).toMatchObject({ kind: "end", cause: "headroom", durationMs: 1_000 });
    expect(episode.isActive).toBe(false);
    expect(episode.trouble("memory", 5_000)).toBe(true);
    expect(episode.event("start", 5_000, FIGURES)).toMatchObject({ cause: "memory", durationMs: 0 });
    expect(episode.due(5_000 + SUMMARY_MS - 1, true)).toBeUndefined();
    expect(episode.due(5_000 + SUMMARY_MS, true)).toBe("summary");
  });

  test("Episode: one start and one end, in turns, whenever clients come and whenever it is looked after", () => {
    const steps = fc.array(fc.record({ gapMs: fc.nat(2_000), isTrouble: fc.boolean(), isWaiting: fc.boolean() }));
    check(fc.property(steps, (all) => {
      const episode = new Episode();
      let [now, last, isRunning] = [0, -Infinity, false];
      for (const { gapMs, isTrouble, isWaiting } of all) {
        now += gapMs;
        if (isTrouble) {
          expect(episode.trouble("headroom", now)).toBe(!isRunning);
          [last, isRunning] = [now, true];
        }
        expect(episode.isActive).toBe(isRunning);
        if (!isRunning) continue;
        if (isWaiting) last = now;
        const isOver = now - last >= QUIET_MS;
        expect(episode.due(now, isWaiting) === "end").toBe(isOver);
        if (!isOver) continue;
        episode.event("end", now, FIGURES);
        isRunning = false;
      }
    }));
  });
});

// The descriptor limit stood behind every cause: "maxConnections reached (limit 19984)", where 3 were allowed.
const CURES: Readonly<Record<OverloadCause, [what: string, cure: string]>> = {
  "descriptors": [
    "out of file descriptors (limit 64)",
    "raise the descriptor limit (ulimit -n, or LimitNOFILE= of systemd)",
  ],
  "headroom": [
    "out of file descriptors but those kept for the runtime (limit 64)",
    "raise the descriptor limit (ulimit -n, or LimitNOFILE= of systemd)",
  ],
  "system descriptors": ["the system is out of file descriptors", "sysctl fs.file-max"],
  "maxConnections": ["maxConnections reached", "raise maxConnections"],
  "watches": ["out of epoll watches", "sysctl fs.epoll.max_user_watches"],
  "memory": ["the kernel is out of memory for sockets", "sysctl net.ipv4.tcp_mem"],
  "no listener answer": ["accepting fails", "strace -e accept4"],
};

describe("formatOverload()", () => {
  test.each(Object.entries(CURES) as [OverloadCause, [string, string]][])(
    "formatOverload() names what there is too little of, and the cure: %s",
    (cause, [what, cure]) => {
      const episode = new Episode();
      episode.trouble(cause, 0);
      const start = episode.event("start", 0, FIGURES);
      expect(start.cure).toContain(cure);
      expect(formatOverload(start, "tcp://127.0.0.1:7007")).toBe(
        `overload on tcp://127.0.0.1:7007: ${what}; 1234 refused, 3 served, 50 connected, 7 waiting; ` +
          `cure: ${start.cure}`,
      );
      const summary = formatOverload(episode.event("summary", SUMMARY_MS, FIGURES), "tcp://127.0.0.1:7007");
      expect(summary).toContain("for 30.0 s");
      expect(summary).toContain(cure);
    },
  );

  test("formatOverload() of the end says how long it lasted and what became of the clients", () => {
    const event: OverloadEvent = { kind: "end", cause: "headroom", cure: "", durationMs: 12_345, ...FIGURES };
    expect(formatOverload({ ...event, waiting: 0 }, "unix:///run/x.sock")).toBe(
      "overload on unix:///run/x.sock is over after 12.3 s: 1234 refused, 3 served, 50 connected, 0 waiting",
    );
  });

  test("formatOverload() has a question mark where the kernel does not tell how many wait, and is one line", () => {
    const event: OverloadEvent = { kind: "start", cause: "memory", cure: "", durationMs: 0, ...FIGURES };
    const line = formatOverload({ ...event, waiting: undefined }, "unix:///run/x.sock");
    expect(line).toContain("? waiting");
    expect(line).not.toContain("\n");
  });
});
