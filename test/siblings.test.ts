import { describe, expect, test } from "vitest";
import { EPOLL_CTL, POLL } from "../ffi/constants.ts";
import { Acceptor, type AcceptorOptions } from "../src/acceptor.ts";
import type { OverloadEvent } from "../src/episode.ts";
import { EventLoop } from "../src/loop.ts";
import { FakeHost } from "./support/fake_host.ts";
import { type FakeClient, FakeKernel } from "./support/fake_kernel.ts";

/** Acceptors that are one server, each with a listener, over a kernel in memory. */
class Siblings {
  readonly kernel: FakeKernel = new FakeKernel({ soft: 64, hard: 64 });
  readonly loop: EventLoop;
  readonly acceptors: Acceptor[] = [];
  readonly events: OverloadEvent[] = [];
  /** What reached `onError`. */
  readonly errors: unknown[] = [];
  /** Descriptors. */
  readonly listeners: number[] = [];
  readonly #served: number[] = [];

  constructor(count: number, options: AcceptorOptions = {}) {
    this.loop = new EventLoop(
      { onError: (error) => this.errors.push(error) },
      this.kernel,
      new FakeHost(this.kernel),
    );
    for (let i = 0; i < count; i++) this.add(i === 0 ? options : {});
  }

  add(options: AcceptorOptions = {}): Acceptor {
    const fd = this.kernel.createListener({ backlog: 64 });
    this.listeners.push(fd);
    const [siblingOf] = this.acceptors;
    const acceptor = new Acceptor(this.loop, { fd, backlog: 64, canResetQueue: false }, { ...options, siblingOf }, {
      accept: (clientFd) => void this.#served.push(clientFd),
      overloaded: (event) => void this.events.push(event),
    });
    this.acceptors.push(acceptor);
    return acceptor;
  }

  /** Clients that wait at listener `index`. */
  connect(index: number, count: number): FakeClient[] {
    return Array.from({ length: count }, () => this.kernel.connectClient(this.listeners[index]!));
  }

  /** Whether epoll tells of clients of listener `index`. */
  isWatched(index: number): boolean {
    return (this.kernel.interestIn(this.listeners[index]!) & POLL.in) !== 0;
  }

  /** All the turns that can be taken now. */
  turns(): void {
    while (this.loop.turn(0));
  }

  /** Lets time pass. */
  pass(ms: number): void {
    const until = this.kernel.now + ms;
    while (this.kernel.now < until) this.loop.turn(until - this.kernel.now);
    this.turns();
  }

  /** Closes the connection that is the oldest. */
  release(): void {
    const fd = this.#served.shift()!;
    this.kernel.close(fd);
    this.acceptors[0]!.released(fd);
    this.turns();
  }

  get served(): number {
    return this.#served.length;
  }

  kinds(): string[] {
    return this.events.map(({ kind }) => kind);
  }

  accepted(): number[] {
    return this.acceptors.map(({ counters }) => counters.accepted);
  }
}

const states = (clients: FakeClient[]) => clients.map(({ state }) => state);

