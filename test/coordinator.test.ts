/** src/coordinator.ts: what the loops of one process have in common when descriptors run out. */
import { afterEach, describe, expect, test, vi } from "vitest";
import { EFD, MSG } from "../ffi/constants.ts";
import { eventfd, read, realSyscalls, recv, type Syscalls } from "../ffi/syscalls.ts";
import { Acceptor, type AcceptorOptions } from "../src/acceptor.ts";
import { Coordinator, type Member } from "../src/coordinator.ts";
import { EventLoop } from "../src/loop.ts";
import { coordinatorThread, countSlowly, slowCount, unsteadyClock } from "./support/coordinators.ts";
import { disown, expectNoLeak, openDescriptors, outcome, own, withFree } from "./support/descriptors.ts";
import { failure, kernelWith } from "./support/kernel.ts";
import { turnUntil } from "./support/loops.ts";
import { bytes, connectTo, tcpListener } from "./support/sockets.ts";
import { expectThreads } from "./support/threads.ts";

expectNoLeak();
expectThreads();

/** Words of a handle that tests write to. */
const LOCK = 0;
const PAUSED = 2;
/** A lock's time is counted in sixteenths of a second, and taken over after 16 of them. */
const TAKEOVER_TICKS = 16;

const cleanUps: (() => void | Promise<void>)[] = [];

