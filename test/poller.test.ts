/** src/poller.ts: one epoll instance and its sources, against the kernel unless a failure must be forced. */
import { describe, expect, test } from "vitest";
import { EFD, EPOLL_CTL, F, O, SOCK } from "../ffi/constants.ts";
import { SystemError } from "../ffi/errno.ts";
import { epollEventLayout } from "../ffi/layout.ts";
import { realSyscalls } from "../ffi/syscalls.ts";
import { Interest, Readiness } from "../src/interest.ts";
import { EVENTS_PER_WAIT, REARM_BUDGET } from "../src/limits.ts";
import { Poller, type Source } from "../src/poller.ts";
import type { Token } from "../src/token.ts";
import { closeNow, expectNoLeak, outcome, own } from "./support/descriptors.ts";
import { failure, kernelWith } from "./support/kernel.ts";
import { add, closePollers, fail, newPoller, readable, turn, WAIT_MS } from "./support/pollers.ts";
import { bytes, connectTo, ready, socketPair, tcpListener } from "./support/sockets.ts";

expectNoLeak();
closePollers();

/** A source that notes its events and then does what it was made for. */
function source(events: (string | number)[], name: string | number, action = () => {}, isListener = false): Source {
  return {
    isListener,
    onReady() {
      events.push(name);
      action();
    },
  };
}

function listener(events: (string | number)[], name: string | number, action = () => {}): Source {
  return source(events, name, action, true);
}

/** Makes the number `fd` mean something else, in one step: no other thread can take it in between. */
function reuseNumber(fd: number, to: number): void {
  expect(outcome(realSyscalls.dup3(to, fd, O.cloexec))).toBe(fd);
}

describe("Poller.add()", () => {
  test("Poller.add() watches a descriptor, and its source is told what is ready", () => {
    const poller = newPoller();
    const [a, b] = socketPair();
    const readiness: number[] = [];
    add(poller, a, Interest.readable | Interest.writable, { onReady: (bits) => readiness.push(bits) });
    expect(poller.size).toBe(1);
    turn(poller, fail, WAIT_MS);
    expect(readiness).toEqual([Readiness.writable]);
    expect(realSyscalls.send(b, bytes("x"))).toBe(1);
    turn(poller, fail, WAIT_MS);
    expect(readiness).toEqual([Readiness.writable, Readiness.writable | Readiness.readable]);
  });

  test("Poller.add() watches for errors and hang-ups, asked for or not", () => {
    const poller = newPoller();
    const [a, b] = socketPair();
    const readiness: number[] = [];
    add(poller, a, Interest.none, { onReady: (bits) => readiness.push(bits) });
    closeNow(b);
    turn(poller, fail, WAIT_MS);
    expect(readiness).toHaveLength(1);
    expect(readiness[0]! & Readiness.hungUp).not.toBe(0);
  });

  test("Poller.add() tells a half-close apart: readEnded", () => {
    const poller = newPoller();
    const [a, b] = socketPair();
    const readiness: number[] = [];
    add(poller, a, Interest.readable, { onReady: (bits) => readiness.push(bits) });
    realSyscalls.shutdown(b, 1);
    turn(poller, fail, WAIT_MS);
    expect(readiness).toEqual([Readiness.readable | Readiness.readEnded]);
  });

  test("Poller.add() returns -errno for what cannot be watched, and keeps nothing of it", () => {
    const poller = newPoller();
    const fd = readable();
    const silent = source([], "");
    add(poller, fd, Interest.readable, silent);
    const file = own(realSyscalls.open("/proc/self/exe", O.rdonly | O.cloexec));
    expect(outcome(poller.add(fd, Interest.readable, silent) as number)).toBe("-EEXIST");
    expect(outcome(poller.add(file, Interest.readable, silent) as number)).toBe("-EPERM");
    expect(outcome(poller.add(0x7fff_fff0, Interest.readable | Interest.edge, silent) as number)).toBe("-EBADF");
    expect([poller.size, poller.edges]).toEqual([1, 0]);
  });

  test("Poller.add() throws RangeError for a number that is no descriptor's, and keeps nothing of it", () => {
    const poller = newPoller();
    for (const fd of [-1, 1.5, NaN, undefined]) {
      expect(() => poller.add(fd as number, Interest.readable, source([], ""))).toThrow(RangeError);
    }
    expect(poller.size).toBe(0);
  });

  test("Poller.add() returns -ENOSPC where fs.epoll.max_user_watches is reached", () => {
    const poller = newPoller(kernelWith({ epollCtl: () => failure("ENOSPC") }));
    expect(outcome(poller.add(readable(), Interest.readable, source([], "")) as number)).toBe("-ENOSPC");
    expect(poller.size).toBe(0);
  });
});

