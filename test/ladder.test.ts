/** src/ladder.ts: refusing a client when there is no descriptor to do it with. */
import { afterEach, describe, expect, test } from "vitest";
import { MSG, O, RLIMIT, SO, SOL } from "../ffi/constants.ts";
import { ERRNO } from "../ffi/errno.ts";
import { encodeInt, encodeSockaddr, type InetFields, type Rlimit } from "../ffi/layout.ts";
import {
  accept4,
  bind,
  close,
  getrlimit,
  listen,
  open,
  realSyscalls,
  recv,
  send,
  setrlimit,
  setsockopt,
  type Syscalls,
} from "../ffi/syscalls.ts";
import { createAcceptCounters, type LadderCounters } from "../src/counters.ts";
import { Interest } from "../src/interest.ts";
import { Ladder, type LadderOutcome, Slack } from "../src/ladder.ts";
import { Poller } from "../src/poller.ts";
import { Refusal } from "../src/refusal.ts";
import { Reserve } from "../src/reserve.ts";
import { disown, expectNoLeak, fillHoles, outcome, own, withFree, withLimit } from "./support/descriptors.ts";
import { FakeKernel } from "./support/fake_kernel.ts";
import { failure, kernelWith } from "./support/kernel.ts";
import { addressOf, bytes, connectTo, ready, tcpListener, tcpSocket } from "./support/sockets.ts";

expectNoLeak();

const EMFILE = ERRNO.EMFILE[0];
const ENFILE = ERRNO.ENFILE[0];
const BACKLOG = 64;

const toClose: { close(): void }[] = [];

afterEach(() => {
  for (const resource of toClose.splice(0)) resource.close();
});

/** `resource`, closed when the test ends. */
function closing<T extends { close(): void }>(resource: T): T {
  toClose.push(resource);
  return resource;
}

interface Rig {
  readonly ladder: Ladder;
  readonly reserve: Reserve;
  readonly slack: Slack;
  readonly counters: LadderCounters;
  /** Refuses one client of `listenerFd`. */
  refuse(listenerFd: number, errno?: number, canResetQueue?: boolean): LadderOutcome;
}

/** A ladder over `reserve` descriptors, on a kernel that is `calls` and otherwise the real one. */
function rig(reserveSize: number, calls: Partial<Syscalls> = {}, slack?: Slack): Rig {
  const sys = kernelWith(calls);
  const reserve = closing(new Reserve(reserveSize, sys));
  slack ??= closing(new Slack(0, sys));
  const counters = createAcceptCounters();
  const ladder = new Ladder(reserve, slack, counters, sys);
  const refusal = new Refusal("fin", bytes, sys);
  return {
    ...{ ladder, reserve, slack, counters },
    refuse: (fd, errno = EMFILE, canResetQueue = false) =>
      ladder.refuseOne({ fd, backlog: BACKLOG, canResetQueue }, errno, refusal),
  };
}

/** Counters that are not 0. */
function counted(counters: LadderCounters): Partial<LadderCounters> {
  return Object.fromEntries(Object.entries(counters).filter(([, count]) => count !== 0));
}

/** Takes the descriptor that is closed next, once it is told to. */
function thief(): { calls: Partial<Syscalls>; steal: () => void } {
  let isStealing = false;
  return {
    calls: {
      close(fd) {
        const result = realSyscalls.close(fd);
        if (isStealing) own(open("/dev/zero", O.cloexec));
        isStealing = false;
        return result;
      },
    },
    steal: () => isStealing = true,
  };
}

/** A listener, and clients that wait in its backlog. */
function waiting(count: number): [listener: number, clients: number[]] {
  const listener = tcpListener(BACKLOG);
  return [listener, Array.from({ length: count }, () => connectTo(listener))];
}

/** What a client sees within a moment: `"open"`, `"end"` or an errno's name. */
function seenBy(client: number): string {
  const received = recv(client, bytes(64), MSG.dontwait);
  return received === 0 ? "end" : received === -ERRNO.EAGAIN[0] ? "open" : String(outcome(received));
}

