/** src/timers.ts: timers by deadline, against a clock that the tests turn. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Timer, Timers } from "../src/timers.ts";
import { check } from "./support/properties.ts";

const fail = (error: unknown): never => {
  throw error;
};

function addTimer(timers: Timers, now: number, ms: number, callback: () => void): Timer {
  const timer = new Timer(timers, callback);
  timers.add(timer, now, ms);
  return timer;
}

/** Timers and the names of those that ran. */
function timersWithLog(): { timers: Timers; ran: string[]; set: (now: number, ms: number, name: string) => Timer } {
  const timers = new Timers();
  const ran: string[] = [];
  return { timers, ran, set: (now, ms, name) => addTimer(timers, now, ms, () => ran.push(name)) };
}

describe("Timers.add()", () => {
  test("Timers.add() throws RangeError for what is not 0 to 2^31 - 1 ms, and sets nothing", () => {
    const timers = new Timers();
    for (const ms of [-1, 2 ** 31, Infinity, NaN, -Infinity]) {
      expect(() => addTimer(timers, 0, ms, () => {})).toThrow(
        new RangeError(`Cannot set a timer for ${ms} ms: it must be 0 to 2147483647`),
      );
    }
    expect(timers.nextDeadline).toBe(Infinity);
  });

  // A text was appended to the clock's digits, and the timer never came.
  test("Timers.add() throws TypeError for what is no number", () => {
    const timers = new Timers();
    for (const ms of ["5", null, undefined, 5n] as unknown[]) {
      expect(() => addTimer(timers, 0, ms as number, () => {})).toThrow(TypeError);
    }
    expect(timers.nextDeadline).toBe(Infinity);
  });

  test("Timers.add() takes the bounds and fractions", () => {
    const timers = new Timers();
    for (const ms of [2 ** 31 - 1, 1.5, 0]) addTimer(timers, 10, ms, () => {});
    expect(timers.nextDeadline).toBe(10);
  });
});

describe("Timers.nextDeadline", () => {
  test("Timers.nextDeadline is that of the first timer due, Infinity without one", () => {
    const timers = new Timers();
    expect(timers.nextDeadline).toBe(Infinity);
    addTimer(timers, 0, 30, () => {});
    const first = addTimer(timers, 0, 10, () => {});
    addTimer(timers, 0, 20, () => {});
    expect(timers.nextDeadline).toBe(10);
    first.cancel();
    expect(timers.nextDeadline).toBe(20);
  });
});

describe("Timers.fire()", () => {
  test("Timers.fire() runs what is due in order of deadline, and nothing early", () => {
    const { timers, ran, set } = timersWithLog();
    for (const ms of [30, 10, 20, 40]) set(0, ms, `${ms}`);
    timers.fire(9.999, fail);
    expect(ran).toEqual([]);
    timers.fire(30, fail);
    expect(ran).toEqual(["10", "20", "30"]);
    timers.fire(40, fail);
    expect(ran).toEqual(["10", "20", "30", "40"]);
  });

  test("Timers.fire() runs timers of one deadline in the order they were set", () => {
    const { timers, ran, set } = timersWithLog();
    set(0, 20, "a");
    set(5, 15, "b");
    set(20, 0, "c");
    set(10, 10, "d");
    timers.fire(20, fail);
    expect(ran.join("")).toBe("abcd");
  });

  test("Timers.fire() runs each timer once", () => {
    const { timers, ran, set } = timersWithLog();
    const timer = set(0, 1, "once");
    expect(timer.isPending).toBe(true);
    timers.fire(1, fail);
    timers.fire(2, fail);
    expect(ran).toEqual(["once"]);
    expect(timer.isPending).toBe(false);
  });

  test("Timers.fire() leaves what a callback sets to the next call, even if it is due at once", () => {
    const timers = new Timers();
    let runs = 0;
    const again = () => {
      runs++;
      addTimer(timers, 10, 0, again);
    };
    addTimer(timers, 0, 10, again);
    for (let call = 1; call <= 3; call++) {
      timers.fire(10, fail);
      expect(runs).toBe(call);
    }
  });

  test("Timers.fire() hands what a callback throws to onError, and runs the next one", () => {
    const { timers, ran, set } = timersWithLog();
    const errors: unknown[] = [];
    addTimer(timers, 0, 1, () => fail("first"));
    set(0, 2, "second");
    addTimer(timers, 0, 3, () => fail("third"));
    timers.fire(3, (error) => errors.push(error));
    expect(ran).toEqual(["second"]);
    expect(errors).toEqual(["first", "third"]);
  });
});

