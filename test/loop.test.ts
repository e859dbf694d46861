/** src/loop.ts: turns, and the three ways to drive them. */
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { setImmediate, setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { EFD, EPOLL_CTL } from "../ffi/constants.ts";
import { type Host, host as realHost } from "../ffi/host.ts";
import { realSyscalls, type Syscalls } from "../ffi/syscalls.ts";
import { Interest } from "../src/interest.ts";
import { REARM_INTERVAL_MS, SLICE_MS } from "../src/limits.ts";
import { EventLoop, type EventLoopOptions } from "../src/loop.ts";
import type { Source } from "../src/poller.ts";
import type { Token } from "../src/token.ts";
import { expectNoLeak, openDescriptors, outcome, own } from "./support/descriptors.ts";
import { ManualHost } from "./support/hosts.ts";
import { failure, kernelWith } from "./support/kernel.ts";
import { runScript } from "./support/scripts.ts";
import { bytes } from "./support/sockets.ts";
import { expectThreads, wakingThread } from "./support/threads.ts";

expectNoLeak();
expectThreads();

const toClose: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of toClose.splice(0).reverse()) await close();
});

/** A loop that is stopped and closed when the test ends. */
function newLoop(options: EventLoopOptions = {}, sys: Syscalls = realSyscalls, host: Host = realHost()): EventLoop {
  const loop = new EventLoop(options, sys, host);
  toClose.push(async () => {
    loop.stop();
    if (host instanceof ManualHost) host.settle();
    while (loop.isRunning) await setImmediate();
    await loop.close();
  });
  return loop;
}

/** A loop on a host that the test moves by hand. */
function manualLoop(options: EventLoopOptions = {}, sys?: Syscalls): { loop: EventLoop; host: ManualHost } {
  const host = new ManualHost();
  return { loop: newLoop(options, sys, host), host };
}

/** A loop that `run` drives, on a host that the test moves by hand, and that has parked. */
async function parkedLoop(
  options: EventLoopOptions = {},
  sys?: Syscalls,
): Promise<ReturnType<typeof manualLoop> & Running> {
  const { loop, host } = manualLoop(options, sys);
  const running = run(loop);
  await host.ready;
  await Promise.resolve();
  host.settle();
  expect(host.parker.parkedMs).toBe(Infinity);
  return { loop, host, ...running };
}

interface Running {
  /** As `run` returned it. */
  readonly finished: Promise<void>;
  /** `"resolved"`, or what `run` rejected with; undefined while it runs. */
  result(): unknown;
}

function run(loop: EventLoop): Running {
  let result: unknown;
  const finished = loop.run();
  finished.then(() => result = "resolved", (error) => result = error);
  return { finished, result: () => result };
}

/** A source of `loop` that is ready for ever. */
function saturate(loop: EventLoop, onReady: () => void, isListener = false): Token {
  const fd = own(realSyscalls.eventfd(1, EFD.nonblock | EFD.cloexec));
  const source: Source = { onReady, isListener };
  const token = loop.poller.add(fd, Interest.readable, source);
  if (typeof token === "number") throw new Error(`Cannot add a source: ${outcome(token)}`);
  return token;
}

const fail = (error: unknown): never => {
  throw error;
};

