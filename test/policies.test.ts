/** src/acceptor.ts and src/server.ts over a real listener: each policy of overload, by the clock of the test. */
import { readlinkSync } from "node:fs";
import process from "node:process";
import { describe, expect, test } from "vitest";
import { AF, EPOLL_CTL, F, MSG, O, RLIMIT, SOCK } from "../ffi/constants.ts";
import { ERRNO, type ErrnoName } from "../ffi/errno.ts";
import { encodeSockaddr, type Rlimit } from "../ffi/layout.ts";
import {
  bind,
  close,
  connect,
  fcntl,
  getrlimit,
  realSyscalls,
  recv,
  send,
  setrlimit,
  socket,
} from "../ffi/syscalls.ts";
import { Acceptor, type AcceptorOptions } from "../src/acceptor.ts";
import { ConnectionError } from "../src/close_reason.ts";
import type { AcceptCounters } from "../src/counters.ts";
import { freeDescriptors } from "../src/descriptors.ts";
import type { OverloadEvent } from "../src/episode.ts";
import { EventLoop } from "../src/loop.ts";
import { serve, type Server, type ServerOptions } from "../src/server.ts";
import { disown, expectNoLeak, fillHoles, openNumbers, outcome, own, withFree } from "./support/descriptors.ts";
import { ManualHost } from "./support/hosts.ts";
import { kernelWith } from "./support/kernel.ts";
import { addressOf, bytes, loopback, ready, tcpListener, tcpSocket, text } from "./support/sockets.ts";

expectNoLeak();

/** How often an acceptor looks after its episode. */
const TICK_MS = 250;

/** A loop that is turned by hand, its clock too. */
class Turned {
  readonly host: ManualHost = new ManualHost();
  /** What reached the loop's `onError`. */
  readonly errors: unknown[] = [];
  /** Failed calls of accept4, by errno. */
  readonly failed: string[] = [];
  /** What epoll_ctl(2) refuses to watch anything more with, if so. */
  unwatchable: ErrnoName | undefined;
  readonly loop: EventLoop;

  constructor() {
    this.host.parkerDescriptors = 0; // it is turned only by hand
    const sys = kernelWith({
      accept4: (fd, flags, sockaddr) => {
        const result = realSyscalls.accept4(fd, flags, sockaddr);
        if (result < 0) this.failed.push(String(outcome(result)));
        return result;
      },
      epollCtl: (epollFd, operation, fd, event) => {
        if (operation === EPOLL_CTL.add && this.unwatchable !== undefined) return -ERRNO[this.unwatchable][0];
        return realSyscalls.epollCtl(epollFd, operation, fd, event);
      },
    });
    this.loop = new EventLoop({ onError: (error) => this.errors.push(error) }, sys, this.host);
  }

  /** Takes turns until one in which nothing happens. */
  settle(): void {
    for (let turns = 0; this.loop.turn(0); turns++) {
      if (turns === 10_000) throw new Error("Cannot settle: the loop spins");
    }
  }

  /** Moves the clock, in small steps, with all that is due. */
  pass(ms: number, stepMs: number = 10): void {
    for (let left = ms; left > 0; left -= stepMs) {
      this.host.clockMs += Math.min(left, stepMs);
      this.settle();
    }
  }
}

interface Rig extends Turned {
  readonly acceptor: Acceptor;
  readonly counters: Readonly<AcceptCounters>;
  readonly listener: number;
  /** Descriptors of served clients, in the order they were served. */
  readonly served: number[];
  readonly events: OverloadEvent[];
  /** Closes the client that was served first. */
  release(): void;
  /** Has the next `count` clients connect; each has then said its place among all. */
  arrive(count: number): number[];
}

interface RigOptions extends AcceptorOptions {
  /** Descriptors that are free for all: the reserve and its keeper, clients, and headroom. @default {no limit} */
  free?: number;
  /** Clients to come. @default {16} */
  clients?: number;
  /** Takes the longest served client for idle. */
  reaps?: boolean;
}

/** Runs `test`, without a pause for the runtime. Sockets of clients are made before: in it there may be no room. */
async function rig(
  { free, clients = 16, reaps = false, ...options }: RigOptions,
  test: (rig: Rig) => void,
): Promise<void> {
  const turned = new Turned();
  const listener = disown(tcpListener(512));
  const arrive = arrivals(listener, clients);
  const served: number[] = [];
  const events: OverloadEvent[] = [];
  const run = () => {
    const acceptor = new Acceptor(turned.loop, { fd: listener, backlog: 512, canResetQueue: false }, options, {
      accept: (fd) => void served.push(fd),
      overloaded: (event) => events.push(event),
      reap() {
        const fd = reaps ? served.shift() ?? -1 : -1;
        if (fd !== -1) acceptor.released(fd);
        return fd;
      },
    });
    const release = () => {
      const fd = served.shift()!;
      close(fd);
      acceptor.released(fd);
    };
    try {
      test(Object.assign(turned, { acceptor, counters: acceptor.counters, listener, served, events, release, arrive }));
    } finally {
      while (served.length > 0) release();
      acceptor.close();
    }
  };
  try {
    if (free === undefined) {
      run();
    } else {
      fillHoles(); // so that the numbers that are free are the highest
      withFree(free, run);
    }
  } finally {
    await turned.loop.close();
  }
}