/** A listener on a port that is asked for by its number. */
function listenerOnChosenPort(): number {
  for (let attempt = 0; attempt < 100; attempt++) {
    const free = tcpListener();
    const { port } = addressOf(free) as InetFields;
    close(disown(free));
    const listener = tcpSocket();
    expect(setsockopt(listener, SOL.socket, SO.reuseaddr, encodeInt(1))).toBe(0); // as every listener of ours
    const sockaddr = encodeSockaddr({ family: "inet", address: new Uint8Array([127, 0, 0, 1]), port });
    if (bind(listener, sockaddr) === 0 && listen(listener, BACKLOG) === 0) return listener;
  }
  throw new Error("Cannot find a free port: another process took each");
}

function softLimit(): number {
  return (getrlimit(RLIMIT.nofile) as Rlimit).soft;
}

describe("Ladder.refuseOne(), by the reserve,", () => {
  test("refuses everybody on a full table, with one descriptor of reserve", () => {
    const [listener, clients] = waiting(20);
    const { refuse, reserve, counters } = rig(1);
    withFree(0, () => {
      for (let i = 0; i < clients.length; i++) {
        expect(outcome(accept4(listener, 0))).toBe("-EMFILE");
        expect(refuse(listener)).toBe("refused");
      }
      expect(refuse(listener), "nobody waits any more").toBe("gone");
    });
    expect(clients.map(seenBy)).toEqual(Array(20).fill("end"));
    expect(counted(counters)).toEqual({ shedByReserve: 20 });
    expect(reserve.missing).toBe(0);
  });

  test("takes close, accept4, recv and dup3, and nothing between them", () => {
    const [listener] = waiting(1);
    const calls: string[] = [];
    const watched = Object.fromEntries(
      (Object.keys(realSyscalls) as (keyof Syscalls)[]).map((name) => [name, (...args: never[]) => {
        calls.push(name);
        return (realSyscalls[name] as (...args: never[]) => unknown)(...args);
      }]),
    );
    const { refuse } = rig(1, watched);
    calls.length = 0;
    withFree(0, () => void refuse(listener));
    expect(calls).toEqual(["close", "accept4", "recv", "dup3"]);
  });

  test("a client that has gone costs the reserve nothing", () => {
    const listener = tcpListener();
    const { refuse, reserve, counters } = rig(2, { accept4: () => failure("ECONNABORTED") });
    withFree(0, () => expect(refuse(listener)).toBe("gone"));
    expect(reserve.missing).toBe(0);
    expect(counted(counters)).toEqual({});
  });

  test("a reserve that is missing is regrown first, if there is room by now", () => {
    const [listener, [client]] = waiting(1);
    const { refuse, reserve } = rig(1);
    reserve.release();
    expect(refuse(listener)).toBe("refused");
    expect(reserve.missing).toBe(0);
    expect(seenBy(client!)).toBe("end");
  });

  // All of a reserve of two was missing and one slot was free: refill() was not complete, and the ladder gave up.
  test("what of the reserve can be regrown is enough", () => {
    const [listener, [client]] = waiting(1);
    const { refuse, reserve, counters } = rig(2);
    while (reserve.release());
    fillHoles();
    withFree(1, () => expect(refuse(listener)).toBe("refused"));
    expect(seenBy(client!)).toBe("end");
    expect(counted(counters)).toEqual({ shedByReserve: 1 });
  });

  test("two of a reserve stand one thief", () => {
    const [listener, clients] = waiting(3);
    const { calls, steal } = thief();
    const { refuse, reserve, counters } = rig(2, calls);
    withFree(0, () => {
      steal();
      expect(refuse(listener)).toBe("failed");
      expect(reserve.missing).toBe(1);
      expect([refuse(listener), refuse(listener)]).toEqual(["refused", "refused"]);
    });
    expect(counted(counters)).toEqual({ lostByReserve: 1, shedByReserve: 2 });
    expect(clients.map(seenBy)).toEqual(["end", "end", "open"]);
  });

  test("under ENFILE it goes the long way: the client is closed, and the slot opened anew", () => {
    const [listener, [client]] = waiting(1);
    const calls: string[] = [];
    const names = ["open", "close", "accept4", "dup3", "fcntl"] as const;
    const sys: Partial<Syscalls> = Object.fromEntries(
      names.map((name) => [name, (...args: never[]) => {
        calls.push(name);
        return (realSyscalls[name] as (...args: never[]) => number)(...args);
      }]),
    );
    const { refuse, reserve, counters } = rig(1, sys);
    calls.length = 0;
    expect(refuse(listener, ENFILE)).toBe("refused");
    expect(calls).toEqual(["close", "accept4", "close", "open"]);
    expect(reserve.missing).toBe(0);
    expect(seenBy(client!)).toBe("end");
    expect(counted(counters)).toEqual({ shedByReserve: 1 });
  });

  test("under ENFILE the slack of our own limit is no help, and is not tried", () => {
    const listener = tcpListener();
    let shifts = 0;
    const calls: Partial<Syscalls> = {
      accept4: () => failure("ENFILE"),
      setrlimit: (resource, limit) => (shifts++, realSyscalls.setrlimit(resource, limit)),
    };
    const slack = closing(new Slack(4, kernelWith(calls)));
    const { refuse, counters } = rig(1, calls, slack);
    shifts = 0;
    expect(refuse(listener, ENFILE)).toBe("failed");
    expect(shifts).toBe(0);
    expect(counted(counters)).toEqual({ lostByReserve: 1 });
  });
});