describe("EventLoop.turn(), its phases", () => {
  test("a turn tells connections, listeners, timers, tasks and what ended, in this order", () => {
    const loop = newLoop();
    const order: string[] = [];
    loop.afterTurn({ onTurnEnd: () => order.push("ended") });
    loop.post(() => order.push("task"));
    loop.setTimer(0, () => order.push("timer"));
    saturate(loop, () => order.push("listener"), true);
    saturate(loop, () => order.push("connection"));
    expect(loop.turn(0)).toBe(true);
    expect(order).toEqual(["connection", "listener", "timer", "task", "ended"]);
  });

  test("a task posted in a turn runs in the next, whichever phase it was posted from", () => {
    const { loop } = manualLoop();
    let turn = 0;
    const ran: Record<string, number> = {};
    const post = (phase: string) => loop.post(() => ran[phase] ??= turn);
    for (const isListener of [false, true]) {
      saturate(loop, () => post(isListener ? "listener" : "connection"), isListener);
    }
    loop.setTimer(0, () => post("timer"));
    loop.post(() => post("task"));
    loop.afterTurn({ onTurnEnd: () => post("ended") });
    for (turn = 1; turn <= 2; turn++) loop.turn(0);
    expect(ran).toEqual({ connection: 2, listener: 2, timer: 2, task: 2, ended: 2 });
  });

  test("tasks run in the order they were posted, and a task that posts itself does not starve the rest", () => {
    const loop = newLoop();
    const order: string[] = [];
    const again = () => {
      order.push("again");
      loop.post(again);
    };
    loop.post(again);
    for (const name of ["a", "b"]) loop.post(() => order.push(name));
    loop.turn(0);
    expect(order).toEqual(["again", "a", "b"]);
    loop.turn(0);
    expect(order).toEqual(["again", "a", "b", "again"]);
  });

  test("what ends in this turn is told in this turn, and what ends while that is told in the next", () => {
    const loop = newLoop();
    const order: string[] = [];
    const later = { onTurnEnd: () => order.push("later") };
    const first = {
      onTurnEnd() {
        order.push("first");
        loop.afterTurn(later);
      },
    };
    loop.post(() => loop.afterTurn(first));
    loop.turn(0);
    expect(order).toEqual(["first"]);
    expect(loop.turn(0)).toBe(true);
    expect(order).toEqual(["first", "later"]);
  });

  test("EventLoop.turn() returns whether anything happened", () => {
    const loop = newLoop();
    expect(loop.turn(0)).toBe(false);
    loop.post(() => {});
    expect([loop.turn(0), loop.turn(0)]).toEqual([true, false]);
    loop.setTimer(0, () => {});
    expect([loop.turn(0), loop.turn(0)]).toEqual([true, false]);
    loop.afterTurn({ onTurnEnd() {} });
    expect([loop.turn(0), loop.turn(0)]).toEqual([true, false]);
    const token = saturate(loop, () => {});
    expect(loop.turn(0)).toBe(true);
    loop.poller.remove(token);
    expect(loop.turn(0)).toBe(false);
  });

  test("EventLoop.now is the time of the turn, however long its handlers take", () => {
    const { loop, host } = manualLoop();
    const seen: number[] = [];
    loop.post(() => {
      host.clockMs += 50;
      seen.push(loop.now);
    });
    loop.turn(0);
    loop.turn(0);
    expect([...seen, loop.now]).toEqual([1_000, 1_050]);
  });

  test("EventLoop.turn() throws RangeError for a timeout that is none", () => {
    const loop = newLoop();
    for (const timeoutMs of [-1, NaN, -Infinity]) expect(() => loop.turn(timeoutMs)).toThrow(RangeError);
  });

  test("turn() is not re-entrant: no handler can take a turn, run or runBlocking inside one", async () => {
    const errors: string[] = [];
    const rejections: Promise<void>[] = [];
    const loop = newLoop({ onError: (error) => errors.push((error as Error).message) });
    const tries = [
      () => loop.turn(0),
      () => loop.runBlocking(),
      () => rejections.push(loop.run()),
    ];
    for (const attempt of tries) {
      loop.post(attempt);
      loop.setTimer(0, attempt);
      loop.afterTurn({ onTurnEnd: attempt });
    }
    loop.turn(0);
    expect(errors.filter((message) => message.includes("turns do not nest"))).toHaveLength(3);
    expect(errors.filter((message) => message.includes("from inside its own turn"))).toHaveLength(3);
    for (const rejection of rejections) await expect(rejection).rejects.toThrow("from inside its own turn");
    expect([rejections.length, loop.isRunning]).toEqual([3, false]);
  });
});

describe("EventLoop.turn(), how long it waits", () => {
  /** A loop that notes the timeouts of epoll_wait(2) instead of waiting. */
  function noting(): ReturnType<typeof manualLoop> & { timeouts: number[] } {
    const timeouts: number[] = [];
    const kernel = kernelWith({
      epollWait(...args) {
        timeouts.push(args[3]);
        return realSyscalls.epollWait(args[0], args[1], args[2], 0);
      },
    });
    return { ...manualLoop({}, kernel), timeouts };
  }

  test("a turn waits up to its timeout or the next deadline, rounded up so that no timer is early", () => {
    const { loop, timeouts } = noting();
    loop.turn(Infinity);
    loop.turn(50);
    loop.turn(0);
    loop.turn(0.5);
    loop.setTimer(10.2, () => {});
    loop.turn(Infinity);
    loop.turn(10);
    expect(timeouts).toEqual([-1, 50, 0, 1, 11, 10]);
  });

  test("a turn does not wait with a task posted, something ended or a timer due", () => {
    const { loop, host, timeouts } = noting();
    loop.post(() => {});
    loop.turn(Infinity);
    loop.afterTurn({ onTurnEnd() {} });
    loop.turn(Infinity);
    loop.setTimer(5, () => {});
    host.clockMs += 6;
    loop.turn(Infinity);
    expect(timeouts).toEqual([0, 0, 0]);
  });

  test("a turn never hands the kernel more than it takes", () => {
    const { loop, timeouts } = noting();
    loop.turn(2 ** 40);
    expect(timeouts).toEqual([2 ** 31 - 1]);
  });

  test("a turn goes on after a signal during epoll_wait", () => {
    const kernel = kernelWith({ epollWait: () => failure("EINTR") });
    const { loop } = manualLoop({}, kernel);
    const ran: string[] = [];
    loop.post(() => ran.push("task"));
    loop.turn(Infinity);
    expect(ran).toEqual(["task"]);
  });

  // Tasks were taken before the wait, so a wait that failed put them behind those posted later.
  test("a turn whose wait fails throws, and the tasks that were posted run in the next, in order", () => {
    let fails = true;
    const kernel = kernelWith({
      epollWait: (...args) => fails ? failure("EBADF") : realSyscalls.epollWait(...args),
    });
    const loop = newLoop({}, kernel);
    const ran: string[] = [];
    loop.post(() => ran.push("a"));
    expect(() => loop.turn(0)).toThrow("epoll_wait(2) returned EBADF");
    fails = false;
    loop.post(() => ran.push("b"));
    loop.turn(0);
    expect(ran).toEqual(["a", "b"]);
  });
});