/** Makes sockets now, to be connected later, some at a time. */
function arrivals(listener: number, count: number): (count: number) => number[] {
  const sockets = Array.from({ length: count }, () => tcpSocket(SOCK.cloexec));
  const sockaddr = encodeSockaddr(addressOf(listener));
  let place = 0;
  return (count) =>
    sockets.splice(0, count).map((client) => {
      expect(outcome(connect(client, sockaddr))).toBe(0);
      expect(send(client, new Uint8Array([place++, 0, 0, 0]))).toBe(4);
      return client;
    });
}

/** A client whose address is 127.0.0.`host`. */
function connectFrom(host: number, listener: number): number {
  const client = tcpSocket(SOCK.cloexec);
  bind(client, encodeSockaddr({ family: "inet", address: new Uint8Array([127, 0, 0, host]), port: 0 }));
  expect(outcome(connect(client, encodeSockaddr(addressOf(listener))))).toBe(0);
  return client;
}

/** What the client at `fd` said its place was. */
function placeOf(fd: number): number {
  const said = bytes(4);
  expect(recv(fd, said, MSG.dontwait)).toBe(4);
  return said[0]!;
}

/** What a client sees now: `"open"`, `"end"` or an errno's name; words it was told before that. */
function seenBy(client: number): string {
  const buffer = bytes(256);
  const received = recv(client, buffer, MSG.dontwait);
  if (received > 0) return `${text(buffer, received)}, ${seenBy(client)}`;
  return received === 0 ? "end" : received === -ERRNO.EAGAIN[0] ? "open" : String(outcome(received));
}

function count(clients: readonly number[], seen: string): number {
  return clients.filter((client) => seenBy(client) === seen).length;
}

function softLimit(): number {
  return (getrlimit(RLIMIT.nofile) as Rlimit).soft;
}

function freeNow(): number {
  return freeDescriptors(realSyscalls, softLimit());
}

function setSoft(soft: number): void {
  expect(setrlimit(RLIMIT.nofile, { ...(getrlimit(RLIMIT.nofile) as Rlimit), soft })).toBe(0);
}

/** Each of `count` descriptors, the reserve's and its keeper, has a file of its own. */
function expectOwnFiles(count: number): void {
  const isIdle = (fd: number) => readlinkSync(`/proc/self/fd/${fd}`) === "/dev/null";
  // The highest of all. Those that share a file share its status flags.
  const reserve = openNumbers().filter(isIdle).sort((a, b) => a - b).slice(-count);
  expect(reserve.every((fd) => fcntl(fd, F.getfd, 0) === F.fdCloexec), "not inherited by children").toBe(true);
  for (const fd of reserve) {
    expect(fcntl(fd, F.setfl, O.nonblock)).toBe(0);
    const flagged = reserve.filter((other) => (fcntl(other, F.getfl, 0) & O.nonblock) !== 0);
    expect(flagged).toEqual([fd]);
    fcntl(fd, F.setfl, 0);
  }
}

/** The reserve of 1 and its keeper. */
const RESERVED = 2;

