/** src/waker.ts: loops woken from elsewhere, against the kernel. */
import { afterEach, describe, expect, test } from "vitest";
import { EFD, O } from "../ffi/constants.ts";
import { realSyscalls, type Syscalls } from "../ffi/syscalls.ts";
import { EventLoop } from "../src/loop.ts";
import { Poller } from "../src/poller.ts";
import { RemoteWaker, Waker } from "../src/waker.ts";
import { expectNoLeak, outcome, own } from "./support/descriptors.ts";
import { failure, kernelWith } from "./support/kernel.ts";
import { bytes } from "./support/sockets.ts";
import { expectThreads, wakingThread } from "./support/threads.ts";

expectNoLeak();
expectThreads();

const WAIT_MS = 5_000;
const toClose: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of toClose.splice(0).reverse()) await close();
});

function newPoller(): Poller {
  const poller = new Poller();
  toClose.push(() => poller.close());
  return poller;
}

function newWaker(poller: Poller, onWake: () => void, sys?: Syscalls): Waker {
  const waker = new Waker(poller, onWake, sys);
  toClose.push(() => waker.close());
  return waker;
}

function newRemote(waker: Waker): RemoteWaker {
  const remote = new RemoteWaker(waker.remote());
  toClose.push(() => remote.close());
  return remote;
}

const fail = (error: unknown): never => {
  throw error;
};

function turn(poller: Poller, timeoutMs = 0): number {
  const count = poller.wait(timeoutMs);
  poller.dispatch(fail);
  poller.dispatchListeners(fail);
  return count;
}

/** A kernel in which the next `close` of an eventfd has its number mean somebody else's counter at once. */
function reusingKernel(): { sys: Syscalls; readCounter: () => number | string } {
  const other = own(realSyscalls.eventfd(0, EFD.nonblock | EFD.cloexec));
  const made = new Set<number>();
  const sys = kernelWith({
    eventfd(initial, flags) {
      const fd = realSyscalls.eventfd(initial, flags);
      made.add(fd);
      return fd;
    },
    close(fd) {
      if (!made.delete(fd)) return realSyscalls.close(fd);
      expect(outcome(realSyscalls.dup3(other, fd, O.cloexec))).toBe(fd); // closes what it was
      own(fd);
      return 0;
    },
  });
  return { sys, readCounter: () => outcome(realSyscalls.read(other, bytes(8))) };
}

describe("Waker", () => {
  test("Waker.wake() ends a wait and has onWake called", () => {
    const poller = newPoller();
    let wakes = 0;
    const waker = newWaker(poller, () => wakes++);
    waker.wake();
    expect(turn(poller, -1)).toBe(1);
    expect(wakes).toBe(1);
    expect(turn(poller)).toBe(0);
  });

  test("wakes that come before the loop looks are one", () => {
    const poller = newPoller();
    let wakes = 0;
    const waker = newWaker(poller, () => wakes++);
    const remote = newRemote(waker);
    for (let i = 0; i < 100; i++) {
      waker.wake();
      remote.wake();
    }
    turn(poller, WAIT_MS);
    turn(poller);
    expect(wakes).toBe(1);
  });

  test("a wake that comes while onWake runs is not lost", () => {
    const poller = newPoller();
    let wakes = 0;
    const waker = newWaker(poller, () => {
      if (++wakes < 3) waker.wake();
    });
    waker.wake();
    for (let i = 1; i <= 3; i++) {
      turn(poller, WAIT_MS);
      expect(wakes).toBe(i);
    }
    expect(turn(poller)).toBe(0);
  });

  test("a wake on a counter at its maximum is no failure: one is pending already", () => {
    const poller = newPoller();
    let wakes = 0;
    const waker = newWaker(poller, () => wakes++);
    const remote = own(waker.remote());
    expect(realSyscalls.write(remote, Uint8Array.of(0xfe, 255, 255, 255, 255, 255, 255, 255))).toBe(8);
    expect(outcome(realSyscalls.write(remote, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0)))).toBe("-EAGAIN");
    waker.wake();
    turn(poller, WAIT_MS);
    expect(wakes).toBe(1);
    waker.wake();
    turn(poller, WAIT_MS);
    expect(wakes).toBe(2);
  });

  test("Waker.wake() throws SystemError for any other failure", () => {
    const waker = newWaker(newPoller(), () => {}, kernelWith({ write: () => failure("EIO") }));
    expect(() => waker.wake()).toThrow("Cannot wake an event loop: write(2) returned EIO");
  });

  test("Waker leaves no descriptor behind where it cannot be watched", () => {
    const full = new Poller(kernelWith({ epollCtl: () => failure("ENOSPC") }));
    toClose.push(() => full.close());
    expect(() => new Waker(full, () => {})).toThrow("Cannot watch a waker: epoll_ctl(2) returned ENOSPC");
    const closed = new Poller();
    closed.close();
    expect(() => new Waker(closed, () => {})).toThrow(RangeError);
    expect(() => new Waker(newPoller(), () => {}, kernelWith({ eventfd: () => failure("EMFILE") }))).toThrow("EMFILE");
  });
});