describe("Poller, trigger modes", () => {
  test("Poller reports a level-triggered source for as long as it is ready", () => {
    const poller = newPoller();
    const events: string[] = [];
    add(poller, readable(), Interest.readable, source(events, "level"));
    for (let i = 0; i < 3; i++) turn(poller);
    expect(events).toHaveLength(3);
    expect(poller.edges).toBe(0);
  });

  test("Poller reports an edge-triggered source once each time that something arrives", () => {
    const poller = newPoller();
    const events: string[] = [];
    const [a, b] = socketPair();
    add(poller, a, Interest.readable | Interest.edge, source(events, "edge"));
    for (let arrivals = 1; arrivals <= 3; arrivals++) {
      expect(realSyscalls.send(b, bytes("x"))).toBe(1);
      for (let i = 0; i < 3; i++) turn(poller);
      expect(events).toHaveLength(arrivals);
    }
    expect(poller.edges).toBe(1);
  });

  test("Poller reports a oneshot source once, then not until it is modified", () => {
    const poller = newPoller();
    const events: string[] = [];
    const interest = Interest.readable | Interest.oneshot;
    const token = add(poller, readable(), interest, source(events, "oneshot"));
    for (let i = 0; i < 3; i++) turn(poller);
    expect(events).toHaveLength(1);
    poller.modify(token, interest);
    for (let i = 0; i < 3; i++) turn(poller);
    expect(events).toHaveLength(2);
  });

  test("Poller reports an exclusive listener", () => {
    const poller = newPoller();
    const events: string[] = [];
    const fd = tcpListener();
    add(poller, fd, Interest.acceptable | Interest.exclusive, listener(events, "exclusive"));
    connectTo(fd);
    ready(fd);
    turn(poller);
    expect(events).toEqual(["exclusive"]);
    own(realSyscalls.accept4(fd, SOCK.cloexec));
  });
});