describe.each(["level", "edge"] as const)(`Policy "wait", %s-triggered,`, (trigger) => {
  test.each<[string, RigOptions]>([
    ["maxConnections", { maxConnections: 3, overload: { policy: "wait", reserve: 1 } }],
    ["the mark", { free: RESERVED + 3 + 4, overload: { policy: "wait", headroom: 4, reserve: 1, slack: 0 } }],
    ["the limit itself", { free: RESERVED + 3, overload: { policy: "wait", headroom: 0, reserve: 1, slack: 0 } }],
    ["the limit, without a reserve", { free: 3, overload: { policy: "wait", headroom: 0, reserve: 0, slack: 0 } }],
  ])(
    "serves in order as room appears, and refuses and strands nobody, by %s",
    (_, options) =>
      rig({ trigger, ...options }, (rig) => {
        const clients = rig.arrive(16);
        const places: number[] = [];
        for (let gone = 0; places.length < clients.length; gone++) {
          rig.settle();
          expect(rig.served.length, "as many as there is room for").toBe(3);
          for (const fd of rig.served.slice(places.length - gone)) places.push(placeOf(fd));
          expect(places).toHaveLength(3 + gone);
          expect(rig.acceptor.isPaused).toBe(true);
          rig.release(); // and no time passes
        }
        expect(places).toEqual(clients.map((_, place) => place));
        expect(rig.counters).toMatchObject({ accepted: 16, refused: 0, shed: 0, emfile: 0, reaped: 0 });
        expect(rig.failed.filter((errno) => errno !== "-EAGAIN"), "no failing accept").toEqual([]);
        expect(rig.errors).toEqual([]);
      }),
  );

  test("makes no call that fails while somebody waits, however long", () =>
    rig({ trigger, free: RESERVED + 2, overload: { policy: "wait", headroom: 0, reserve: 1, slack: 0 } }, (rig) => {
      const clients = rig.arrive(5);
      rig.pass(10_000);
      expect(rig.failed).toEqual([]);
      expect(clients.map(seenBy)).toEqual(Array(5).fill("open"));
      expect(rig.counters.pauses).toBeLessThan(20);
    }));

  test("the headroom is never eaten over 200 rounds of release and connect", () =>
    rig({
      trigger,
      clients: 220,
      free: RESERVED + 5 + 6,
      overload: { policy: "wait", headroom: 6, reserve: 1, slack: 0 },
    }, (rig) => {
      rig.arrive(10);
      for (let round = 0; round < 200; round++) {
        rig.settle();
        expect(freeNow()).toBe(6);
        // Any of those served, so that holes are anywhere
        const at = round * 7 % rig.served.length;
        rig.served.unshift(...rig.served.splice(at, 1));
        rig.release();
        rig.arrive(1);
      }
      rig.settle();
      expect(rig.counters).toMatchObject({ accepted: 205, refused: 0, shed: 0, emfile: 0 });
    }));

  test("room that somebody else made is found by the timer", () =>
    rig({ trigger, free: RESERVED + 2 + 4, overload: { policy: "wait", headroom: 4, reserve: 1, slack: 0 } }, (rig) => {
      const clients = rig.arrive(3);
      rig.settle();
      expect(rig.served).toHaveLength(2);
      setSoft(softLimit() + 1); // as good as a descriptor that somebody else closes
      rig.pass(1_100);
      expect(rig.served).toHaveLength(3);
      expect(clients.map(seenBy)).toEqual(Array(3).fill("open"));
    }));

  // The listener is not watched once the last that fits was served; nobody looked whether somebody else had come.
  test("somebody who comes after the last that fits begins an episode", () =>
    rig({ trigger, maxConnections: 2, overload: { policy: "wait" } }, (rig) => {
      rig.arrive(2);
      rig.pass(100);
      expect(rig.events, "nobody waits").toEqual([]);
      rig.arrive(1);
      rig.pass(2_000);
      expect(rig.events.map(({ kind, cause }) => `${kind} ${cause}`)).toEqual(["start maxConnections"]);
      expect(rig.acceptor.isOverloaded).toBe(true);
    }));

  test("an episode ends once nobody has waited for a second, though every place is taken", () =>
    rig({ trigger, maxConnections: 2, overload: { policy: "wait" } }, (rig) => {
      rig.arrive(3);
      rig.pass(2_000);
      expect(rig.events.map(({ kind }) => kind)).toEqual(["start"]);
      rig.release();
      rig.settle();
      expect(rig.served).toHaveLength(2);
      rig.pass(3_000);
      expect(rig.events.map(({ kind }) => kind)).toEqual(["start", "end"]);
    }));

  test("reaps who is idle, rather than let a newcomer wait", () =>
    rig(
      { trigger, maxConnections: 2, reaps: true, overload: { policy: "wait", reapIdle: { minIdleMs: 0 } } },
      (rig) => {
        rig.arrive(2);
        rig.pass(100);
        expect(rig.counters.reaped, "nobody else has come").toBe(0);
        const [third] = rig.arrive(1);
        rig.pass(2_000);
        expect(rig.counters).toMatchObject({ accepted: 3, reaped: 1 });
        expect(rig.served.map(placeOf)).toEqual([1, 2]);
        expect(seenBy(third!)).toBe("open");
      },
    ));
});