describe("EventLoop.setTimer()", () => {
  test("timers run in order of their deadline, and those of one deadline in the order they were set", () => {
    const { loop, host } = manualLoop();
    const ran: number[] = [];
    for (const ms of [30, 10, 20, 10.5, 10]) loop.setTimer(ms, () => ran.push(ms));
    host.clockMs += 30;
    loop.turn(0);
    expect(ran).toEqual([10, 10, 10.5, 20, 30]);
  });

  test("a timer never runs early", () => {
    const { loop, host } = manualLoop();
    const ran: string[] = [];
    loop.setTimer(10, () => ran.push("timer"));
    host.clockMs += 9.999;
    expect(loop.turn(0)).toBe(false);
    host.clockMs += 0.001;
    expect(loop.turn(0)).toBe(true);
    expect(ran).toEqual(["timer"]);
  });

  test("a timer never runs early by the clock of the runtime", () => {
    const loop = newLoop();
    for (const ms of [1, 1.5, 3, 7]) {
      const begin = performance.now();
      let end: number | undefined;
      loop.setTimer(ms, () => end = performance.now());
      while (end === undefined) loop.turn(Infinity);
      expect(end - begin).toBeGreaterThanOrEqual(ms);
    }
  });

  test("a 0 ms timer that sets itself again does not starve sources, tasks and the turn's end", () => {
    const { loop } = manualLoop();
    const order: string[] = [];
    const again = () => {
      order.push("timer");
      loop.setTimer(0, again);
    };
    loop.setTimer(0, again);
    saturate(loop, () => order.push("source"));
    for (let i = 0; i < 3; i++) {
      loop.post(() => order.push("task"));
      loop.turn(0);
    }
    expect(order).toEqual(Array(3).fill(["source", "timer", "task"]).flat());
  });

  test("a timer may cancel itself and others in its callback", () => {
    const { loop, host } = manualLoop();
    const ran: string[] = [];
    const self = loop.setTimer(1, () => {
      ran.push("self");
      self.cancel();
      other.cancel();
    });
    const other = loop.setTimer(1, () => ran.push("other"));
    loop.setTimer(1, () => ran.push("bystander"));
    host.clockMs += 1;
    loop.turn(0);
    expect(ran).toEqual(["self", "bystander"]);
  });

  test("EventLoop.setTimer() throws for what is not 0 to 2^31 - 1 ms", () => {
    const loop = newLoop();
    for (const ms of [-1, NaN, Infinity, 2 ** 31]) expect(() => loop.setTimer(ms, () => {})).toThrow(RangeError);
    expect(() => loop.setTimer("5" as unknown as number, () => {})).toThrow(TypeError);
  });
});