describe.each(["level", "edge"] as const)("Acceptors that are siblings, %s-triggered,", (trigger) => {
  test("count maxConnections together", () => {
    const siblings = new Siblings(2, { trigger, maxConnections: 3 });
    const clients = [...siblings.connect(0, 2), ...siblings.connect(1, 2)];
    siblings.turns();
    expect(states(clients).sort()).toEqual(["accepted", "accepted", "accepted", "end"]);
    expect(siblings.acceptors.map(({ connections }) => connections)).toEqual([3, 3]);
    expect(siblings.acceptors[1]!.totals).toMatchObject({ accepted: 3, refused: 1, episodes: 1 });
  });

  test("keep the headroom together", () => {
    const siblings = new Siblings(2, { trigger, overload: { headroom: 10, reserve: 0, slack: 0 } });
    siblings.connect(0, 40);
    siblings.connect(1, 40);
    siblings.turns();
    expect(siblings.kernel.lowestFree).toBe(54);
    expect(siblings.acceptors[0]!.totals.refused).toBe(80 - siblings.served);
  });

  test("count accepts a second together", () => {
    const siblings = new Siblings(2, { trigger, acceptsPerSecond: 5 });
    siblings.connect(0, 4);
    siblings.connect(1, 4);
    siblings.turns();
    expect(siblings.acceptors[0]!.totals).toMatchObject({ accepted: 5, rateLimited: 3 });
  });

  test("count the connections of an address together", () => {
    const siblings = new Siblings(2, { trigger, maxConnectionsPerAddress: 2 });
    siblings.connect(0, 1);
    siblings.turns();
    siblings.connect(1, 3);
    siblings.turns();
    expect(siblings.acceptors.map(({ counters }) => counters.rateLimited)).toEqual([0, 2]);
    siblings.release(); // of the first
    siblings.connect(1, 1);
    siblings.turns();
    expect(siblings.accepted()).toEqual([1, 2]);
  });

  test("give the place that one's client leaves to a client who waits at another, in turn", () => {
    const siblings = new Siblings(3, { trigger, maxConnections: 1, overload: { policy: "wait" } });
    siblings.connect(0, 1);
    siblings.turns();
    expect(siblings.accepted()).toEqual([1, 0, 0]);
    siblings.connect(2, 3);
    siblings.turns();
    siblings.release();
    expect(siblings.accepted()).toEqual([1, 0, 1]);
    siblings.connect(0, 3);
    siblings.connect(1, 3);
    for (let round = 0; round < 6; round++) siblings.release();
    expect(siblings.accepted()).toEqual([3, 2, 3]);
    expect(siblings.acceptors.every(({ isPaused }) => isPaused)).toBe(true);
  });

  test("let clients wait for graceMs once, not each for as long", () => {
    const siblings = new Siblings(3, { trigger, maxConnections: 1, overload: { policy: { graceMs: 100 } } });
    siblings.connect(0, 1);
    siblings.turns();
    const clients = [0, 1, 2].flatMap((index) => siblings.connect(index, 2));
    siblings.pass(90);
    expect(states(clients)).toEqual(Array(6).fill("queued"));
    siblings.pass(20);
    expect(states(clients)).toEqual(Array(6).fill("end"));
  });

  test("tell of overload with one voice, over sums", () => {
    const siblings = new Siblings(2, { trigger, maxConnections: 1 });
    siblings.connect(0, 3);
    siblings.connect(1, 3);
    siblings.turns();
    expect(siblings.acceptors.map(({ isOverloaded }) => isOverloaded)).toEqual([true, true]);
    siblings.pass(2_000);
    expect(siblings.events).toMatchObject([
      { kind: "start", cause: "maxConnections", refused: 5, connections: 1, waiting: 0 },
      { kind: "end", refused: 5 },
    ]);
    expect(siblings.acceptors[0]!.totals.episodes).toBe(1);
  });

  test("stand back alone: one that has refused enough in a turn leaves the others be", () => {
    const siblings = new Siblings(2, { trigger, maxConnections: 1, overload: { shedPerSecond: 2 } });
    siblings.connect(0, 5);
    siblings.turns();
    expect(siblings.acceptors.map(({ isPaused }) => isPaused)).toEqual([true, false]);
    const [client] = siblings.connect(1, 1);
    siblings.turns();
    expect(client!.state).toBe("end");
  });

  test("pause together, one that comes meanwhile included", () => {
    const siblings = new Siblings(2, { trigger, maxConnections: 1, overload: { policy: "wait" } });
    siblings.connect(0, 2);
    siblings.turns();
    siblings.add({ trigger });
    expect([0, 1, 2].map((index) => siblings.isWatched(index))).toEqual([false, false, false]);
    siblings.connect(2, 1);
    siblings.turns();
    siblings.release();
    siblings.release();
    expect(siblings.accepted()).toEqual([2, 0, 1]);
    siblings.release();
    expect([0, 1, 2].map((index) => siblings.isWatched(index))).toEqual([true, true, true]);
  });

  test("go on when one is closed, whose connections live on and whose counts stay", () => {
    const siblings = new Siblings(2, { trigger, maxConnections: 2, overload: { policy: "wait" } });
    const [first, second] = siblings.acceptors as [Acceptor, Acceptor];
    siblings.connect(0, 2);
    siblings.turns();
    const [waiting] = siblings.connect(1, 1);
    siblings.turns();
    expect([waiting!.state, second.isPaused]).toEqual(["queued", true]);
    first.close();
    siblings.turns();
    expect([waiting!.state, second.connections]).toEqual(["queued", 2]);
    siblings.release();
    expect([waiting!.state, second.connections]).toEqual(["accepted", 2]);
    expect(second.totals).toMatchObject({ accepted: 3 });
    second.close();
    expect(first.totals).toMatchObject({ accepted: 3 });
    while (siblings.served > 0) siblings.release();
    expect(first.connections).toBe(0);
  });

  test("begin anew when all were closed", () => {
    const siblings = new Siblings(1, { trigger, maxConnections: 1, overload: { reserve: 3 } });
    const [first] = siblings.acceptors as [Acceptor];
    const open = siblings.kernel.descriptors.length;
    siblings.connect(0, 2);
    siblings.turns();
    first.close();
    expect([first.isOverloaded, siblings.events.length]).toEqual([false, 1]);
    siblings.add();
    expect(siblings.kernel.descriptors.length).toBe(open + 1);
    const clients = siblings.connect(1, 2);
    siblings.turns();
    expect(states(clients)).toEqual(["end", "end"]);
    expect(first.totals).toMatchObject({ accepted: 1, refused: 3, episodes: 2 });
    siblings.release();
    siblings.connect(1, 1);
    siblings.pass(2_000);
    expect(siblings.accepted()).toEqual([1, 1]);
    expect(siblings.events.map(({ kind }) => kind)).toEqual(["start", "start", "end"]);
  });

  test("surrender() leaves the listener open, with who waits", () => {
    const siblings = new Siblings(2, { trigger });
    const [client] = siblings.connect(1, 1);
    const fd = siblings.acceptors[1]!.surrender();
    siblings.turns();
    expect(client!.state).toBe("queued");
    expect(() => siblings.acceptors[1]!.surrender()).toThrow(/Invariant violated/);
    siblings.acceptors[1]!.close();
    expect(siblings.kernel.descriptors).toContain(fd);
    const info = { fd, backlog: 64, canResetQueue: false };
    new Acceptor(siblings.loop, info, { trigger, siblingOf: siblings.acceptors[0] }, { accept: () => {} });
    siblings.turns();
    expect(client!.state).toBe("accepted");
  });
});