describe.each(["level", "edge"] as const)("Policy { graceMs }, %s-triggered,", (trigger) => {
  test.each<[string, RigOptions]>([
    ["maxConnections", { maxConnections: 2 }],
    ["a maxConnections of 1", { maxConnections: 1 }],
    ["the mark", { free: RESERVED + 2 + 4, overload: { headroom: 4, reserve: 1, slack: 0 } }],
    ["the limit itself", { free: RESERVED + 2, overload: { headroom: 0, reserve: 1, slack: 0 } }],
  ])(
    "waits, then refuses, then waits again once room has appeared, by %s",
    (_, { overload, ...options }) =>
      rig({ trigger, ...options, overload: { ...overload, policy: { graceMs: 100 } } }, (rig) => {
        const fits = options.maxConnections ?? 2;
        const clients = rig.arrive(fits + 3);
        rig.settle();
        expect(rig.served).toHaveLength(fits);
        rig.pass(99);
        expect(count(clients, "open")).toBe(fits + 3);
        rig.pass(2);
        expect(count(clients, "end")).toBe(3);
        expect(rig.counters.refused + rig.counters.shed).toBe(3);

        const [late] = rig.arrive(1);
        rig.settle();
        expect(seenBy(late!), "at once, now").toBe("end");

        rig.release();
        const [served, waits] = rig.arrive(2);
        rig.settle();
        expect(rig.served).toHaveLength(fits);
        expect([seenBy(served!), seenBy(waits!)]).toEqual(["open", "open"]);
        rig.pass(90);
        expect(seenBy(waits!)).toBe("open");
        rig.release();
        rig.settle();
        expect(rig.served).toHaveLength(fits);
        expect(placeOf(rig.served.at(-1)!)).toBe(fits + 5);
      }),
  );

  test("of 0 ms refuses within the first pause", () =>
    rig({ trigger, maxConnections: 1, overload: { policy: { graceMs: 0 } } }, (rig) => {
      const clients = rig.arrive(4);
      rig.settle();
      rig.pass(10);
      expect(clients.map(seenBy)).toEqual(["open", "end", "end", "end"]);
    }));
});

describe.each(["level", "edge"] as const)(`Policy "shed", %s-triggered,`, (trigger) => {
  const full: RigOptions = { free: RESERVED + 2, overload: { headroom: 0, reserve: 1, slack: 0 } };
  const atTheMark: RigOptions = { free: RESERVED + 2 + 4, overload: { headroom: 4, reserve: 1, slack: 0 } };

  test.each<[string, string, string]>([
    ["fin", "fin", "end"],
    ["rst", "rst", "-ECONNRESET"],
    ["a farewell", "-BUSY try again\r\n", "-BUSY try again\r\n, end"],
  ])("refuses with %s through a full table, and at the mark", async (_, refuse, seen) => {
    for (const { overload, ...options } of [full, atTheMark]) {
      await rig({ trigger, ...options, overload: { ...overload, refuse } }, (rig) => {
        const clients = rig.arrive(8);
        rig.settle();
        for (const client of clients.slice(2)) ready(client);
        expect(clients.map(seenBy)).toEqual(["open", "open", ...Array(6).fill(seen)]);
        expect(rig.counters.refused + rig.counters.shed).toBe(6);
        expect(rig.counters[overload!.headroom === 0 ? "shed" : "refused"]).toBe(6);
        expect(rig.acceptor.reserveMissing).toBe(0);
      });
    }
  });

  test("shedPerTurn: the others are looked at in the next turns, which follow by themselves", async () => {
    for (const { overload, ...options } of [full, atTheMark]) {
      await rig({ trigger, ...options, overload: { ...overload, shedPerTurn: 5 } }, (rig) => {
        const refused = () => rig.counters.refused + rig.counters.shed;
        rig.arrive(14);
        for (const expected of [5, 10, 12]) {
          rig.loop.turn(0);
          expect(refused()).toBe(expected);
        }
        rig.settle();
        expect([refused(), rig.served.length]).toEqual([12, 2]);
      });
    }
  });

  test("shedPerSecond: pauses when the tokens are spent, and goes on with each that comes", async () => {
    for (const { overload, ...options } of [full, atTheMark, { maxConnections: 2 }] as RigOptions[]) {
      await rig({ trigger, ...options, clients: 32, overload: { ...overload, shedPerSecond: 10 } }, (rig) => {
        const refused = () => rig.counters.refused + rig.counters.shed;
        rig.arrive(22);
        rig.settle();
        expect([refused(), rig.acceptor.isPaused]).toEqual([10, true]);
        rig.pass(99);
        expect(refused()).toBe(10);
        rig.pass(2);
        expect([refused(), rig.acceptor.isPaused]).toEqual([11, true]);
        rig.pass(2_000);
        expect([refused(), rig.acceptor.isPaused]).toEqual([20, false]);
        // Quiet for a second: one second's burst again
        rig.arrive(10);
        rig.settle();
        expect(refused()).toBe(30);
      });
    }
  });

  test("shedPerSecond: room that appears in the pause is given to who waits, at once", () =>
    rig({ trigger, maxConnections: 2, overload: { shedPerSecond: 1 } }, (rig) => {
      rig.arrive(5);
      rig.settle();
      expect([rig.counters.refused, rig.acceptor.isPaused]).toEqual([1, true]);
      rig.release();
      rig.settle();
      expect(placeOf(rig.served.at(-1)!)).toBe(3);
    }));

  test("the headroom is never eaten over 200 rounds of release and connect", () =>
    rig({
      trigger,
      clients: 420,
      free: RESERVED + 5 + 6,
      overload: { headroom: 6, reserve: 1, slack: 0 },
    }, (rig) => {
      for (let round = 0; round < 200; round++) {
        rig.arrive(2);
        rig.settle();
        expect(freeNow()).toBeGreaterThanOrEqual(6);
        const at = round * 7 % rig.served.length;
        rig.served.unshift(...rig.served.splice(at, 1));
        rig.release();
      }
      expect(rig.counters).toMatchObject({ shed: 0, emfile: 0 });
    }));

  test("a limit that is raised while running is noticed, and used", () =>
    rig({ trigger, ...atTheMark }, (rig) => {
      rig.arrive(4);
      rig.settle();
      expect([rig.served.length, rig.counters.refused]).toEqual([2, 2]);
      setSoft(softLimit() + 3);
      const clients = rig.arrive(5);
      rig.settle();
      expect(rig.served).toHaveLength(5);
      expect(count(clients, "end")).toBe(2);
      expect(freeNow()).toBe(4);
    }));

  // The mark was read again only when a number reached it, and after a lower limit none does.
  test.each([4, 8])(
    "a limit that is lowered by %i while running is noticed, and the headroom kept free again",
    (by) =>
      rig({ trigger, clients: 32, free: RESERVED + 10 + 4, overload: { headroom: 4, reserve: 1, slack: 0 } }, (rig) => {
        rig.arrive(4);
        rig.settle();
        expect(rig.served).toHaveLength(4);
        setSoft(softLimit() - by);
        rig.arrive(6);
        rig.settle();
        const { emfile } = rig.counters;
        rig.pass(2_000);
        // Those that have numbers in the headroom by now keep them; their successors get none.
        while (rig.served.length > 0) rig.release();
        rig.arrive(16);
        rig.settle();
        expect(rig.served).toHaveLength(10 - by);
        expect(freeNow()).toBe(4);
        expect(rig.counters.emfile).toBe(emfile);
        expect(rig.acceptor.reserveMissing).toBe(0);
      }),
  );

  test("after an episode the reserve is complete, and each descriptor has a file of its own", () =>
    rig({ trigger, free: 5 + 2 + 1, overload: { headroom: 0, reserve: 4, slack: 0 }, clients: 40 }, (rig) => {
      rig.arrive(12);
      rig.settle();
      expect(rig.counters.shed).toBeGreaterThan(0);
      while (rig.served.length > 0) rig.release();
      rig.pass(3_000);
      expect(rig.events.map(({ kind }) => kind)).toEqual(["start", "end"]);
      expect(rig.acceptor.reserveMissing).toBe(0);
      expectOwnFiles(5);
    }));

  // It waited for files of its own, which a full table has no number for.
  test("an episode ends once it is quiet, though the table is full; own files follow when there is room", () =>
    rig({ trigger, ...full, clients: 24 }, (rig) => {
      const kinds = () => rig.events.map(({ kind }) => kind);
      rig.arrive(8);
      rig.pass(3_000);
      expect([rig.counters.shed, rig.served.length, freeNow()]).toEqual([6, 2, 0]);
      expect(kinds()).toEqual(["start", "end"]);
      expect([rig.acceptor.isOverloaded, rig.acceptor.reserveMissing]).toEqual([false, 0]);
      rig.arrive(1);
      rig.pass(3_000);
      expect(kinds()).toEqual(["start", "end", "start", "end"]);
      expect(rig.counters).toMatchObject({ shed: 7, episodes: 2 });
      rig.release();
      rig.pass(1_000);
      expectOwnFiles(2);
      expect(kinds()).toHaveLength(4);
    }));
});