describe("EventLoop, onError", () => {
  test("onError receives what sources, timers, tasks and endings throw, and the rest of the turn goes on", () => {
    const errors: unknown[] = [];
    const loop = newLoop({ onError: (error) => errors.push(error) });
    const ran: string[] = [];
    saturate(loop, () => fail("connection"));
    saturate(loop, () => ran.push("connection"));
    saturate(loop, () => fail("listener"), true);
    saturate(loop, () => ran.push("listener"), true);
    for (const bad of [true, false]) {
      const act = (phase: string) => () => bad ? fail(phase) : void ran.push(phase);
      loop.setTimer(0, act("timer"));
      loop.post(act("task"));
      loop.afterTurn({ onTurnEnd: act("ended") });
    }
    expect(loop.turn(0)).toBe(true);
    const phases = ["connection", "listener", "timer", "task", "ended"];
    expect(errors).toEqual(phases);
    expect(ran).toEqual(phases);
  });

  test("what onError throws leaves the turn once it is over; of several the first, the others are diagnosed", () => {
    const { loop, host } = manualLoop({ onError: fail });
    const ran: string[] = [];
    for (const name of ["first", "second"]) loop.post(() => fail(name));
    loop.post(() => ran.push("task"));
    loop.afterTurn({ onTurnEnd: () => ran.push("ended") });
    expect(() => loop.turn(0)).toThrow("first");
    expect(ran).toEqual(["task", "ended"]);
    expect(host.lines).toEqual(["spillway: a handler failed: second"]);
    expect(loop.turn(0)).toBe(false); // it leaves once
  });

  test("onError is a line on standard error by default, with the stack", () => {
    const { loop, host } = manualLoop();
    const error = new Error("oops");
    for (const thrown of [error, "text", undefined]) loop.post(() => fail(thrown));
    loop.turn(0);
    expect(host.lines).toEqual([
      `spillway: a handler failed: ${error.stack}`,
      "spillway: a handler failed: text",
      "spillway: a handler failed: undefined",
    ]);
  });

  // Its text could not be had, which ended the loop, and with it the server.
  test("onError takes what has no text by default, and the loop goes on", () => {
    const { loop, host } = manualLoop();
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    for (const thrown of [Object.create(null), proxy, Symbol("odd")]) loop.post(() => fail(thrown));
    loop.turn(0);
    const line = "spillway: a handler failed: something of type object, which has no text";
    expect(host.lines).toEqual([line, line, "spillway: a handler failed: Symbol(odd)"]);
  });

  test("a flood of errors is a few lines in a minute, and their number", () => {
    const { loop, host } = manualLoop();
    for (let i = 0; i < 1_000; i++) loop.report(i);
    expect(host.lines).toHaveLength(11);
    expect(host.lines.slice(-2)).toEqual([
      "spillway: a handler failed: 9",
      "spillway: others that fail in this minute are only counted",
    ]);
    host.clockMs += 60_000;
    loop.report("later");
    expect(host.lines.slice(11)).toEqual([
      "spillway: 990 more handlers failed until then",
      "spillway: a handler failed: later",
    ]);
  });

  test("EventLoop throws TypeError for an onError that is no function, and for options it does not know", () => {
    expect(() => new EventLoop({ onError: "log" as never })).toThrow(TypeError);
    expect(() => new EventLoop({ onerror: () => {} } as never)).toThrow('there is no option "onerror"');
    for (const waitMs of [-1, 0.5, 101]) expect(() => new EventLoop({ waitMs })).toThrow("waitMs");
    for (const spinMs of [-1, 10.5]) expect(() => new EventLoop({ spinMs })).toThrow("spinMs");
  });

  test("what onError throws rejects run(), and the loop can be run again", async () => {
    let throws = true;
    const loop = newLoop({ onError: (error) => throws ? fail(error) : undefined });
    loop.post(() => fail(new Error("fatal")));
    await expect(loop.run()).rejects.toThrow("fatal");
    expect(loop.isRunning).toBe(false);
    throws = false;
    loop.post(() => fail(new Error("contained")));
    loop.post(() => loop.post(() => loop.stop()));
    await loop.run();
  });

  test("what onError throws leaves runBlocking()", () => {
    const loop = newLoop({ onError: fail });
    loop.post(() => fail(new Error("fatal")));
    expect(() => loop.runBlocking()).toThrow("fatal");
    expect(loop.isRunning).toBe(false);
  });

  // The error waited for whatever happened next, on an idle server for ever.
  test("what onError throws of an error reported to a parked loop from outside a turn rejects run() at once", async () => {
    const { loop, host, result, finished } = await parkedLoop({ onError: fail });
    loop.report("from a promise");
    expect(host.parker.parkedMs).toBeUndefined();
    host.settle();
    await finished.catch(() => {});
    expect(result()).toBe("from a promise");
  });
});