describe("Ladder.refuseOne(), by the slack,", () => {
  test("refuses everybody on a full table without a reserve, and leaves the limit as it was", () => {
    const [listener, clients] = waiting(20);
    fillHoles();
    withFree(4, () => {
      const before = softLimit();
      const slack = new Slack(4, realSyscalls);
      const { refuse, counters } = rig(0, {}, slack);
      expect(softLimit()).toBe(before - 4);
      for (let i = 0; i < clients.length; i++) {
        expect(outcome(accept4(listener, 0))).toBe("-EMFILE");
        expect(refuse(listener)).toBe("refused");
        expect(softLimit()).toBe(before - 4);
      }
      expect(refuse(listener)).toBe("gone");
      expect(counted(counters)).toEqual({ shedBySlack: 20 });
      slack.close();
      expect(softLimit()).toBe(before);
    });
    expect(clients.map(seenBy)).toEqual(Array(20).fill("end"));
  });

  test("refuses the client whose reserve was stolen", () => {
    const [listener, [client]] = waiting(1);
    const { calls, steal } = thief();
    fillHoles();
    const reserved = 2; // one and the keeper
    withFree(4 + reserved, () => {
      const slack = new Slack(4, realSyscalls);
      const { refuse, reserve, counters } = rig(1, calls, slack);
      steal();
      expect(refuse(listener)).toBe("refused");
      expect(counted(counters)).toEqual({ lostByReserve: 1, shedBySlack: 1 });
      expect(reserve.missing).toBe(1);
      slack.close();
    });
    expect(seenBy(client!)).toBe("end");
  });

  test("thieves that take all of it too make it fail, and the limit is as it was", () => {
    const [listener, [client]] = waiting(1);
    let isStealing = false;
    const calls: Partial<Syscalls> = {
      accept4(fd, flags) {
        while (isStealing) {
          const stolen = open("/dev/zero", O.cloexec);
          if (stolen < 0) break;
          own(stolen);
        }
        return realSyscalls.accept4(fd, flags);
      },
    };
    fillHoles();
    withFree(4, () => {
      const before = softLimit();
      const slack = new Slack(4, realSyscalls);
      const { refuse, counters } = rig(0, calls, slack);
      isStealing = true;
      expect(refuse(listener)).toBe("failed");
      expect(counted(counters)).toEqual({ lostBySlack: 1 });
      expect(softLimit()).toBe(before - 4);
      slack.close();
    });
    expect(seenBy(client!)).toBe("open");
  });
});

