/** src/overload_log.ts: lines about overload, never many. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { OverloadEvent } from "../src/episode.ts";
import { OverloadLog } from "../src/overload_log.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { check } from "./support/properties.ts";

expectNoLeak();

const MINUTE_MS = 60_000;

function event(kind: OverloadEvent["kind"]): OverloadEvent {
  const cure = "raise the descriptor limit (ulimit -n, or LimitNOFILE= of systemd)";
  const counts = { served: 1, refused: 2, reaped: 0, pauses: 0, waiting: 3, connections: 4 };
  return { kind, cause: "descriptors", cure, durationMs: 1_000, ...counts, limit: 64, headroom: 4, reserve: 2 };
}

describe("OverloadLog.log()", () => {
  test("OverloadLog.log() writes a line for each event, with the address", () => {
    const lines: string[] = [];
    const log = new OverloadLog(() => "tcp://127.0.0.1:7007", (line) => lines.push(line));
    log.log(event("start"), 0);
    log.log(event("summary"), 30_000);
    log.log(event("end"), 40_000);
    expect(lines.map((line) => line.replace(/^(overload on tcp:\/\/127\.0\.0\.1:7007\S*( is over)?).*$/, "$1")))
      .toEqual([
        "overload on tcp://127.0.0.1:7007:",
        "overload on tcp://127.0.0.1:7007",
        "overload on tcp://127.0.0.1:7007 is over",
      ]);
  });

  test("OverloadLog.log() writes three lines a minute, and counts in the next what it withheld", () => {
    const lines: string[] = [];
    const log = new OverloadLog(() => "x", (line) => lines.push(line));
    for (let i = 0; i < 500; i++) log.log(event(i % 2 === 0 ? "start" : "end"), i * 100);
    expect(lines).toHaveLength(3);
    log.log(event("start"), MINUTE_MS);
    expect(lines).toHaveLength(4);
    expect(lines[3]).toMatch(/ \(497 lines withheld\)$/);
    log.log(event("end"), MINUTE_MS + 100);
    expect(lines[4]).not.toContain("withheld");
  });

  test("OverloadLog.log() never writes more than three lines in any minute, and loses count of none", () => {
    check(fc.property(fc.array(fc.nat(40_000), { maxLength: 60 }), (gaps) => {
      const written: number[] = [];
      let [now, withheld] = [0, 0];
      const log = new OverloadLog(() => "x", (line) => {
        written.push(now);
        withheld += Number(/\((\d+) lines withheld\)$/.exec(line)?.[1] ?? 0);
      });
      for (const gapMs of gaps) log.log(event("summary"), now += gapMs);
      for (const at of written) {
        expect(written.filter((other) => other >= at && other < at + MINUTE_MS).length).toBeLessThanOrEqual(3);
      }
      now += MINUTE_MS;
      log.log(event("end"), now); // after a quiet minute nothing is withheld
      expect(written.length + withheld).toBe(gaps.length + 1);
    }));
  });
});