describe("Poller.modify()", () => {
  test("Poller.modify() changes what is waited for", () => {
    const poller = newPoller();
    const readiness: number[] = [];
    const [a, b] = socketPair();
    expect(realSyscalls.send(b, bytes("x"))).toBe(1);
    const token = add(poller, a, Interest.none, { onReady: (bits) => readiness.push(bits) });
    turn(poller);
    expect(readiness).toEqual([]);
    poller.modify(token, Interest.writable);
    turn(poller);
    poller.modify(token, Interest.readable);
    turn(poller);
    poller.modify(token, Interest.none);
    turn(poller);
    expect(readiness).toEqual([Readiness.writable, Readiness.readable]);
  });

  test("Poller.modify() reports readiness anew under edge triggering", () => {
    const poller = newPoller();
    const events: string[] = [];
    const interest = Interest.readable | Interest.edge;
    const token = add(poller, readable(), interest, source(events, "edge"));
    turn(poller);
    turn(poller);
    expect(events).toHaveLength(1);
    poller.modify(token, interest);
    turn(poller);
    expect(events).toHaveLength(2);
  });

  test("Poller.modify() pauses and resumes an exclusive source, which the kernel cannot modify", () => {
    const poller = newPoller();
    const events: string[] = [];
    const fd = tcpListener();
    const interest = Interest.acceptable | Interest.edge | Interest.exclusive;
    const token = add(poller, fd, interest, listener(events, "exclusive"));
    poller.modify(token, interest & ~Interest.acceptable);
    connectTo(fd);
    ready(fd);
    turn(poller);
    expect(events).toEqual([]);
    poller.modify(token, interest);
    turn(poller);
    expect(events).toEqual(["exclusive"]);
    own(realSyscalls.accept4(fd, SOCK.cloexec));
  });

  test("Poller.modify() makes a source exclusive, and no longer so", () => {
    const poller = newPoller();
    const events: string[] = [];
    const token = add(poller, readable(), Interest.acceptable, source(events, "source"));
    for (const interest of [Interest.acceptable | Interest.exclusive, Interest.acceptable]) {
      poller.modify(token, interest);
      turn(poller);
    }
    expect(events).toHaveLength(2);
  });

  test("Poller.modify() keeps count of edge-triggered sources", () => {
    const poller = newPoller();
    const token = add(poller, readable(), Interest.readable | Interest.edge, source([], ""));
    expect(poller.edges).toBe(1);
    poller.modify(token, Interest.readable | Interest.edge);
    expect(poller.edges).toBe(1);
    poller.modify(token, Interest.readable);
    expect(poller.edges).toBe(0);
    poller.modify(token, Interest.readable | Interest.edge);
    poller.remove(token);
    expect(poller.edges).toBe(0);
  });

  test("Poller.modify() throws SystemError where the kernel refuses, and the count is as before", () => {
    let refuses = false;
    const poller = newPoller(
      kernelWith({ epollCtl: (...args) => refuses ? failure("ENOMEM") : realSyscalls.epollCtl(...args) }),
    );
    const token = add(poller, readable(), Interest.readable, source([], ""));
    refuses = true;
    expect(() => poller.modify(token, Interest.readable | Interest.edge)).toThrow(SystemError);
    expect(poller.edges).toBe(0);
    refuses = false;
  });
});

describe("Poller.remove()", () => {
  test("Poller.remove() stops watching", () => {
    const poller = newPoller();
    const events: string[] = [];
    const token = add(poller, readable(), Interest.readable, source(events, "source"));
    poller.remove(token);
    expect(turn(poller)).toBe(0);
    expect([events, poller.size]).toEqual([[], 0]);
  });

  test("Poller.remove() and modify() throw RangeError for a token whose source was removed", () => {
    const poller = newPoller();
    const fd = readable();
    const token = add(poller, fd, Interest.readable, source([], ""));
    poller.remove(token);
    const events: string[] = [];
    add(poller, fd, Interest.readable, source(events, "next")); // in the same slot
    expect(() => poller.remove(token)).toThrow(new RangeError("Cannot use a token: its source was removed"));
    expect(() => poller.modify(token, Interest.none)).toThrow(RangeError);
    turn(poller);
    expect(events).toEqual(["next"]);
  });

  test("Poller.remove() takes a descriptor that was closed behind its back", () => {
    const poller = newPoller();
    const fd = readable();
    const token = add(poller, fd, Interest.readable, source([], ""));
    closeNow(fd);
    poller.remove(token);
    expect(poller.size).toBe(0);
  });
});