describe.each(["level", "edge"] as const)("reapIdle, %s-triggered,", (trigger) => {
  test("perTurn: no more are reaped in one turn, and the next newcomers are refused", () =>
    rig({
      trigger,
      maxConnections: 3,
      reaps: true,
      overload: { reapIdle: { minIdleMs: 0, perTurn: 2 } },
    }, (rig) => {
      rig.arrive(3);
      rig.settle();
      const clients = rig.arrive(3);
      rig.loop.turn(0);
      expect(rig.counters).toMatchObject({ accepted: 5, reaped: 2, refused: 1 });
      expect(rig.served.map(placeOf)).toEqual([2, 3, 4]);
      expect(clients.map(seenBy)).toEqual(["open", "open", "end"]);
      rig.arrive(1);
      rig.loop.turn(0);
      expect(rig.counters).toMatchObject({ accepted: 6, reaped: 3, refused: 1 });
    }));

  test.each([["the mark", 6], ["the limit itself", 0]])("the newcomer takes the old number over 200 rounds, by %s", (
    _,
    headroom,
  ) =>
    rig({
      trigger,
      clients: 220,
      free: RESERVED + 5 + headroom,
      reaps: true,
      overload: { headroom, reserve: 1, slack: 0, reapIdle: { minIdleMs: 0 } },
    }, (rig) => {
      rig.arrive(5);
      rig.settle();
      for (let round = 0; round < 200; round++) {
        const [newcomer] = rig.arrive(1);
        rig.settle();
        expect(seenBy(newcomer!)).toBe("open");
        expect(rig.served).toHaveLength(5);
        expect(freeNow()).toBeGreaterThanOrEqual(headroom);
      }
      expect(rig.counters).toMatchObject({ accepted: 205, reaped: 200, refused: 0, shed: 0 });
      expect(rig.acceptor.reserveMissing).toBe(0);
    }));
});