describe("EventLoop.run(), parking", () => {
  test("run() blocks for up to waitMs instead of parking while events come fast, and parks when they do not", async () => {
    const timeouts: number[] = [];
    let whileBlocked = 0;
    const sys: Syscalls = {
      ...realSyscalls,
      epollWait(fd, events, count, timeoutMs) {
        if (timeoutMs === 0) return realSyscalls.epollWait(fd, events, count, 0);
        timeouts.push(timeoutMs);
        if (whileBlocked-- > 0) wakeAfter(1);
        else host.clockMs += timeoutMs;
        return realSyscalls.epollWait(fd, events, count, 0);
      },
    };
    const { loop, host } = await parkedLoop({ waitMs: 2 }, sys);
    let wakes = 0;
    const waker = loop.createWaker(() => wakes++);
    const wakeAfter = (ms: number): void => {
      host.clockMs += ms;
      waker.wake();
    };
    const wakeParked = (ms: number): void => {
      wakeAfter(ms);
      host.parker.fire();
      host.settle();
    };
    // It learns from events that come soon after it has parked; then it blocks for the next ones, without parking.
    whileBlocked = 5;
    let parks = 0;
    for (; timeouts.length === 0 && parks < 20; parks++) wakeParked(1);
    expect(timeouts).toEqual([2, 2, 2, 2, 2, 2]); // in vain the last time
    expect(wakes).toBe(parks + 5);
    expect(host.parker.parkedMs).toBe(Infinity);
    // Slow ones are waited for by parking.
    for (let i = 0; i < 20; i++) wakeParked(50);
    timeouts.length = 0;
    for (let i = 0; i < 20; i++) wakeParked(50);
    expect(timeouts).toEqual([]);
    waker.close();
  });

  test("run() with spinMs looks again instead of parking while events come fast, and parks when they do not", async () => {
    const { loop, host } = await parkedLoop({ spinMs: 0.2, waitMs: 0 });
    let parks = 0;
    const event = (afterMs: number) => {
      loop.setTimer(afterMs, () => {});
      host.clockMs += afterMs;
      if (host.parker.parkedMs === undefined) return void host.runMacrotasks();
      parks++;
      host.parker.fire();
    };
    for (let i = 0; i < 20; i++) event(0.05);
    expect(parks).toBeLessThan(15);
    const before = parks;
    for (let i = 0; i < 20; i++) event(0.05);
    expect(parks).toBe(before);
    for (let i = 0; i < 40; i++) {
      event(5);
      host.runMacrotasks();
    }
    expect(host.parker.parkedMs).toBe(Infinity);
    expect(host.macrotasks).toEqual([]); // nothing burns
  });

  test("run() parks when idle, until the next deadline", async () => {
    const { loop, host } = manualLoop();
    loop.setTimer(70, () => {});
    loop.setTimer(30, () => {});
    run(loop);
    await host.ready;
    await Promise.resolve();
    expect(host.parker.parkedMs).toBe(30);
    expect(host.macrotasks).toEqual([]);
    host.clockMs += 30;
    host.parker.fire();
    host.settle();
    expect(host.parker.parkedMs).toBe(40);
  });

  test.each<[string, (loop: EventLoop, done: () => void) => void]>([
    ["post()", (loop, done) => loop.post(done)],
    ["setTimer()", (loop, done) => loop.setTimer(0, done)],
    ["afterTurn()", (loop, done) => loop.afterTurn({ onTurnEnd: done })],
  ])("%s from outside wakes a parked loop", async (_, act) => {
    const { loop, host } = await parkedLoop();
    let runs = 0;
    act(loop, () => runs++);
    expect([host.parker.parkedMs, runs]).toEqual([undefined, 0]); // never inside the caller's stack
    host.settle();
    expect([host.parker.parkedMs, runs]).toEqual([Infinity, 1]);
  });

  test("what a turn by hand leaves to be done wakes a parked loop", async () => {
    const { loop, host } = await parkedLoop();
    let flushed = 0;
    const flushing = { onFlush: () => void flushed++ };
    loop.setTimer(30, () => loop.afterTurn({ onTurnEnd: () => loop.flushLater(flushing) }));
    host.settle();
    expect(host.parker.parkedMs).toBe(30);
    host.clockMs += 30;
    loop.turn(0);
    expect([host.parker.parkedMs, flushed]).toEqual([undefined, 0]);
    host.settle();
    expect([host.parker.parkedMs, flushed]).toEqual([Infinity, 1]);
  });

  test("setTimer() with a later deadline than the next one leaves a parked loop alone", async () => {
    const { loop, host } = await parkedLoop();
    loop.setTimer(10, () => {});
    host.settle();
    expect(host.parker.parkedMs).toBe(10);
    loop.setTimer(20, () => {});
    expect([host.parker.parkedMs, host.macrotasks]).toEqual([10, []]);
    loop.setTimer(5, () => {});
    host.settle();
    expect(host.parker.parkedMs).toBe(5);
  });

  test("stop() wakes a parked loop, which ends without another turn", async () => {
    const { loop, host, result, finished } = await parkedLoop();
    loop.stop();
    loop.stop();
    expect(loop.isRunning).toBe(true);
    host.settle();
    await finished;
    expect([result(), loop.isRunning, host.parker.parkedMs]).toEqual(["resolved", false, undefined]);
  });

  test("run() does not park while there is work that the epoll descriptor does not tell of", async () => {
    const { loop, host } = await parkedLoop();
    let posts = 10;
    const again = () => {
      host.clockMs += SLICE_MS;
      if (--posts > 0) loop.post(again);
    };
    loop.post(again);
    while (posts > 0) {
      expect(host.parker.parkedMs).toBeUndefined();
      expect(host.runMacrotasks()).toBe(1);
    }
  });

  test("run() hands the thread to the runtime after a slice under a saturating source, and never parks", async () => {
    const { loop, host } = await parkedLoop();
    let turns = 0;
    saturate(loop, () => {
      turns++;
      host.clockMs++;
    });
    host.parker.fire();
    for (let round = 1; round <= 5; round++) {
      expect([turns, host.macrotasks.length, host.parker.parkedMs]).toEqual([round * (SLICE_MS + 1), 1, undefined]);
      host.runMacrotasks();
    }
  });

  test("run() hands the thread to the runtime after a turn in which a handler has returned a promise", async () => {
    const { loop, host } = await parkedLoop();
    let turns = 0;
    saturate(loop, () => {
      turns++;
      host.clockMs++;
      if (turns === 2 || turns === 3) loop.promised();
    });
    host.parker.fire();
    for (const expected of [2, 3, 3 + SLICE_MS + 1]) {
      expect([turns, host.macrotasks.length, host.parker.parkedMs]).toEqual([expected, 1, undefined]);
      host.runMacrotasks();
    }
  });

  test("run() keeps its parker for the next run, and close() closes it", async () => {
    const { loop, host, finished } = await parkedLoop();
    expect(loop.descriptorsToCome).toBe(0);
    loop.stop();
    host.settle();
    await finished;
    const again = run(loop);
    await host.ready;
    await Promise.resolve();
    expect([host.parkers.length, host.parker.parkedMs]).toEqual([1, Infinity]);
    loop.stop();
    host.settle();
    await again.finished;
    await loop.close();
    expect(host.parker.isClosed).toBe(true);
  });

  test("EventLoop.descriptorsToCome is what the parker will open, until run() has made it", async () => {
    const { loop, host } = manualLoop();
    expect(loop.descriptorsToCome).toBe(2);
    run(loop);
    await host.ready;
    expect(loop.descriptorsToCome).toBe(0);
  });

  // The loop kept the parker that had failed: one moment without descriptors, and it could never be run again.
  test("run() rejects with what its parker fails to start with, and makes another one when run again", async () => {
    const { loop, host } = manualLoop();
    host.ready = Promise.reject(new Error("no thread"));
    await expect(loop.run()).rejects.toThrow("no thread");
    expect([loop.isRunning, host.parker.isClosed, loop.descriptorsToCome]).toEqual([false, true, 2]);
    host.ready = Promise.resolve();
    run(loop);
    await host.ready;
    await Promise.resolve();
    expect(host.parkers.map(({ parkedMs }) => parkedMs)).toEqual([undefined, Infinity]);
  });

  test("stop() while run() starts ends it before its first turn", async () => {
    const { loop } = manualLoop();
    let turns = 0;
    saturate(loop, () => turns++);
    const { finished } = run(loop);
    loop.stop();
    await finished;
    expect([turns, loop.isRunning]).toEqual([0, false]);
  });

  test("ref() and unref() reach the parker, also before there is one", async () => {
    const { loop, host } = manualLoop();
    loop.unref();
    run(loop);
    await host.ready;
    expect(host.parker.isReferenced).toBe(false);
    loop.ref();
    expect(host.parker.isReferenced).toBe(true);
    loop.unref();
    expect(host.parker.isReferenced).toBe(false);
  });
});