describe("Poller, stale events", () => {
  const KINDS = [["connection", "connection"], ["connection", "listener"], ["listener", "listener"]] as const;

  test.each(KINDS)("a %s that removes a %s which is ready in the same batch keeps it from being told", (one, other) => {
    const poller = newPoller();
    const events: string[] = [];
    const make = { connection: source, listener };
    add(poller, readable(), Interest.readable, make[one](events, "remover", () => poller.remove(victim)));
    const victim = add(poller, readable(), Interest.readable, make[other](events, "victim"));
    add(poller, readable(), Interest.readable, make[other](events, "bystander"));
    expect(turn(poller)).toBe(3);
    expect(events).toEqual(["remover", "bystander"]);
  });

  test.each(KINDS)(
    "a %s that closes a %s whose slot and descriptor number are both reused in that batch: the new one gets no event",
    (one, other) => {
      const poller = newPoller();
      const events: string[] = [];
      const make = { connection: source, listener };
      const idle = own(realSyscalls.eventfd(0, EFD.nonblock | EFD.cloexec));
      const victimFd = readable();
      let reused: Token | undefined;
      const close = () => {
        if (reused !== undefined) return;
        poller.remove(victim);
        reuseNumber(victimFd, idle);
        reused = add(poller, victimFd, Interest.readable, make[other](events, "new"));
      };
      add(poller, readable(), Interest.readable, make[one](events, "closer", close));
      const victim = add(poller, victimFd, Interest.readable, make[other](events, "victim"));
      expect(turn(poller)).toBe(2);
      expect(events).toEqual(["closer"]);
      expect(reused!.slot).toBe(victim.slot);
      expect(reused!.generation).not.toBe(victim.generation);
      // What becomes ready later is its own.
      realSyscalls.write(idle, Uint8Array.from([1, 0, 0, 0, 0, 0, 0, 0]));
      turn(poller);
      expect(events).toEqual(["closer", "closer", "new"]);
    },
  );

  test("a source that modifies another one which is ready in the same batch: that one is told of what was", () => {
    const poller = newPoller();
    const events: string[] = [];
    add(poller, readable(), Interest.readable, source(events, "modifier", () => poller.modify(other, Interest.none)));
    const other = add(poller, readable(), Interest.readable, source(events, "other"));
    turn(poller);
    turn(poller);
    expect(events).toEqual(["modifier", "other", "modifier"]);
  });

  test("a source that removes itself is told no more, and the rest of the batch is", () => {
    const poller = newPoller();
    const events: string[] = [];
    const token = add(poller, readable(), Interest.readable, source(events, "self", () => poller.remove(token)));
    add(poller, readable(), Interest.readable, source(events, "other"));
    turn(poller);
    turn(poller);
    expect(events).toEqual(["self", "other", "other"]);
  });

  test("a source that is added by another one is told in the next batch at the earliest", () => {
    const poller = newPoller();
    const events: string[] = [];
    const fd = readable();
    const token = add(
      poller,
      readable(),
      Interest.readable,
      source(events, "adder", () => {
        poller.remove(token);
        add(poller, fd, Interest.readable, source(events, "added"));
      }),
    );
    turn(poller);
    expect(events).toEqual(["adder"]);
    turn(poller);
    expect(events).toEqual(["adder", "added"]);
  });
});

describe("Poller.dispatch()", () => {
  test("Poller.dispatch() tells listeners last, whatever the order in which they became ready", () => {
    const poller = newPoller();
    const events: string[] = [];
    add(poller, readable(), Interest.readable, listener(events, "listener 1"));
    add(poller, readable(), Interest.readable, source(events, "connection 1"));
    add(poller, readable(), Interest.readable, listener(events, "listener 2"));
    add(poller, readable(), Interest.readable, source(events, "connection 2"));
    poller.wait(WAIT_MS);
    poller.dispatch(fail);
    expect(events).toEqual(["connection 1", "connection 2"]);
    poller.dispatchListeners(fail);
    expect(events.slice(2)).toEqual(["listener 1", "listener 2"]);
  });

  test("an exception does not abandon the rest of the batch: an edge is not reported twice", () => {
    const poller = newPoller();
    const events: string[] = [];
    const errors: unknown[] = [];
    const interest = Interest.readable | Interest.edge;
    for (const [name, make] of [["a", source], ["b", listener], ["c", source], ["d", listener]] as const) {
      add(poller, readable(), interest, make(events, name, () => fail(`thrown by ${name}`)));
    }
    turn(poller, (error) => errors.push(error));
    expect(events.join("")).toBe("acbd");
    expect(errors).toEqual(["a", "c", "b", "d"].map((name) => `thrown by ${name}`));
    expect(turn(poller)).toBe(0);
  });

  test("Poller.dispatch() tells nobody twice of one wait", () => {
    const poller = newPoller();
    const events: string[] = [];
    add(poller, readable(), Interest.readable, source(events, "connection"));
    add(poller, readable(), Interest.readable, listener(events, "listener"));
    turn(poller);
    poller.dispatch(fail);
    poller.dispatchListeners(fail);
    expect(events).toEqual(["connection", "listener"]);
  });
});