describe.each(["level", "edge"] as const)("Ladder.refuseOne(), by a queue reset, %s-triggered,", (trigger) => {
  test("resets everybody, keeps port and epoll registration, and the next client is served", () => {
    const listener = listenerOnChosenPort();
    const address = addressOf(listener);
    const clients = Array.from({ length: 20 }, () => connectTo(listener));
    const poller = closing(new Poller(realSyscalls));
    let told = 0;
    poller.add(listener, Interest.acceptable | (trigger === "edge" ? Interest.edge : 0), { onReady: () => told++ });
    const wait = () => {
      told = 0;
      poller.wait(0);
      poller.dispatch((error) => expect(error).toBeUndefined());
      return told;
    };
    expect(wait()).toBe(1);
    const { refuse, counters } = rig(0);
    for (let round = 1; round <= 3; round++) {
      withFree(0, () => expect(refuse(listener, EMFILE, true)).toBe("queue reset"));
      expect(counted(counters)).toEqual({ queueResets: round });
      for (const client of clients) ready(client);
      expect(clients.map(seenBy)).toEqual(Array(clients.length).fill("-ECONNRESET"));
      expect(addressOf(listener)).toEqual(address);
      wait(); // an edge may tell of the reset itself
      expect(wait(), "nobody waits").toBe(0);

      const next = connectTo(listener);
      expect(wait(), "the next client is told of").toBe(1);
      const server = own(accept4(listener, 0));
      expect(send(server, bytes("hello"))).toBe(5);
      ready(next);
      expect(recv(next, bytes(64), MSG.dontwait)).toBe(5);
      clients.splice(0, clients.length, ...Array.from({ length: 5 }, () => connectTo(listener)));
    }
  });
});

describe("Ladder.refuseOne(), step by step,", () => {
  test("each is tried when the one before failed: reserve, slack, queue reset", () => {
    const listener = listenerOnChosenPort();
    const client = connectTo(listener);
    const steps: string[] = [];
    const calls: Partial<Syscalls> = {
      accept4: () => (steps.push("accept4"), failure("EMFILE")),
      setrlimit: (resource, limit) => (steps.push("setrlimit"), realSyscalls.setrlimit(resource, limit)),
      shutdown: (fd, how) => (steps.push("shutdown"), realSyscalls.shutdown(fd, how)),
      listen: (fd, backlog) => (steps.push(`listen ${backlog}`), realSyscalls.listen(fd, backlog)),
    };
    const slack = closing(new Slack(1, kernelWith(calls)));
    const { refuse, counters } = rig(1, calls, slack);
    steps.length = 0;
    expect(refuse(listener, EMFILE, true)).toBe("queue reset");
    expect(steps).toEqual([
      "accept4",
      ...["setrlimit", "accept4", "setrlimit"],
      ...["shutdown", `listen ${BACKLOG}`],
    ]);
    expect(counted(counters)).toEqual({ lostByReserve: 1, lostBySlack: 1, queueResets: 1 });
    ready(client);
    expect(seenBy(client)).toBe("-ECONNRESET");
  });

  test("a queue that must not be reset is left alone", () => {
    const listener = tcpListener();
    const calls: Partial<Syscalls> = {
      accept4: () => failure("EMFILE"),
      shutdown: () => expect.unreachable("the queue is reset"),
    };
    const { refuse, counters } = rig(1, calls);
    expect(refuse(listener)).toBe("failed");
    expect(counted(counters)).toEqual({ lostByReserve: 1 });
  });

  test.each(["shutdown", "listen"] as const)("a reset whose %s fails is a failure", (name) => {
    const listener = tcpListener();
    const { refuse, counters } = rig(0, { shutdown: () => 0, listen: () => 0, [name]: () => failure("EINVAL") });
    expect(refuse(listener, EMFILE, true)).toBe("failed");
    expect(counted(counters)).toEqual({});
  });

  test("with nothing to climb it fails, and the client goes on waiting", () => {
    const [listener, [client]] = waiting(1);
    const { refuse, counters } = rig(0);
    withFree(0, () => expect(refuse(listener)).toBe("failed"));
    expect(counted(counters)).toEqual({});
    expect(seenBy(client!)).toBe("open");
  });
});