describe.each(["level", "edge"] as const)("Rates and shares, %s-triggered,", (trigger) => {
  test("maxConnectionsPerAddress: who has its share is refused, others are served, a release makes room", () =>
    rig({ trigger, maxConnectionsPerAddress: 2 }, (rig) => {
      const clients = rig.arrive(5);
      const other = connectFrom(2, rig.listener);
      rig.settle();
      expect(clients.map(seenBy)).toEqual(["open", "open", "end", "end", "end"]);
      expect(seenBy(other)).toBe("open");
      expect(rig.counters).toMatchObject({ accepted: 3, rateLimited: 3, refused: 0 });
      rig.release();
      rig.arrive(2);
      rig.settle();
      expect(rig.counters).toMatchObject({ accepted: 4, rateLimited: 4, refused: 0 });
    }));

  test("maxConnectionsPerAddress: a refusal for lack of room costs no share", () =>
    rig({ trigger, maxConnections: 2, maxConnectionsPerAddress: 3 }, (rig) => {
      rig.arrive(5);
      rig.settle();
      expect(rig.counters).toMatchObject({ accepted: 2, rateLimited: 0, refused: 3 });
      rig.release();
      rig.release();
      rig.arrive(3);
      rig.settle();
      expect(rig.counters).toMatchObject({ accepted: 4, rateLimited: 0, refused: 4 });
    }));

  test("maxConnectionsPerAddress: a reaped connection's share goes to its address", () =>
    rig({
      trigger,
      clients: 64,
      maxConnections: 2,
      maxConnectionsPerAddress: 3,
      reaps: true,
      overload: { reapIdle: { minIdleMs: 0 } },
    }, (rig) => {
      rig.arrive(2);
      rig.settle();
      for (let round = 1; round <= 50; round++) {
        rig.arrive(1);
        rig.settle();
        expect(rig.counters).toMatchObject({ accepted: 2 + round, reaped: round, rateLimited: 0, refused: 0 });
      }
    }));

  test.each(["acceptsPerSecond", "acceptsPerSecondPerAddress"] as const)(
    "%s: those above it are refused",
    (option) =>
      rig({ trigger, [option]: 3 }, (rig) => {
        const clients = rig.arrive(5);
        rig.settle();
        expect(clients.map(seenBy)).toEqual(["open", "open", "open", "end", "end"]);
        expect(rig.counters).toMatchObject({ accepted: 3, rateLimited: 2, refused: 0 });
        rig.pass(1_000);
        rig.arrive(4);
        rig.settle();
        expect(rig.counters).toMatchObject({ accepted: 6, rateLimited: 3, refused: 0 });
      }),
  );

  // A client was counted before it was known whether it would be served: who knocked in vain locked everybody out.
  test("acceptsPerSecond: who is refused for its address's sake does not count", () =>
    rig({ trigger, acceptsPerSecond: 3, maxConnectionsPerAddress: 2 }, (rig) => {
      rig.arrive(16);
      const other = connectFrom(2, rig.listener);
      rig.settle();
      expect(seenBy(other)).toBe("open");
      expect(rig.counters).toMatchObject({ accepted: 3, rateLimited: 14, refused: 0 });
    }));

  test.each(["acceptsPerSecond", "acceptsPerSecondPerAddress"] as const)(
    "%s: who is refused for lack of room does not count",
    (option) =>
      rig({ trigger, [option]: 3, maxConnections: 2 }, (rig) => {
        rig.arrive(8);
        rig.settle();
        expect(rig.counters).toMatchObject({ accepted: 2, rateLimited: 0, refused: 6 });
        rig.release();
        rig.release();
        rig.arrive(2);
        rig.settle();
        expect(rig.counters).toMatchObject({ accepted: 3, rateLimited: 1, refused: 6 });
      }),
  );

  test("acceptsPerSecondPerAddress: who is refused for acceptsPerSecond does not count", () =>
    rig({ trigger, acceptsPerSecond: 2, acceptsPerSecondPerAddress: 1 }, (rig) => {
      const others = [2, 3].map((host) => connectFrom(host, rig.listener));
      rig.settle();
      rig.arrive(1);
      rig.settle();
      expect(others.map(seenBy)).toEqual(["open", "open"]);
      expect(rig.counters).toMatchObject({ accepted: 2, rateLimited: 1 });
      rig.pass(500);
      rig.arrive(1);
      rig.settle();
      expect(rig.counters).toMatchObject({ accepted: 3, rateLimited: 1 });
    }));

  test("maxConnectionsPerAddress and acceptsPerSecondPerAddress leave Unix peers alone, who have no address", () => {
    const path = `\0spillway-policies-${process.pid}-${trigger}`;
    const options = { trigger, path, maxConnectionsPerAddress: 1, acceptsPerSecondPerAddress: 1 };
    return serving(options, (serving) => {
      const clients = serving.arrive(4);
      serving.settle();
      expect(clients.map(seenBy)).toEqual(Array(4).fill("open"));
      expect(serving.server.counters).toMatchObject({ accepted: 4, rateLimited: 0 });
    });
  });

  test("a flood above the rate is no overload, and the refusals keep to shedPerSecond", () =>
    rig({ trigger, clients: 64, acceptsPerSecond: 1, overload: { shedPerSecond: 10 } }, (rig) => {
      rig.arrive(64);
      rig.settle();
      expect(rig.counters.rateLimited).toBe(10);
      rig.pass(10_000);
      expect(rig.counters.accepted + rig.counters.rateLimited).toBe(64);
      expect(rig.events).toEqual([]);
    }));
});

