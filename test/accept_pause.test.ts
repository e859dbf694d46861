import { describe, expect, test } from "vitest";
import { AcceptPause } from "../src/accept_pause.ts";
import { Coordinator } from "../src/coordinator.ts";
import { PAUSE_MAX_MS, PAUSE_MIN_MS } from "../src/limits.ts";
import { EventLoop } from "../src/loop.ts";
import { FakeHost } from "./support/fake_host.ts";
import { FakeKernel } from "./support/fake_kernel.ts";

/** A pause, and what its owner is told: `"paused"`, `"expired 10"` after so many ms, `"resumed"`. */
class Rig {
  readonly kernel: FakeKernel = new FakeKernel();
  readonly loop: EventLoop = new EventLoop({}, this.kernel, new FakeHost(this.kernel));
  readonly coordinator: Coordinator = new Coordinator(undefined, false, this.kernel);
  readonly pause: AcceptPause;
  readonly log: string[] = [];
  /** What `expired` returns. */
  goesOnFor: number | undefined;
  #beganAt = 0;

  constructor() {
    this.pause = new AcceptPause(this.loop, this.coordinator, {
      paused: () => void this.log.push("paused"),
      resumed: () => void this.log.push("resumed"),
      expired: () => {
        this.log.push(`expired ${this.kernel.now - this.#beganAt}`);
        this.#beganAt = this.kernel.now;
        return this.goesOnFor;
      },
    });
    this.coordinator.join(this.pause, this.loop, 1, 0);
  }

  begin(minMs = 0, maxMs = Infinity): void {
    this.#beganAt = this.kernel.now;
    this.pause.begin(minMs, maxMs);
  }

  /** Takes turns until `count` more things are told, and returns them. */
  told(count: number): string[] {
    while (this.log.length < count) this.loop.turn(Infinity);
    return this.log.splice(0);
  }
}

describe("AcceptPause", () => {
  test("tells that it begins, and when its time has passed ends, for all who share the coordinator", () => {
    const rig = new Rig();
    rig.begin();
    expect([rig.pause.isActive, rig.coordinator.isPaused]).toEqual([true, true]);
    expect(rig.told(3)).toEqual(["paused", `expired ${PAUSE_MIN_MS}`, "resumed"]);
    expect([rig.pause.isActive, rig.coordinator.isPaused]).toEqual([false, false]);
  });

  test("backs off, up to a maximum, until a client is served", () => {
    const rig = new Rig();
    const times: string[] = [];
    for (let i = 0; i < 10; i++) {
      rig.begin();
      times.push(rig.told(3)[1]!);
    }
    const doubled = Array.from({ length: 10 }, (_, i) => Math.min(PAUSE_MIN_MS * 2 ** i, PAUSE_MAX_MS));
    expect(times).toEqual(doubled.map((ms) => `expired ${ms}`));
    rig.pause.served();
    rig.begin();
    expect(rig.told(3)[1]).toBe(`expired ${PAUSE_MIN_MS}`);
  });

  test("takes at least minMs and at most maxMs", () => {
    const rig = new Rig();
    rig.begin(100);
    expect(rig.told(3)[1]).toBe("expired 100");
    rig.begin(100, 7);
    expect(rig.told(3)[1]).toBe("expired 7");
  });

  test("goes on, for as long as its owner lets it", () => {
    const rig = new Rig();
    rig.begin();
    rig.goesOnFor = Infinity;
    expect(rig.told(4)).toEqual(["paused", "expired 10", "expired 20", "expired 40"]);
    rig.goesOnFor = 5;
    expect(rig.told(2)).toEqual(["expired 80", "expired 5"]);
    rig.goesOnFor = undefined;
    expect(rig.told(2)).toEqual(["expired 5", "resumed"]);
  });

  test("begun by another, lasts until that one resumes, or is not heard of for the longest pause", () => {
    const rig = new Rig();
    rig.coordinator.pause();
    rig.coordinator.resume();
    rig.coordinator.resume();
    expect(rig.log.splice(0)).toEqual(["paused", "resumed"]);
    rig.coordinator.pause();
    rig.coordinator.pause();
    expect(rig.told(3)).toEqual(["paused", `expired ${PAUSE_MAX_MS}`, "resumed"]);
  });

  test("close() ends it, telling nobody", () => {
    const rig = new Rig();
    rig.begin();
    rig.pause.close();
    expect([rig.pause.isActive, rig.log]).toEqual([false, ["paused"]]);
    expect(rig.loop.turn(2 * PAUSE_MAX_MS)).toBe(false);
    expect(rig.log).toEqual(["paused"]);
  });
});