describe("Slack", () => {
  test("Slack keeps the soft limit below what it was until it is closed; safe twice", () => {
    const before = softLimit();
    const slack = new Slack(16, realSyscalls);
    expect([slack.size, softLimit()]).toEqual([16, before - 16]);
    expect(slack.raise()).toBe(true);
    expect(softLimit()).toBe(before);
    slack.lower();
    expect(softLimit()).toBe(before - 16);
    slack.close();
    slack.close();
    expect([slack.size, softLimit()]).toEqual([0, before]);
  });

  test("Slack of 0 leaves the limit alone", () => {
    const before = softLimit();
    const slack = new Slack(0, kernelWith({ setrlimit: () => expect.unreachable("the limit is set") }));
    expect([slack.size, slack.raise(), softLimit()]).toEqual([0, false, before]);
    slack.close();
  });

  test("Slack of two users is lowered by the first and given back by the last", () => {
    const before = softLimit();
    const words = new Int32Array(2);
    const [first, second] = [new Slack(16, realSyscalls, words), new Slack(32, realSyscalls, words)];
    expect([first.size, second.size, softLimit()]).toEqual([16, 16, before - 16]);
    first.close();
    first.close();
    expect(softLimit()).toBe(before - 16);
    expect(second.raise()).toBe(true);
    second.lower();
    second.close();
    expect([softLimit(), ...words]).toEqual([before, 0, 0]);
    const third = new Slack(8, realSyscalls, words);
    expect(softLimit()).toBe(before - 8);
    third.close();
    expect(softLimit()).toBe(before);
  });

  test("Slack follows a limit that was lowered or raised from outside meanwhile", () => {
    withLimit(softLimit() - 100, () => {
      for (const change of [-50, 50]) {
        const before = softLimit();
        const slack = new Slack(16, realSyscalls);
        setrlimit(RLIMIT.nofile, { ...(getrlimit(RLIMIT.nofile) as Rlimit), soft: softLimit() + change });
        expect(slack.raise()).toBe(true);
        expect(softLimit()).toBe(before + change);
        slack.lower();
        expect(softLimit()).toBe(before + change - 16);
        slack.close();
        expect(softLimit()).toBe(before + change);
      }
    });
  });

  test("Slack.close() gives back what a hard limit that was lowered meanwhile allows", () => {
    const kernel = new FakeKernel({ soft: 100, hard: 100 });
    const slack = new Slack(16, kernel);
    kernel.setrlimit(RLIMIT.nofile, { soft: 84, hard: 90 });
    slack.close();
    expect(kernel.getrlimit(RLIMIT.nofile)).toEqual({ soft: 90, hard: 90 });
  });

  test("Slack.raise() is false where the hard limit forbids it now", () => {
    let limit: Rlimit = { soft: 1000, hard: 1000 };
    const sys = kernelWith({
      getrlimit: () => limit,
      setrlimit: (_, next) => (limit = { ...next }, 0),
    });
    const slack = new Slack(16, sys);
    expect(limit).toEqual({ soft: 984, hard: 1000 });
    limit = { soft: 984, hard: 984 };
    expect(slack.raise()).toBe(false);
    expect(limit).toEqual({ soft: 984, hard: 984 });
    limit = { soft: 984, hard: 990 };
    slack.close();
    expect(limit.soft).toBeGreaterThanOrEqual(984);
  });

  test.each([
    ["cannot be read", { getrlimit: () => failure("EPERM") }],
    ["cannot be set", { setrlimit: () => failure("EPERM") }],
    ["does not exist", { getrlimit: () => ({ soft: Infinity, hard: Infinity }) }],
    ["is too low", { getrlimit: () => ({ soft: 16, hard: 16 }) }],
  ])("Slack has none where the limit %s, and closes all the same", (_, calls) => {
    const before = softLimit();
    const slack = new Slack(16, kernelWith(calls as Partial<Syscalls>));
    expect([slack.size, slack.raise()]).toEqual([0, false]);
    slack.close();
    expect(softLimit()).toBe(before);
  });
});