describe("EventLoop.run(), beside the runtime", () => {
  test("run() settles after stop() from a source, a timer or a task, and can be run again", async () => {
    const loop = newLoop();
    for (let round = 0; round < 3; round++) {
      const token = saturate(loop, () => loop.stop());
      await loop.run();
      loop.poller.remove(token);
      loop.setTimer(1, () => loop.stop());
      await loop.run();
      loop.post(() => loop.stop());
      await loop.run();
      expect(loop.isRunning).toBe(false);
    }
  });

  test("run() settles after stop() from a promise and from a timer of the runtime, while it is parked", async () => {
    const loop = newLoop();
    const first = loop.run();
    await setTimeout(5);
    loop.stop();
    await first;
    const second = loop.run();
    loop.stop();
    await second;
  });

  test("run() settles after another thread has its waker call stop()", async () => {
    const loop = newLoop();
    const waker = loop.createWaker(() => loop.stop());
    toClose.push(() => waker.close());
    const thread = await wakingThread(waker);
    const finished = loop.run();
    await setTimeout(5); // so that it has most likely parked
    thread.wake();
    await finished;
    await thread.ended;
  });

  test.each<[string, (loop: EventLoop, done: () => void) => void]>([
    ["post()", (loop, done) => loop.post(done)],
    ["setTimer()", (loop, done) => loop.setTimer(1, done)],
    ["afterTurn()", (loop, done) => loop.afterTurn({ onTurnEnd: done })],
  ])("%s from outside wakes a loop that the runtime has parked", async (_, act) => {
    const loop = newLoop();
    const finished = loop.run();
    for (let round = 0; round < 5; round++) {
      await setTimeout(3);
      await new Promise<void>((resolve) => act(loop, resolve));
    }
    loop.stop();
    await finished;
  });

  test("promises, timers, files and sockets of the runtime go on under a saturating source", async () => {
    const loop = newLoop();
    let turns = 0;
    saturate(loop, () => turns++);
    const finished = loop.run();
    await new Promise<void>((resolve) => loop.post(resolve));
    for (let i = 0; i < 10; i++) await Promise.resolve();
    await setTimeout(5);
    await setImmediate();
    expect((await readFile(fileURLToPath(import.meta.url), "utf8")).length).toBeGreaterThan(0);
    const server = createServer((socket) => socket.end("hello")).listen(0, "127.0.0.1");
    await once(server, "listening");
    const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
    const [chunk] = await once(client, "data");
    expect(String(chunk)).toBe("hello");
    client.destroy();
    server.close();
    await once(server, "close");
    expect(turns).toBeGreaterThan(0);
    const seen = turns;
    await new Promise<void>((resolve) => loop.post(resolve));
    expect(turns).toBeGreaterThan(seen); // and so does the loop
    loop.stop();
    await finished;
  });

  test("run() twice at a time rejects, and so does runBlocking() meanwhile; the first goes on", async () => {
    const loop = newLoop();
    const finished = loop.run();
    await expect(loop.run()).rejects.toThrow(new RangeError("Cannot run an event loop twice at a time"));
    expect(() => loop.runBlocking()).toThrow("Cannot run an event loop twice at a time");
    await new Promise<void>((resolve) => loop.post(resolve));
    await expect(loop.run()).rejects.toThrow(RangeError);
    expect(loop.isRunning).toBe(true);
    loop.stop();
    await finished;
  });

  test("two loops run on one thread beside each other", async () => {
    const loops = [newLoop(), newLoop()];
    const finished = loops.map((loop) => loop.run());
    for (let round = 0; round < 3; round++) {
      for (const loop of loops) await new Promise<void>((resolve) => loop.setTimer(1, resolve));
    }
    for (const loop of loops) loop.stop();
    await Promise.all(finished);
  });
});