describe("Poller.wait()", () => {
  test("Poller.wait() takes a batch at a time, and the next wait what is left", () => {
    const poller = newPoller();
    const fd = readable();
    const told = new Set<number>();
    for (let i = 0; i < EVENTS_PER_WAIT + 10; i++) {
      const copy = own(realSyscalls.fcntl(fd, F.dupfdCloexec, 0));
      add(poller, copy, Interest.readable | Interest.edge, { onReady: () => told.add(copy) });
    }
    expect(turn(poller)).toBe(EVENTS_PER_WAIT);
    expect(turn(poller)).toBe(10);
    expect(told.size).toBe(EVENTS_PER_WAIT + 10);
    expect(turn(poller)).toBe(0);
  });

  test("Poller.wait() survives a signal during epoll_wait, and tells nobody of the batch before", () => {
    let interrupted = false;
    const poller = newPoller(
      kernelWith({ epollWait: (...args) => interrupted ? failure("EINTR") : realSyscalls.epollWait(...args) }),
    );
    const events: string[] = [];
    add(poller, readable(), Interest.readable, source(events, "source"));
    expect(poller.wait(0)).toBe(1);
    interrupted = true;
    expect(turn(poller, fail, -1)).toBe(0);
    expect(events).toEqual([]);
    interrupted = false;
    expect(turn(poller)).toBe(1);
    expect(events).toEqual(["source"]);
  });

  test("Poller.wait() throws SystemError for any other failure, and tells nobody of the batch before", () => {
    let fails = false;
    const poller = newPoller(
      kernelWith({ epollWait: (...args) => fails ? failure("EBADF") : realSyscalls.epollWait(...args) }),
    );
    const events: string[] = [];
    add(poller, readable(), Interest.readable, source(events, "source"));
    poller.wait(0);
    fails = true;
    expect(() => poller.wait(0)).toThrow("Cannot wait for events: epoll_wait(2) returned EBADF");
    poller.dispatch(fail);
    expect(events).toEqual([]);
  });
});