describe("Timer.cancel()", () => {
  test("Timer.cancel() keeps the callback from running; safe twice, and after it has run", () => {
    const { timers, ran, set } = timersWithLog();
    const [cancelled, done] = [set(0, 1, "cancelled"), set(0, 2, "done")];
    cancelled.cancel();
    cancelled.cancel();
    expect(cancelled.isPending).toBe(false);
    set(0, 3, "other");
    timers.fire(2, fail);
    done.cancel();
    timers.fire(3, fail);
    expect(ran).toEqual(["done", "other"]);
  });

  test("a timer that cancels itself in its callback runs once and leaves the others", () => {
    const { timers, ran, set } = timersWithLog();
    const self: Timer = addTimer(timers, 0, 1, () => {
      ran.push("self");
      self.cancel();
    });
    set(0, 1, "other");
    timers.fire(1, fail);
    expect(ran).toEqual(["self", "other"]);
  });

  test("a timer that cancels another one due in the same call keeps it from running", () => {
    const { timers, ran, set } = timersWithLog();
    addTimer(timers, 0, 1, () => victim.cancel());
    const victim = set(0, 2, "victim");
    set(0, 3, "bystander");
    timers.fire(3, fail);
    expect(ran).toEqual(["bystander"]);
  });
});

describe("Timers, against a sorted list", () => {
  interface Entry {
    readonly name: string;
    readonly deadline: number;
    readonly timer: Timer;
  }

  const step = fc.oneof(
    { weight: 5, arbitrary: fc.record({ kind: fc.constant("set" as const), ms: fc.nat(20) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("cancel" as const), which: fc.nat() }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("pass" as const), ms: fc.nat(8) }) },
  );

  test("Timers runs what a sorted list would, whatever is set, cancelled and passes", () => {
    check(fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const { timers, ran, set } = timersWithLog();
      let model: Entry[] = []; // in the order of being set
      const all: Timer[] = [];
      const expected: string[] = [];
      let now = 0;
      for (const [i, step] of steps.entries()) {
        switch (step.kind) {
          case "set": {
            const timer = set(now, step.ms, `${i}`);
            model.push({ name: `${i}`, deadline: now + step.ms, timer });
            all.push(timer);
            break;
          }
          case "cancel": {
            const timer = all[step.which % all.length];
            timer?.cancel();
            model = model.filter((entry) => entry.timer !== timer);
            break;
          }
          case "pass": {
            now += step.ms;
            timers.fire(now, fail);
            const due = model.filter(({ deadline }) => deadline <= now).sort((a, b) => a.deadline - b.deadline);
            expected.push(...due.map(({ name }) => name));
            model = model.filter(({ deadline }) => deadline > now);
          }
        }
        expect(timers.nextDeadline).toBe(Math.min(Infinity, ...model.map(({ deadline }) => deadline)));
        expect(all.filter((timer) => timer.isPending)).toEqual(model.map(({ timer }) => timer));
      }
      timers.fire(Infinity, fail);
      expected.push(...model.sort((a, b) => a.deadline - b.deadline).map(({ name }) => name));
      expect(ran).toEqual(expected);
    }));
  });

  test("Timers keeps its promises when callbacks set and cancel timers", () => {
    const plan = fc.record({ ms: fc.nat(10), sets: fc.array(fc.nat(5), { maxLength: 2 }), cancels: fc.nat(30) });
    check(fc.property(fc.array(plan, { minLength: 1, maxLength: 30 }), (plans) => {
      const timers = new Timers();
      const all: Timer[] = [];
      const ran: Timer[] = [];
      let now = 0;
      let call = 0;
      const set = (ms: number, before: () => void) => {
        const setIn = call;
        const timer: Timer = addTimer(timers, now, ms, () => {
          expect(timer.deadline).toBeLessThanOrEqual(now); // never early
          expect(setIn).toBeLessThan(call); // nor in the call that set it
          const last = ran.at(-1);
          if (last !== undefined && last.deadline === timer.deadline) {
            expect(last.sequence).toBeLessThan(timer.sequence);
          }
          ran.push(timer);
          before();
        });
        all.push(timer);
      };
      const cancelled = new Set<Timer>();
      for (const { ms, sets, cancels } of plans) {
        set(ms, () => {
          for (const ms of sets) set(ms, () => {});
          const victim = all[cancels];
          if (victim?.isPending) cancelled.add(victim);
          victim?.cancel();
        });
      }
      for (; now <= 20; now++) {
        call++;
        timers.fire(now, fail);
      }
      expect(timers.nextDeadline).toBe(Infinity);
      expect(new Set(ran).size).toBe(ran.length); // each at most once
      expect(ran.length + cancelled.size).toBe(all.length);
      for (const timer of ran) expect(cancelled.has(timer)).toBe(false);
    }));
  });
});