interface Serving extends Turned {
  readonly server: Server;
  /** What reached the server's `onError`. */
  readonly serverErrors: unknown[];
  /** What each closed connection's handler was given. */
  readonly closed: unknown[];
  arrive(count: number): number[];
}

/** As {@linkcode rig}, with a server and its connections. */
async function serving(options: Partial<ServerOptions>, test: (serving: Serving) => void): Promise<void> {
  const turned = new Turned();
  const [serverErrors, closed]: [unknown[], unknown[]] = [[], []];
  const server = serve({
    loop: turned.loop,
    onError: (error) => serverErrors.push(error),
    close: (_, error) => void closed.push(error),
    ...options,
  });
  const { address } = server;
  const sockaddr = address.transport === "unix"
    ? encodeSockaddr({ family: "unix", path: bytes(address.path) })
    : loopback(address.port);
  const family = address.transport === "unix" ? AF.unix : AF.inet;
  const sockets = Array.from({ length: 32 }, () => own(socket(family, SOCK.stream | SOCK.cloexec, 0)));
  const arrive = (count: number) =>
    sockets.splice(0, count).map((client) => {
      expect(outcome(connect(client, sockaddr))).toBe(0);
      return client;
    });
  try {
    test(Object.assign(turned, { server, serverErrors, closed, arrive }));
  } finally {
    const stopped = server.stop({ timeoutMs: 0 });
    turned.settle();
    turned.pass(100);
    await stopped;
    await turned.loop.close();
  }
}