describe("Poller.rearm()", () => {
  const { events: eventsWord, slot: slotWord } = epollEventLayout();

  /** A poller whose kernel watches nothing, and notes the slots that were modified. */
  function rearming(refuse: (fd: number) => boolean = () => false): { poller: Poller; slots: number[] } {
    const slots: number[] = [];
    const poller = newPoller(kernelWith({
      epollCtl(_, operation, fd, event) {
        if (operation !== EPOLL_CTL.mod) return 0;
        if (refuse(fd)) return failure("EBADF");
        expect(event![eventsWord]).toBe((Interest.readable | Interest.edge) >>> 0);
        slots.push(event![slotWord]!);
        return 0;
      },
    }));
    return { poller, slots };
  }

  const addMany = (poller: Poller, count: number, interest = Interest.readable | Interest.edge): Token[] =>
    Array.from({ length: count }, (_, fd) => add(poller, fd, interest, source([], fd)));

  test("Poller.rearm() re-arms every edge-triggered source in slices, then begins again", () => {
    const { poller, slots } = rearming();
    addMany(poller, 2 * REARM_BUDGET + 10);
    for (let round = 0; round < 2; round++) {
      expect([poller.rearm(), slots.length]).toEqual([true, REARM_BUDGET]);
      expect([poller.rearm(), slots.length]).toEqual([true, 2 * REARM_BUDGET]);
      expect(poller.rearm()).toBe(false);
      expect(slots.splice(0)).toEqual(Array.from({ length: 2 * REARM_BUDGET + 10 }, (_, slot) => slot));
    }
  });

  test("Poller.rearm() leaves alone what is level-triggered, oneshot or removed", () => {
    const { poller, slots } = rearming();
    const [removed] = addMany(poller, 1);
    addMany(poller, 1, Interest.readable);
    addMany(poller, 1, Interest.readable | Interest.edge | Interest.oneshot);
    addMany(poller, 1);
    poller.remove(removed!);
    expect(poller.rearm()).toBe(false);
    expect(slots).toEqual([3]);
  });

  test("Poller.rearm() of nothing is a round of its own", () => {
    expect(newPoller().rearm()).toBe(false);
  });

  test("Poller.rearm() has what is ready reported again", () => {
    const poller = newPoller();
    const events: string[] = [];
    add(poller, readable(), Interest.readable | Interest.edge, source(events, "silent"));
    const oneshot = Interest.readable | Interest.edge | Interest.oneshot;
    add(poller, readable(), oneshot, source(events, "oneshot"));
    for (let i = 0; i < 3; i++) turn(poller);
    expect(events).toEqual(["silent", "oneshot"]);
    expect(poller.rearm()).toBe(false);
    for (let i = 0; i < 3; i++) turn(poller);
    expect(events).toEqual(["silent", "oneshot", "silent"]);
  });

  // One descriptor that was closed without remove() kept those behind it from being re-armed, for ever.
  test("Poller.rearm() throws for a source that the kernel refuses, and the next call goes on behind it", () => {
    const { poller, slots } = rearming((fd) => fd === 1 || fd === 3);
    addMany(poller, 4);
    expect(() => poller.rearm()).toThrow(SystemError);
    expect(() => poller.rearm()).toThrow("epoll_ctl(2) returned EBADF");
    expect(poller.rearm()).toBe(false);
    expect(slots).toEqual([0, 2]);
    expect(() => poller.rearm()).toThrow(SystemError);
    expect(slots).toEqual([0, 2, 0]);
  });
});

describe("Poller.close()", () => {
  test("Poller throws SystemError where there is no descriptor", () => {
    expect(() => new Poller(kernelWith({ epollCreate1: () => failure("EMFILE") }))).toThrow(
      "Cannot make an event loop: epoll_create1(2) returned EMFILE",
    );
  });

  // The number of a closed descriptor belongs to whoever opens the next one.
  test("Poller.close() is safe twice, and a closed poller makes no more system calls", () => {
    let calls = 0;
    const poller = newPoller(kernelWith({
      close: (fd) => {
        calls++;
        return realSyscalls.close(fd);
      },
      epollCtl: (...args) => {
        calls++;
        return realSyscalls.epollCtl(...args);
      },
      epollWait: (...args) => {
        calls++;
        return realSyscalls.epollWait(...args);
      },
    }));
    const fd = readable();
    const token = add(poller, fd, Interest.readable, source([], ""));
    const other = add(poller, readable(), Interest.readable, source([], ""));
    calls = 0;
    poller.close();
    poller.close();
    expect([calls, poller.fd]).toEqual([1, -1]);
    const closed = new RangeError("Cannot use a poller: it is closed");
    expect(() => poller.add(fd, Interest.readable, source([], ""))).toThrow(closed);
    expect(() => poller.modify(token, Interest.none)).toThrow(closed);
    expect(() => poller.wait(0)).toThrow(closed);
    poller.remove(token); // as owners do that outlive it
    poller.remove(other);
    expect([calls, poller.size]).toEqual([1, 0]);
  });
});