describe("EventLoop.runBlocking()", () => {
  test("runBlocking() returns after stop() from a source, a timer or a task, and can be run again", () => {
    const loop = newLoop();
    for (let round = 0; round < 3; round++) {
      const token = saturate(loop, () => loop.stop());
      loop.runBlocking();
      loop.poller.remove(token);
      loop.setTimer(2, () => loop.stop());
      loop.runBlocking();
      loop.post(() => loop.stop());
      loop.runBlocking();
    }
    expect(loop.isRunning).toBe(false);
  });

  test("runBlocking() goes on after a signal during epoll_wait", async () => {
    const { code, stdout } = await runScript("loop_process.ts", { args: ["interrupted by signals"] });
    expect([code, stdout]).toEqual([0, "interrupted\n"]);
  });

  test("runBlocking() finishes the turn that stop() is called in", () => {
    const loop = newLoop();
    const ran: string[] = [];
    saturate(loop, () => loop.stop());
    loop.post(() => ran.push("task"));
    loop.afterTurn({ onTurnEnd: () => ran.push("ended") });
    loop.runBlocking();
    expect(ran).toEqual(["task", "ended"]);
  });

  test("stop() before a run is forgotten by it", () => {
    const loop = newLoop();
    loop.stop();
    let turns = 0;
    saturate(loop, () => {
      if (++turns === 3) loop.stop();
    });
    loop.runBlocking();
    expect(turns).toBe(3);
  });
});

describe("EventLoop, whether it keeps the process alive", () => {
  test.each([
    ["referenced", "alive\n"],
    ["referenced again", "alive\n"],
    ["a timer of the loop", "fired\n"],
    ["unreferenced", ""],
    ["unreferenced while parked", ""],
    ["unreferenced with a timer of the loop", ""],
    ["stopped and closed", "closed\n"],
  ])("a process with a loop that is %s ends with what it says", async (scene, stdout) => {
    const result = await runScript("loop_process.ts", { args: [scene] });
    expect(result).toEqual({ code: 0, signal: null, stdout, stderr: "" });
  });
});