afterEach(async () => {
  vi.restoreAllMocks();
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

function newLoop(sys: Partial<Syscalls> = {}): EventLoop {
  const loop = new EventLoop({ onError: (error) => expect(error).toBeUndefined() }, kernelWith(sys));
  cleanUps.push(() => loop.close());
  return loop;
}

/** Counts what it is told, and what it makes of it. */
class Listening implements Member {
  suspended = 0;
  resumed = 0;
  isSuspended = false;

  suspend(): void {
    this.suspended++;
    this.isSuspended = true;
  }

  resume(): void {
    this.resumed++;
    this.isSuspended = false;
  }
}

/** A member that has joined until the test ends. */
function joined(coordinator: Coordinator, loop: EventLoop, reserve = 0): Listening {
  const member = new Listening();
  coordinator.join(member, loop, reserve, 0);
  cleanUps.push(() => coordinator.leave(member, loop));
  return member;
}

function idleDescriptors(): number {
  return openDescriptors().filter((target) => target === "/dev/null").length;
}

function wordsOf({ handle }: Coordinator): Int32Array {
  return new Int32Array(handle);
}

describe("Coordinator", () => {
  test.each([
    ["of another length", () => new SharedArrayBuffer(64)],
    ["that is empty", () => new SharedArrayBuffer(0)],
    ["that is not shared", () => new ArrayBuffer(new Coordinator().handle.byteLength)],
    ["that is null", () => null],
    ["that is a coordinator itself", () => new Coordinator()],
  ])("Coordinator refuses a handle %s", (_, handle) => {
    const make = () => new Coordinator(handle() as SharedArrayBuffer);
    expect(make).toThrow(TypeError);
    expect(make).toThrow("Cannot make a coordinator: the handle must be that of another coordinator");
  });
});

describe("Coordinator.join()", () => {
  test("Coordinator.join() opens one reserve, as large as the first wants it, that the last closes", () => {
    const before = idleDescriptors();
    const here = new Coordinator();
    const there = new Coordinator(here.handle);
    const loops = [newLoop(), newLoop(), newLoop()] as const;
    const members = [new Listening(), new Listening(), new Listening()] as const;
    here.join(members[0], loops[0], 3, 0);
    here.join(members[1], loops[1], 5, 0);
    there.join(members[2], loops[2], 7, 0);
    expect(idleDescriptors()).toBe(before + 4); // with the keeper
    expect([here.reserve.size, there.reserve.size, there.reserve.missing]).toEqual([3, 3, 0]);
    here.leave(members[0], loops[0]);
    here.leave(members[1], loops[1]);
    expect(idleDescriptors()).toBe(before + 4);
    there.leave(members[2], loops[2]);
    expect(idleDescriptors()).toBe(before);
    here.join(members[0], loops[0], 1, 0);
    expect(idleDescriptors()).toBe(before + 2);
    here.leave(members[0], loops[0]);
  });

  test("Coordinator.join() without other threads makes no descriptor but the reserve's", () => {
    const loop = newLoop();
    const before = openDescriptors();
    joined(new Coordinator(undefined, false), loop);
    expect(openDescriptors()).toEqual(before);
  });

  test("Coordinator.join() while nobody accepts suspends the newcomer", () => {
    const coordinator = new Coordinator();
    joined(coordinator, newLoop());
    coordinator.pause();
    expect(joined(coordinator, newLoop()).isSuspended).toBe(true);
    coordinator.resume();
    expect(joined(coordinator, newLoop()).isSuspended).toBe(false);
  });

  test("Coordinator.join() that cannot open the reserve leaves nothing, and no lock", () => {
    const coordinator = new Coordinator(undefined, true, kernelWith({ open: () => failure("EMFILE") }));
    const join = () => coordinator.join(new Listening(), loop, 2, 0);
    const loop = newLoop();
    expect(join).toThrow("Cannot open 3 reserve descriptors: open(2) returned EMFILE");
    expect(wordsOf(coordinator)[LOCK]).toBe(0);
    joined(new Coordinator(coordinator.handle), loop, 2);
  });

  test("Coordinator.join() that cannot make a waker leaves nothing, and can be tried again", () => {
    let isFailing = false;
    const loop = newLoop({
      eventfd: (value, flags) => isFailing ? failure("EMFILE") : realSyscalls.eventfd(value, flags),
    });
    const coordinator = new Coordinator();
    const before = openDescriptors();
    isFailing = true;
    expect(() => coordinator.join(new Listening(), loop, 2, 0)).toThrow("eventfd(2) returned EMFILE");
    expect(openDescriptors()).toEqual(before);
    isFailing = false;
    joined(coordinator, loop, 2);
  });

  test("Coordinator.join() of more loops than it serves is refused, and leaves nothing", () => {
    const coordinator = new Coordinator();
    const words = wordsOf(coordinator);
    const WAKERS = words.length - 2 * 256;
    for (let slot = WAKERS; slot < words.length; slot += 2) words[slot] = 2 ** 30; // no descriptor
    const loop = newLoop();
    const before = openDescriptors();
    expect(() => coordinator.join(new Listening(), loop, 2, 0)).toThrow(
      new RangeError("Cannot join a coordinator: it serves 256 loops already"),
    );
    expect(openDescriptors()).toEqual(before);
  });
});

describe("Coordinator.leave()", () => {
  test("Coordinator.leave() is safe twice, and of one that never joined", () => {
    const coordinator = new Coordinator();
    const loop = newLoop();
    const before = openDescriptors();
    const member = new Listening();
    coordinator.leave(member, loop);
    coordinator.join(member, loop, 2, 0);
    coordinator.leave(new Listening(), loop);
    coordinator.leave(member, loop);
    coordinator.leave(member, loop);
    expect(openDescriptors()).toEqual(before);
  });

  test("Coordinator.leave() leaves the other members of a loop in", () => {
    const coordinator = new Coordinator();
    const loop = newLoop();
    const [gone, kept] = [new Listening(), joined(coordinator, loop)];
    coordinator.join(gone, loop, 0, 0);
    coordinator.leave(gone, loop);
    coordinator.pause();
    expect([gone.isSuspended, kept.isSuspended]).toEqual([false, true]);
  });
});

describe("Coordinator.pause() and resume()", () => {
  test("all members of one thread pause and resume at once, whichever of their loops", () => {
    const coordinator = new Coordinator();
    const loop = newLoop();
    const members = [joined(coordinator, loop), joined(coordinator, loop), joined(coordinator, newLoop())];
    coordinator.pause();
    expect([coordinator.isPaused, ...members.map(({ isSuspended }) => isSuspended)]).toEqual([true, true, true, true]);
    coordinator.resume();
    expect([coordinator.isPaused, ...members.map(({ isSuspended }) => isSuspended)]).toEqual(Array(4).fill(false));
    expect(loop.turn(0), "nobody here is woken for what was told already").toBe(false);
  });

  test("those of another coordinator over the same handle follow in their loop's next turn", () => {
    const [here, loop] = [new Coordinator(), newLoop()];
    const there = new Coordinator(here.handle);
    joined(here, newLoop());
    const member = joined(there, loop);
    here.pause();
    turnUntil(loop, () => member.isSuspended, "the pause");
    here.resume();
    turnUntil(loop, () => !member.isSuspended, "the end of the pause");
    here.pause();
    here.resume();
    loop.turn(0);
    expect(member.isSuspended, "only the last word counts").toBe(false);
  });

  test("resume() of what nobody paused tells nobody", () => {
    const [here, loop] = [new Coordinator(), newLoop()];
    joined(new Coordinator(here.handle), loop);
    joined(here, newLoop());
    here.resume();
    expect(loop.turn(0)).toBe(false);
  });

  // The thread that resumed was terminated before it woke the others: their own timers found that nothing was paused
  // any more, and told nobody.
  test("resume() after another thread's whose wake was lost resumes all the same", () => {
    const coordinator = new Coordinator();
    const member = joined(coordinator, newLoop());
    coordinator.pause();
    Atomics.store(wordsOf(coordinator), PAUSED, 0);
    coordinator.resume();
    expect(member.isSuspended).toBe(false);
  });

  test("members of two threads pause and resume together", async () => {
    const coordinator = new Coordinator();
    const loop = newLoop();
    const member = joined(coordinator, loop, 2);
    const thread = await coordinatorThread(coordinator.handle);
    const idle = idleDescriptors();
    thread.run("join");
    expect(idleDescriptors(), "the reserve is shared").toBe(idle);
    for (let round = 0; round < 20; round++) {
      coordinator.pause();
      thread.run("awaitPause");
      thread.run("resume"); // something was released there
      turnUntil(loop, () => !member.isSuspended, "the end of a pause");
      thread.run("pause");
      turnUntil(loop, () => member.isSuspended, "a pause");
      coordinator.resume();
      thread.run("awaitResume");
    }
    thread.run("leave");
    expect(idleDescriptors(), "one is in still").toBe(idle);
    await thread.end();
  });

  test("a thread that waits in its loop is woken by a release in another", async () => {
    const coordinator = new Coordinator();
    joined(coordinator, newLoop());
    const thread = await coordinatorThread(coordinator.handle);
    thread.run("join");
    thread.run("pause");
    thread.begin("awaitResume"); // in epoll_wait, or about to be
    coordinator.resume();
    thread.finish();
    thread.run("leave");
    await thread.end();
  });

  test("the last to leave closes the reserve, in whichever thread", async () => {
    const before = idleDescriptors();
    const coordinator = new Coordinator();
    const loop = newLoop();
    const member = new Listening();
    const thread = await coordinatorThread(coordinator.handle);
    thread.run("join"); // opens it
    coordinator.join(member, loop, 9, 0);
    expect(coordinator.reserve.size).toBe(2);
    thread.run("leave");
    expect(idleDescriptors()).toBe(before + 3);
    coordinator.leave(member, loop);
    expect(idleDescriptors()).toBe(before);
    coordinator.join(member, loop, 1, 0);
    thread.run("join");
    coordinator.leave(member, loop);
    expect(idleDescriptors()).toBe(before + 2);
    thread.run("leave");
    expect(idleDescriptors()).toBe(before);
    await thread.end();
  });

  test("a wake of a member that leaves meanwhile reaches nobody else's descriptor", async () => {
    const coordinator = new Coordinator();
    const loop = newLoop();
    const thread = await coordinatorThread(coordinator.handle);
    thread.run("join");
    thread.begin("storm");
    const others: number[] = [];
    for (let i = 0; i < 300; i++) {
      const member = new Listening();
      coordinator.join(member, loop, 0, 0);
      coordinator.leave(member, loop);
      others.push(own(eventfd(0, EFD.nonblock | EFD.cloexec))); // has the number that the waker had
    }
    thread.calm();
    thread.finish();
    const written = others.filter((fd) => outcome(read(fd, bytes(8))) !== "-EAGAIN");
    expect(written).toEqual([]);
    thread.run("leave");
    await thread.end();
  });
});

describe("Coordinator.tryLock()", () => {
  test("Coordinator.tryLock() is had by one at a time, and nobody waits", () => {
    const here = new Coordinator();
    const there = new Coordinator(here.handle);
    expect(here.tryLock()).toBe(true);
    expect([there.tryLock(), there.tryLock()]).toEqual([false, false]);
    there.unlock(); // is not theirs to end
    expect(there.tryLock()).toBe(false);
    here.unlock();
    expect(there.tryLock()).toBe(true);
    there.unlock();
  });

  test("Coordinator.tryLock() takes over what was held for a second, and its late end does no harm", () => {
    const here = new Coordinator();
    const there = new Coordinator(here.handle);
    const words = wordsOf(here);
    const clock = vi.spyOn(Date, "now").mockReturnValue(1_000_000_000_000);
    expect(here.tryLock()).toBe(true);
    clock.mockReturnValue(1_000_000_000_900);
    expect(there.tryLock()).toBe(false);
    clock.mockReturnValue(1_000_000_001_100);
    expect(there.tryLock()).toBe(true);
    here.unlock();
    expect(here.tryLock(), "it is the other's still").toBe(false);
    there.unlock();
    expect(words[LOCK]).toBe(0);
  });

  // Who looked at the clock, and was then overtaken by one who took the lock a tick later, took it for very old.
  test("Coordinator.tryLock() does not take over what is held since a moment after it looked at the clock", () => {
    const here = new Coordinator();
    const there = new Coordinator(here.handle);
    const clock = vi.spyOn(Date, "now").mockReturnValue(1_000_000_000_064);
    expect(here.tryLock()).toBe(true);
    clock.mockReturnValue(1_000_000_000_000);
    expect(there.tryLock()).toBe(false);
    clock.mockReturnValue(999_999_000_000); // set back for good, or the lock of one who has gone were held for ever
    expect(there.tryLock()).toBe(true);
    there.unlock();
  });

  test("Coordinator.tryLock() takes over from a thread that ended while it held it", async () => {
    const coordinator = new Coordinator();
    const thread = await coordinatorThread(coordinator.handle);
    expect(thread.run("lock")).toBe(1);
    await thread.end();
    const words = wordsOf(coordinator);
    expect(words[LOCK]).not.toBe(0);
    words[LOCK] = words[LOCK]! - TAKEOVER_TICKS; // a second later
    expect(coordinator.tryLock()).toBe(true);
    coordinator.unlock();
    joined(coordinator, newLoop(), 1);
  });

  test("Coordinator.join() and leave() wait for the lock for a second at most", () => {
    const here = new Coordinator();
    const there = new Coordinator(here.handle);
    expect(there.tryLock()).toBe(true); // and never ends it
    const loop = newLoop();
    joined(here, loop, 1);
    expect(here.reserve.missing).toBe(0);
  });

  test("Coordinator.tryLock() keeps two threads apart", async () => {
    const coordinator = new Coordinator();
    const threads = [await coordinatorThread(coordinator.handle), await coordinatorThread(coordinator.handle)];
    for (const thread of threads) thread.begin("lockStorm");
    const { now } = Date;
    cleanUps.push(() => void (Date.now = now));
    Date.now = unsteadyClock(); // here and there: nobody has had the lock for a second, however busy the machine is
    let taken = 0;
    const deadline = performance.now() + 10_000;
    while (taken < 20_000 && performance.now() < deadline) {
      if (!coordinator.tryLock()) continue;
      countSlowly(coordinator.handle);
      coordinator.unlock();
      taken++;
    }
    for (const thread of threads) thread.calm();
    for (const thread of threads) taken += thread.finish();
    expect(slowCount(coordinator.handle)).toBe(taken);
    for (const thread of threads) await thread.end();
  });
});

interface Served {
  readonly acceptor: Acceptor;
  readonly listener: number;
  readonly fds: number[];
  /** Closes a served client. */
  release(): void;
}

/** An acceptor until the test ends. */
function acceptorOn(loop: EventLoop, options: AcceptorOptions): Served {
  const listener = disown(tcpListener());
  const fds: number[] = [];
  const acceptor = new Acceptor(loop, { fd: listener, backlog: 16, canResetQueue: false }, options, {
    accept: (fd) => void fds.push(fd),
  });
  const release = () => {
    const fd = fds.shift()!;
    realSyscalls.close(fd);
    acceptor.released(fd);
  };
  cleanUps.push(() => {
    while (fds.length > 0) release();
    acceptor.close();
  });
  return { acceptor, listener, fds, release };
}

/** What a client sees within a moment. */
function seenBy(client: number): number | string {
  return outcome(recv(client, bytes(1), MSG.dontwait));
}

describe.each(["level", "edge"] as const)("Acceptors with one coordinator, %s-triggered,", (trigger) => {
  test("a release of one resumes the other at once, on one thread and over a handle", () => {
    const here = new Coordinator();
    const there = new Coordinator(here.handle);
    const overload = { policy: "wait" as const, headroom: 0, reserve: 0, slack: 0 };
    const loops = [newLoop(), newLoop()] as const;
    const one = acceptorOn(loops[0], { trigger, overload, coordinator: here });
    const two = acceptorOn(loops[1], { trigger, overload, coordinator: there });
    connectTo(two.listener);
    turnUntil(loops[1], () => two.fds.length === 1, "a client of the other");
    const clients = [connectTo(one.listener), connectTo(one.listener)];
    withFree(1, () => {
      turnUntil(loops[0], () => one.acceptor.isPaused, "a pause");
      expect(one.fds).toHaveLength(1);
      turnUntil(loops[1], () => two.acceptor.isPaused, "the pause of the other");
      two.release();
      expect(two.acceptor.isPaused).toBe(false);
      turnUntil(loops[0], () => one.fds.length === 2, "the client that waited");
    });
    expect(clients.map(seenBy)).toEqual(["-EAGAIN", "-EAGAIN"]);
  });

  // It had not been told of the pause yet, and so resumed nobody: whoever waited, waited for a timer.
  test("a release of one that was not told of the pause yet resumes the other", () => {
    const here = new Coordinator();
    const overload = { policy: "wait" as const, headroom: 0, reserve: 0, slack: 0 };
    const loops = [newLoop(), newLoop()] as const;
    const one = acceptorOn(loops[0], { trigger, overload, coordinator: here });
    const two = acceptorOn(loops[1], { trigger, overload, coordinator: new Coordinator(here.handle) });
    connectTo(two.listener);
    turnUntil(loops[1], () => two.fds.length === 1, "a client of the other");
    connectTo(one.listener);
    connectTo(one.listener);
    withFree(1, () => {
      turnUntil(loops[0], () => one.acceptor.isPaused, "a pause");
      two.release();
      expect(here.isPaused).toBe(false);
    });
  });

  test("while another has the lock a client is not refused, but tried again a moment later", () => {
    const here = new Coordinator();
    const there = new Coordinator(here.handle);
    const loop = newLoop();
    const { acceptor, listener } = acceptorOn(loop, {
      trigger,
      overload: { headroom: 0, reserve: 1, slack: 0 },
      coordinator: here,
    });
    const client = connectTo(listener);
    vi.spyOn(Date, "now").mockReturnValue(Date.now()); // the lock is held for less than a second, however long this takes
    withFree(0, () => {
      expect(there.tryLock()).toBe(true);
      turnUntil(loop, () => acceptor.counters.emfile >= 3, "three tries");
      expect(acceptor.counters.shed).toBe(0);
      there.unlock();
      turnUntil(loop, () => acceptor.counters.shed === 1, "the refusal");
    });
    expect(seenBy(client)).toBe(0);
  });
});