describe.each(["level", "edge"] as const)("serve(), %s-triggered,", (trigger) => {
  test("reapIdle: the longest idle first, none before minIdleMs, each told why", () =>
    serving({ trigger, maxConnections: 3, overload: { reapIdle: { minIdleMs: 100 } } }, (serving) => {
      const [a, b, c] = serving.arrive(3) as [number, number, number];
      serving.settle();
      serving.pass(50);
      send(a, bytes("busy again"));
      serving.settle();
      expect(serving.closed).toEqual([]);
      serving.pass(49);
      const [early] = serving.arrive(1);
      serving.settle();
      expect(seenBy(early!), "nobody has been idle for long enough").toBe("end");
      serving.pass(1);
      const [d, e, f] = serving.arrive(3) as [number, number, number];
      serving.settle();
      expect([a, b, c, d, e, f].map(seenBy)).toEqual(["open", "end", "end", "open", "open", "end"]);
      const reason = new ConnectionError(
        "overload",
        "Cannot keep an idle connection: its descriptor is needed for somebody else (overload.reapIdle)",
      );
      expect(serving.closed).toEqual([reason, reason]);
      expect(serving.server.counters).toMatchObject({ accepted: 5, reaped: 2, refused: 2 });
      expect(serving.server.connections.size).toBe(3);
    }));

  test("overloaded: one start and one end, with their counts", () => {
    const events: OverloadEvent[] = [];
    return serving({ trigger, maxConnections: 2, overloaded: (event) => void events.push(event) }, (serving) => {
      const { server } = serving;
      const clients = serving.arrive(7);
      serving.settle();
      expect(events).toMatchObject([{
        ...{ kind: "start", cause: "maxConnections", durationMs: 0, refused: 5, reaped: 0, pauses: 0 },
        ...{ connections: 2, waiting: 0, limit: softLimit(), headroom: server.headroom },
      }]);
      expect(events[0]!.cure).toContain("maxConnections");
      expect(server.isOverloaded).toBe(true);
      expect(count(clients, "end")).toBe(5);
      serving.pass(500);
      for (const connection of [...server.connections]) connection.close();
      serving.arrive(2);
      serving.pass(500 - TICK_MS);
      expect(events).toHaveLength(1);
      serving.pass(1_000 + TICK_MS);
      expect(events).toHaveLength(2);
      expect(events[1]).toMatchObject({ kind: "end", cause: "maxConnections", refused: 5, served: 2, connections: 2 });
      expect(server.isOverloaded).toBe(false);
      serving.pass(60_000, 500);
      expect(events).toHaveLength(2);
    });
  });

  test("overloaded: a summary each half minute while it lasts, of the whole episode", () => {
    const events: OverloadEvent[] = [];
    return serving(
      { trigger, maxConnections: 1, overload: { policy: "wait" }, overloaded: (e) => void events.push(e) },
      (
        serving,
      ) => {
        serving.arrive(3);
        serving.pass(65_000, 500);
        expect(events.map(({ kind, waiting }) => `${kind} ${waiting}`)).toEqual(["start 2", "summary 2", "summary 2"]);
      },
    );
  });

  test("overloaded that throws is handed to onError, and the server goes on", () =>
    serving({
      trigger,
      maxConnections: 1,
      overloaded({ kind }) {
        throw new Error(`no room for the ${kind}`);
      },
    }, (serving) => {
      const clients = serving.arrive(3);
      serving.pass(2_000);
      expect(clients.map(seenBy)).toEqual(["open", "end", "end"]);
      expect(serving.serverErrors).toEqual([new Error("no room for the start"), new Error("no room for the end")]);
      expect(serving.errors).toEqual([]);
    }));

  test("overloaded that rejects is handed to onError", async () => {
    let errors: unknown[] = [];
    await serving({
      trigger,
      maxConnections: 1,
      overloaded: ({ kind }) => Promise.reject(new Error(`no room for the ${kind}`)) as unknown as void,
    }, (serving) => {
      errors = serving.serverErrors;
      serving.arrive(2);
      serving.settle();
    });
    expect(errors).toEqual([new Error("no room for the start")]);
  });

  test("overloaded may stop the server", () =>
    serving({ trigger, maxConnections: 1, overloaded: () => void server!.stop({ timeoutMs: 0 }) }, (serving) => {
      server = serving.server;
      const clients = serving.arrive(3);
      serving.settle();
      serving.pass(2_000);
      expect(count(clients, "open")).toBe(0);
      expect([...serving.errors, ...serving.serverErrors]).toEqual([]);
    }));
  let server: Server | undefined;

  test("logger has a line for the start and one for the end, however many clients", () => {
    const lines: string[] = [];
    return serving({ trigger, maxConnections: 1, logger: (line) => void lines.push(line) }, (serving) => {
      serving.arrive(20);
      serving.pass(2_000);
      expect(lines).toHaveLength(2);
      expect(lines[0]).toContain(`overload on ${serving.server.url}: maxConnections reached`);
      expect(lines[0]).toContain("19 refused");
      expect(lines[1]).toContain(`overload on ${serving.server.url} is over after `);
    });
  });

  // Each was told to onError: a line, with a stack, for each client.
  test.each([["ENOSPC", "out of epoll watches"], ["ENOMEM", "the kernel is out of memory"]] as const)(
    "those whom epoll_ctl(2) refuses to watch, with %s, are refused, and logged as overload is",
    (errno, what) =>
      serving({ trigger, overload: { refuse: "-BUSY" } }, (serving) => {
        const { server, host: { lines } } = serving;
        serving.unwatchable = errno;
        const unlucky = serving.arrive(20);
        serving.settle();
        expect(unlucky.map(seenBy)).toEqual(Array(20).fill("-BUSY, end"));
        expect(server.counters).toMatchObject({ setupFailed: 20, refused: 0, episodes: 1 });
        serving.unwatchable = undefined;
        const lucky = serving.arrive(2);
        serving.settle();
        expect([...lucky.map(seenBy), server.connections.size]).toEqual(["open", "open", 2]);
        serving.pass(2_000);
        expect(lines).toHaveLength(2);
        expect(lines[0]).toContain(what);
        expect(lines[1]).toContain("is over");
        expect([...serving.errors, ...serving.serverErrors]).toEqual([]);
      }),
  );

  test("those who are to wait do so while epoll_ctl(2) refuses to watch more, but for one at each attempt", () =>
    serving({ trigger, maxConnections: 30, overload: { policy: "wait" } }, (serving) => {
      const { server } = serving;
      serving.unwatchable = "ENOSPC";
      const clients = serving.arrive(20);
      serving.pass(10_000);
      const lost = server.counters.setupFailed;
      expect(lost, "pauses become longer").toBeLessThan(18);
      expect(count(clients, "end")).toBe(lost);
      serving.unwatchable = undefined;
      serving.pass(1_000);
      expect(server.connections.size).toBe(20 - lost);
      expect([...serving.errors, ...serving.serverErrors]).toEqual([]);
    }));

  test("without overloaded and logger the lines go to standard error", () =>
    serving({ trigger, maxConnections: 1 }, (serving) => {
      serving.arrive(3);
      serving.pass(2_000);
      expect(serving.host.lines).toHaveLength(2);
      expect(serving.host.lines[0]).toMatch(/^spillway: overload on tcp:/);
    }));
});