describe("EventLoop.close()", () => {
  test("close() leaves no descriptor, whether the loop was run or not", async () => {
    for (const drive of [() => {}, (loop: EventLoop) => loop.run(), (loop: EventLoop) => loop.runBlocking()]) {
      const before = openDescriptors().length;
      const loop = newLoop();
      loop.post(() => loop.stop());
      await drive(loop);
      await loop.close();
      await expect.poll(() => openDescriptors().length, { timeout: 20_000 }).toBeLessThanOrEqual(before);
    }
  });

  test("close() while the loop runs rejects, and the loop goes on", async () => {
    const loop = newLoop();
    const finished = loop.run();
    await expect(loop.close()).rejects.toThrow("Cannot close an event loop that runs: stop it first");
    await new Promise<void>((resolve) => loop.post(resolve));
    await expect(loop.close()).rejects.toThrow(RangeError);
    loop.stop();
    await expect(loop.close()).rejects.toThrow(RangeError); // it has not ended yet
    await finished;
    await loop.close();
  });

  test("close() is safe twice, and the second call settles no earlier than the first", async () => {
    const loop = newLoop();
    loop.post(() => loop.stop());
    await loop.run();
    const order: number[] = [];
    await Promise.all([1, 2].map((call) => loop.close().then(() => order.push(call))));
    expect([order, loop.poller.fd]).toEqual([[1, 2], -1]);
    await loop.close();
  });

  test("a closed loop throws: turn(), run(), runBlocking() and createWaker()", async () => {
    const loop = newLoop();
    await loop.close();
    expect(() => loop.turn(0)).toThrow(new RangeError("Cannot take a turn: the event loop is closed"));
    expect(() => loop.runBlocking()).toThrow(RangeError);
    await expect(loop.run()).rejects.toThrow("Cannot run a closed event loop");
    expect(() => loop.createWaker(() => {})).toThrow(RangeError);
    expect(() => loop.createWaker(undefined!)).toThrow("Cannot do without onWake: it must be given");
  });

  test("beforeClose() tells once, before the poller is closed, unless it was taken back", async () => {
    const errors: unknown[] = [];
    const loop = new EventLoop({ onError: (error) => errors.push(error) });
    const told: string[] = [];
    const takeBack = loop.beforeClose(() => told.push("taken back"));
    loop.beforeClose(() => {
      throw new Error("from a task");
    });
    loop.beforeClose(() => told.push(loop.poller.fd === -1 ? "late" : "in time"));
    takeBack();
    takeBack();
    const closed = loop.close();
    expect(told).toEqual(["in time"]);
    await Promise.all([closed, loop.close()]);
    expect(told).toEqual(["in time"]);
    expect(errors).toEqual([new Error("from a task")]);
  });

  test("await using closes the loop", async () => {
    let kept: EventLoop;
    {
      await using loop = new EventLoop();
      kept = loop;
      loop.turn(0);
    }
    expect(kept.poller.fd).toBe(-1);
  });

  test("EventLoop leaves no descriptor behind where there is one for the poller but none for the waker", () => {
    expect(() => new EventLoop({}, kernelWith({ eventfd: () => failure("EMFILE") }))).toThrow("EMFILE");
  });
});

describe("EventLoop, re-arming", () => {
  test("edge-triggered sources are re-armed on a slow timer, in case errno was misread", () => {
    const { loop, host } = manualLoop();
    const fd = own(realSyscalls.eventfd(1, EFD.nonblock | EFD.cloexec));
    let events = 0;
    loop.poller.add(fd, Interest.readable | Interest.edge, { onReady: () => events++ });
    for (let i = 0; i < 3; i++) loop.turn(0);
    expect(events).toBe(1);
    for (let interval = 2; interval <= 4; interval++) {
      host.clockMs += REARM_INTERVAL_MS;
      for (let i = 0; i < 3; i++) loop.turn(0);
      expect(events).toBe(interval);
    }
  });

  // The exception left the timer's callback before it was set again: nothing was re-armed any more.
  test("a source that cannot be re-armed is reported, and the others are re-armed all the same", () => {
    const errors: unknown[] = [];
    const bad = own(realSyscalls.eventfd(1, EFD.nonblock | EFD.cloexec));
    const kernel = kernelWith({
      epollCtl: (...args) =>
        args[2] === bad && args[1] === EPOLL_CTL.mod ? failure("ENOMEM") : realSyscalls.epollCtl(...args),
    });
    const { loop, host } = manualLoop({ onError: (error) => errors.push(error) }, kernel);
    const good = own(realSyscalls.eventfd(1, EFD.nonblock | EFD.cloexec));
    let events = 0;
    loop.poller.add(bad, Interest.readable | Interest.edge, { onReady() {} });
    loop.poller.add(good, Interest.readable | Interest.edge, { onReady: () => events++ });
    loop.turn(0);
    for (let interval = 1; interval <= 2; interval++) {
      host.clockMs += REARM_INTERVAL_MS;
      for (let i = 0; i < 4; i++) loop.turn(0);
      expect([errors.length, events]).toEqual([interval, 1 + interval]);
    }
  });
});

describe("EventLoop.encode()", () => {
  test("EventLoop.encode() is UTF-8", () => {
    expect(newLoop().encode("é")).toEqual(bytes("é"));
  });
});