describe("Acceptor", () => {
  test("siblingOf excludes what is the other's to say, and an acceptor of another loop", () => {
    const [siblings, others] = [new Siblings(1), new Siblings(1)];
    expect(() => siblings.add({ maxConnections: 5 })).toThrow('there is no option "maxConnections"');
    const [other] = others.acceptors;
    const info = { fd: siblings.kernel.createListener(), backlog: 64, canResetQueue: false };
    const make = (siblingOf: Acceptor) => () => new Acceptor(siblings.loop, info, { siblingOf }, { accept: () => {} });
    expect(make(other!)).toThrow("Cannot use siblingOf: that acceptor is on another loop");
    expect(make({} as Acceptor)).toThrow("Cannot use siblingOf: it must be an Acceptor");
  });

  // Once removed it was not added again, and its siblings, whose turn never came, were not resumed.
  test.each(["ENOSPC", "ENOMEM"] as const)(
    "an exclusive listener that epoll_ctl(2) fails to add again, with %s, is added later, its siblings at once",
    (errno) => {
      const siblings = new Siblings(3, { exclusive: true, maxConnections: 3, overload: { policy: "wait" } });
      const { kernel, listeners } = siblings;
      siblings.connect(0, 3);
      siblings.turns();
      expect(siblings.acceptors.map(({ isPaused }) => isPaused)).toEqual([true, true, true]);
      kernel.fail("epollCtl", errno, 5, (_, operation, fd) => operation === EPOLL_CTL.add && fd === listeners[0]);
      siblings.release();
      expect([0, 1, 2].map((index) => siblings.isWatched(index))).toEqual([false, true, true]);
      const clients = [0, 1, 2].flatMap((index) => siblings.connect(index, 1));
      siblings.turns();
      siblings.release();
      siblings.release();
      siblings.pass(2_000);
      expect(states(clients)).toEqual(["accepted", "accepted", "accepted"]);
      expect(siblings.errors).toEqual([]);
      const cause = errno === "ENOSPC" ? "watches" : "memory";
      expect(siblings.events[0]).toMatchObject({ kind: "start", cause });
    },
  );

  test("an exclusive listener that epoll_ctl(2) fails to add again for long is overload, told once", () => {
    const siblings = new Siblings(1, { exclusive: true, maxConnections: 1, overload: { policy: "wait" } });
    const { kernel } = siblings;
    siblings.connect(0, 1);
    siblings.turns();
    const end = kernel.fail("epollCtl", "ENOSPC", Infinity, (_, operation) => operation === EPOLL_CTL.add);
    siblings.release();
    const [client] = siblings.connect(0, 1);
    siblings.pass(10_000);
    expect([client!.state, siblings.acceptors[0]!.isPaused]).toEqual(["queued", true]);
    expect(siblings.kinds()).toEqual(["start"]);
    expect(kernel.count("epollCtl", "ENOSPC")).toBeLessThanOrEqual(200);
    end();
    siblings.pass(2_000);
    expect(client!.state).toBe("accepted");
    expect(siblings.kinds()).toEqual(["start", "end"]);
    expect(siblings.errors).toEqual([]);
  });

  test("a listener that was closed behind our back does not keep its siblings from being watched again", () => {
    const siblings = new Siblings(3, { maxConnections: 3, overload: { policy: "wait" } });
    const { kernel, listeners } = siblings;
    siblings.connect(1, 3);
    siblings.turns();
    kernel.close(listeners[0]!);
    siblings.release();
    expect([1, 2].map((index) => siblings.isWatched(index))).toEqual([true, true]);
    expect(siblings.errors.map(String)).toEqual([expect.stringContaining("epoll_ctl(2) returned EBADF")]);
  });

  test("a sibling that cannot be watched changes nothing, and leaves its listener to the caller", () => {
    const siblings = new Siblings(1);
    const { kernel } = siblings;
    const endFailure = kernel.fail("epollCtl", "ENOSPC", 1);
    expect(() => siblings.add()).toThrow("Cannot watch a listener: epoll_ctl(2) returned ENOSPC");
    endFailure();
    const before = kernel.descriptors.length;
    siblings.connect(0, 1);
    siblings.turns();
    expect([siblings.accepted(), kernel.descriptors.length]).toEqual([[1], before + 1]);
  });
});