describe("Waker.close()", () => {
  test("Waker.close() is safe twice, from inside onWake, and after the poller's", () => {
    const poller = newPoller();
    let wakes = 0;
    const waker = newWaker(poller, () => {
      wakes++;
      waker.close();
      waker.close();
    });
    const late = newWaker(poller, () => {});
    waker.wake();
    turn(poller, WAIT_MS);
    expect([wakes, poller.size]).toEqual([1, 1]);
    poller.close();
    late.close();
    expect(poller.size).toBe(0);
  });

  test("a wake after close reaches nobody else's descriptor", () => {
    const { sys, readCounter } = reusingKernel();
    const waker = newWaker(newPoller(), () => {}, sys);
    waker.close();
    waker.wake();
    expect(readCounter()).toBe("-EAGAIN");
    expect(() => waker.remote()).toThrow(new RangeError("Cannot hand out a closed waker"));
  });
});

describe("RemoteWaker", () => {
  test("a late wake through RemoteWaker, after the waker closed, reaches nobody else's descriptor", () => {
    const { sys, readCounter } = reusingKernel();
    const poller = newPoller();
    let wakes = 0;
    const waker = newWaker(poller, () => wakes++, sys);
    const remote = newRemote(waker);
    waker.close();
    remote.wake();
    expect(readCounter()).toBe("-EAGAIN");
    expect(turn(poller)).toBe(0);
    expect(wakes).toBe(0);
  });

  test("RemoteWaker.close() is safe twice, and a wake after it reaches nobody else's descriptor", () => {
    const { sys, readCounter } = reusingKernel();
    const fd = sys.eventfd(0, EFD.nonblock | EFD.cloexec);
    const remote = new RemoteWaker(fd, sys);
    remote.close();
    remote.wake();
    expect(readCounter()).toBe("-EAGAIN");
    remote.close(); // would leave the test one descriptor short
    expect(readCounter()).toBe("-EAGAIN");
  });

  test("RemoteWaker throws RangeError for what is no descriptor", () => {
    for (const fd of [-1, 1.5, NaN, undefined, "3"]) {
      expect(() => new RemoteWaker(fd as number)).toThrow(RangeError);
    }
  });

  test("RemoteWaker in another thread ends a turn that blocks for ever", async () => {
    const loop = new EventLoop();
    toClose.push(() => loop.close());
    let wakes = 0;
    const waker = loop.createWaker(() => wakes++);
    toClose.push(() => waker.close());
    const thread = await wakingThread(waker);
    expect(loop.turn(0)).toBe(false);
    thread.wake();
    expect(loop.turn(Infinity)).toBe(true);
    expect(wakes).toBe(1);
    await thread.ended;
  });

  test("RemoteWaker in another thread stops runBlocking()", async () => {
    const loop = new EventLoop();
    toClose.push(() => loop.close());
    const waker = loop.createWaker(() => loop.stop());
    toClose.push(() => waker.close());
    const thread = await wakingThread(waker);
    loop.post(() => thread.wake());
    loop.runBlocking();
    expect(loop.isRunning).toBe(false);
    await thread.ended;
  });
});
