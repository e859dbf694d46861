import { describe, expect, test, vi } from "vitest";
import { EPOLL_CTL, MSG, O, SHUT } from "../ffi/constants.ts";
import { ERRNO, type ErrnoName } from "../ffi/errno.ts";
import { close, realSyscalls, recv, send, shutdown, type Syscalls } from "../ffi/syscalls.ts";
import { Acceptor, type AcceptorOptions } from "../src/acceptor.ts";
import { Coordinator } from "../src/coordinator.ts";
import type { OverloadEvent } from "../src/episode.ts";
import { ACCEPT_BUDGET, PAUSE_RATE_MS, REFUSING_TURNS_PER_SECOND } from "../src/limits.ts";
import { EventLoop } from "../src/loop.ts";
import { closeNow, disown, expectNoLeak, outcome, withFree } from "./support/descriptors.ts";
import { FakeHost } from "./support/fake_host.ts";
import { FakeKernel } from "./support/fake_kernel.ts";
import { runtimeSettled, turnUntil, turnUntilQuiet } from "./support/loops.ts";
import { bytes, connectTo, ready, tcpListener } from "./support/sockets.ts";

expectNoLeak();

interface Rig {
  readonly loop: EventLoop;
  readonly acceptor: Acceptor;
  readonly listener: number;
  /** Descriptors of served clients. */
  readonly served: number[];
  /** Those of `served` that may be reaped, in this order. */
  readonly idle: number[];
  readonly events: OverloadEvent[];
  /** What reached `onError`. */
  readonly errors: unknown[];
  /** What reached `onFail`. */
  readonly failures: Error[];
  /** Calls by name, those of the loop's own waiting apart. */
  readonly calls: string[];
  /** Closes a served client. */
  release(): void;
}

interface RigOptions extends AcceptorOptions {
  sys?: Partial<Syscalls>;
  backlog?: number;
  canResetQueue?: boolean;
  onAccept?: (fd: number) => void;
}

/** The default of `shedPerTurn`. */
const SHED_PER_TURN = 32;

const WATCHED = ["accept4", "close", "dup3", "open", "fcntl", "poll"] as const;

/** Runs `test`, without a pause for the runtime, over an acceptor whose loop is turned by hand. */
async function rig(
  { sys, backlog = 512, canResetQueue = false, onAccept, ...options }: RigOptions,
  test: (rig: Rig) => void,
): Promise<void> {
  const calls: string[] = [];
  const kernel: Syscalls = { ...realSyscalls, ...sys };
  const recorded = Object.fromEntries(
    WATCHED.map((name) => [name, (...args: never[]) => {
      const result = (kernel[name] as (...args: never[]) => number)(...args);
      calls.push(result < 0 ? `${name} ${outcome(result)}` : name);
      return result;
    }]),
  );
  const [served, errors, failures]: [number[], unknown[], Error[]] = [[], [], []];
  const listener = disown(tcpListener(backlog));
  const loop = new EventLoop({ onError: (error) => errors.push(error) }, { ...kernel, ...recorded });
  const events: OverloadEvent[] = [];
  const acceptor = new Acceptor(loop, { fd: listener, backlog, canResetQueue }, options, {
    accept(fd) {
      onAccept?.(fd);
      served.push(fd);
    },
    fail: (error) => failures.push(error),
    overloaded: (event) => events.push(event),
    reap() {
      const fd = idle.length > 0 ? served.splice(served.indexOf(idle.shift()!), 1)[0]! : -1;
      if (fd !== -1) acceptor.released(fd);
      return fd;
    },
  });
  const idle: number[] = [];
  const release = () => {
    const fd = served.shift()!;
    close(fd);
    acceptor.released(fd);
  };
  calls.length = 0;
  try {
    test({ loop, acceptor, listener, served, idle, events, errors, failures, calls, release });
  } finally {
    while (served.length > 0) release();
    acceptor.close();
    await loop.close();
  }
}

const NOBODY = { accept: () => {} };

/** Clients that wait in the backlog of `listener`. */
function waiting(listener: number, count: number): number[] {
  return Array.from({ length: count }, () => connectTo(listener));
}

/** What a client sees within a moment: `"open"`, `"end"` or an errno's name. */
function seenBy(client: number): string {
  const received = recv(client, bytes(64), MSG.dontwait);
  return received === 0 ? "end" : received === -ERRNO.EAGAIN[0] ? "open" : String(outcome(received));
}

describe.each(["level", "edge"] as const)("Acceptor, %s-triggered,", (trigger) => {
  test("accepts everybody who waits, a budget's worth a turn", () =>
    rig({ trigger }, ({ loop, acceptor, listener, served }) => {
      waiting(listener, 2 * ACCEPT_BUDGET + 5);
      loop.turn(0);
      expect(served).toHaveLength(ACCEPT_BUDGET);
      turnUntilQuiet(loop);
      expect(served).toHaveLength(2 * ACCEPT_BUDGET + 5);
      expect(acceptor.counters.accepted).toBe(2 * ACCEPT_BUDGET + 5);
      expect(loop.turn(0)).toBe(false);
    }));

  test("sheds those who wait when out of descriptors, keeps its reserve, and serves when there is room", () =>
    rig({ trigger, overload: { headroom: 0, reserve: 2 } }, ({ loop, acceptor, listener, served, calls, release }) => {
      for (let episode = 1; episode <= 3; episode++) {
        const clients = waiting(listener, 10);
        send(clients[9]!, bytes("said before the refusal"));
        withFree(4, () => turnUntilQuiet(loop));
        expect(served).toHaveLength(4);
        expect(acceptor.counters).toMatchObject({
          accepted: 4 * episode + (episode - 1),
          shed: 6 * episode,
          lostByReserve: 0,
        });
        expect(acceptor.reserveMissing).toBe(0);
        expect(clients.map(seenBy)).toEqual([...Array(4).fill("open"), ...Array(6).fill("end")]);
        const full = calls.indexOf("accept4 -EMFILE");
        expect(calls.slice(full, full + 6)).toEqual([
          "accept4 -EMFILE",
          "poll",
          "fcntl -EMFILE",
          "close",
          "accept4",
          "dup3",
        ]);
        expect(calls.filter((call) => call === "accept4 -EMFILE").length).toBeLessThanOrEqual(7);
        calls.length = 0;

        while (served.length > 0) release();
        const [next] = waiting(listener, 1);
        turnUntil(loop, () => served.length === 1, "the next client");
        expect(seenBy(next!)).toBe("open");
        release();
        for (const client of [...clients, next!]) closeNow(client);
        turnUntilQuiet(loop);
        calls.length = 0;
      }
    }));

  test("sheds no more than its budget a turn", () =>
    rig({ trigger, overload: { headroom: 0, reserve: 1 } }, ({ loop, acceptor, listener }) => {
      waiting(listener, SHED_PER_TURN + 8);
      withFree(1, () => {
        loop.turn(0);
        expect(acceptor.counters.shed).toBe(SHED_PER_TURN);
        turnUntilQuiet(loop);
      });
      expect(acceptor.counters.shed).toBe(SHED_PER_TURN + 7);
    }));

  // Each edge that came while the rest was posted already added one more accept to every turn from then on.
  test("keeps to the budget of a turn though somebody else comes in each", () =>
    rig({ trigger, maxConnections: 1, overload: { shedPerTurn: 2 } }, ({ loop, acceptor, listener }) => {
      waiting(listener, 40);
      for (let turn = 1; turn <= 10; turn++) {
        waiting(listener, 1);
        loop.turn(0);
        expect(acceptor.counters.refused).toBe(2 * turn);
      }
      turnUntilQuiet(loop);
      expect(acceptor.counters).toMatchObject({ accepted: 1, refused: 49 });
    }));

  test("a queue-empty EMFILE is recognised as a false alarm", () =>
    rig({ trigger, overload: { headroom: 0, reserve: 1 } }, ({ loop, acceptor, listener, served, calls, release }) => {
      const clients = waiting(listener, 3);
      withFree(3, () => {
        turnUntilQuiet(loop);
        expect(served).toHaveLength(3);
        expect(acceptor.counters).toMatchObject({ emfile: 1, falseAlarms: 1, shed: 0, pauses: 0 });
        expect(calls).toEqual(["accept4", "accept4", "accept4", "accept4 -EMFILE", "poll"]);
        for (let i = 0; i < 10; i++) expect(loop.turn(0)).toBe(false);
      });
      release();
      const [next] = waiting(listener, 1);
      turnUntil(loop, () => served.length === 3, "the next client");
      expect([...clients, next!].map(seenBy)).toEqual(["end", "open", "open", "open"]);
    }));

  test("without a reserve it pauses instead of spinning, and a release resumes at once", () =>
    rig(
      { trigger, overload: { headroom: 0, reserve: 0, slack: 0 } },
      ({ loop, acceptor, listener, served, calls, release }) => {
        const clients = waiting(listener, 6);
        withFree(3, () => {
          turnUntil(loop, () => acceptor.isPaused, "a pause");
          const before = performance.now();
          while (performance.now() - before < 100) loop.turn(1);
          // 10, 20, 40 and 80 ms: the pauses of the first 100 ms.
          expect(calls.filter((call) => call === "accept4 -EMFILE").length).toBeLessThanOrEqual(5);
          expect(acceptor.counters.shed).toBe(0);
          turnUntil(loop, () => acceptor.isPaused, "another pause");
          release();
          expect(acceptor.isPaused).toBe(false);
          loop.turn(0);
          expect(acceptor.counters.accepted).toBe(4);
        });
        turnUntil(loop, () => served.length === 5, "the others");
        expect(clients.map(seenBy)).toEqual(["end", ...Array(5).fill("open")]);
      },
    ));

  test("a thief that takes the slot costs the reserve until a release, and strands nobody", () => {
    let thief = -1;
    let isStealing = false;
    return rig({
      trigger,
      overload: { headroom: 0, reserve: 1, slack: 0 },
      sys: {
        close(fd) {
          const result = realSyscalls.close(fd);
          if (isStealing && thief === -1) thief = realSyscalls.open("/dev/zero", 0);
          return result;
        },
      },
    }, ({ loop, acceptor, listener, served, release }) => {
      const clients = waiting(listener, 4);
      withFree(2, () => {
        isStealing = true;
        turnUntil(loop, () => acceptor.isPaused, "a pause");
        isStealing = false;
        expect(thief).toBeGreaterThan(0);
        expect(acceptor.counters).toMatchObject({ accepted: 2, shed: 0, lostByReserve: 1 });
        expect(acceptor.reserveMissing).toBe(1);
        release(); // taken by the reserve, before anything is accepted
        expect(acceptor.reserveMissing).toBe(0);
        turnUntilQuiet(loop);
        expect(acceptor.counters.shed).toBe(2);
        expect(served).toHaveLength(1);
      });
      realSyscalls.close(thief);
      expect(clients.map(seenBy)).toEqual(["end", "open", "end", "end"]);
    });
  });

  test("ENFILE is answered with a file of its own: closed and opened, not duplicated", () => {
    let isFull = false;
    return rig({
      trigger,
      overload: { reserve: 1 },
      sys: {
        accept4(fd, flags) {
          if (!isFull) return realSyscalls.accept4(fd, flags);
          return -ERRNO.ENFILE[0];
        },
        open: (path, flags) => isFull ? -ERRNO.ENFILE[0] : realSyscalls.open(path, flags),
        close(fd) {
          isFull = false; // one file is free now
          return realSyscalls.close(fd);
        },
      },
    }, ({ loop, acceptor, listener, calls, served }) => {
      const [refused, other] = waiting(listener, 2);
      isFull = true;
      turnUntilQuiet(loop);
      expect(calls.slice(0, 7)).toEqual([
        "accept4 -ENFILE",
        "poll",
        "open -ENFILE",
        "close",
        "accept4",
        "close",
        "open",
      ]);
      expect(acceptor.counters).toMatchObject({ enfile: 1, emfile: 0, shed: 1, accepted: 1 });
      expect(served).toHaveLength(1);
      expect([refused, other].map((client) => seenBy(client!))).toEqual(["end", "open"]);
    });
  });

  const ERRNOS: ErrnoName[] = [
    ...["EINTR", "ECONNABORTED", "EPROTO", "ENOPROTOOPT", "ENETDOWN", "EHOSTDOWN", "ENONET", "EHOSTUNREACH"] as const,
    ...["ENETUNREACH", "ETIMEDOUT", "ECONNRESET", "EPERM", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"] as const,
    ...["EBADF", "EINVAL", "ENOTSOCK", "EOPNOTSUPP", "EFAULT", "EIO", "ENOSYS"] as const,
  ];

  test.each(ERRNOS)(
    "accept4 failing with %s for ever does not spin, and once it stops the client is served",
    (name) => {
      let isFailing = true;
      return rig({
        trigger,
        sys: { accept4: (fd, flags) => isFailing ? -ERRNO[name][0] : realSyscalls.accept4(fd, flags) },
      }, ({ loop, acceptor, listener, served, calls, failures }) => {
        const [client] = waiting(listener, 1);
        const before = performance.now();
        let turns = 0;
        for (; performance.now() - before < 50; turns++) loop.turn(1);
        // 10, 20 and 40 ms: the pauses of the first 50 ms, each after at most a budget's worth of calls.
        const accepts = calls.filter((call) => call.startsWith("accept4")).length;
        expect(accepts).toBeGreaterThan(0);
        expect(accepts).toBeLessThanOrEqual(4 * (ACCEPT_BUDGET + SHED_PER_TURN));
        expect(turns, "turns are spent waiting").toBeLessThan(100);
        isFailing = false;
        turnUntil(loop, () => served.length === 1, "the client");
        expect(seenBy(client!)).toBe("open");
        expect(failures).toEqual([]);
        expect(acceptor.reserveMissing).toBe(0);
      });
    },
  );

  test.each(ERRNOS)("accept4 failing once with %s costs nobody the connection", (name) => {
    let failures = 1;
    return rig({
      trigger,
      sys: { accept4: (fd, flags) => failures-- > 0 ? -ERRNO[name][0] : realSyscalls.accept4(fd, flags) },
    }, ({ loop, listener, served }) => {
      waiting(listener, 1);
      turnUntil(loop, () => served.length === 1, "the client");
    });
  });

  test("a listener that is none any more is reported once, and released", () =>
    rig({ trigger }, ({ loop, listener, failures, calls }) => {
      shutdown(listener, SHUT.rd);
      turnUntil(loop, () => failures.length > 0, "the report");
      turnUntilQuiet(loop);
      expect(failures.map(({ message }) => message)).toEqual([
        "Cannot accept connections: accept4(2) returned EINVAL (invalid argument)",
      ]);
      expect(calls.filter((call) => call.startsWith("accept4"))).toHaveLength(1);
    }));

  test("a listener that was closed behind our back is not closed again: the number is somebody else's", () =>
    rig({ trigger }, ({ loop, acceptor, listener, failures }) => {
      const file = realSyscalls.open("/dev/null", O.rdonly | O.cloexec);
      realSyscalls.dup3(file, listener, O.cloexec); // closes the listener and takes its number, in one step
      realSyscalls.close(file);
      loop.post(() => acceptor.onReady());
      turnUntil(loop, () => failures.length > 0, "the report");
      expect(failures[0]!.message).toMatch(/accept4\(2\) returned ENOTSOCK/);
      expect(realSyscalls.close(listener)).toBe(0); // it is there still
    }));

  test("refuses at the mark, so that the headroom stays free, and sees a raised limit", async () => {
    const loop = new EventLoop();
    const listener = disown(tcpListener());
    const clients = waiting(listener, 12);
    for (const client of clients) send(client, bytes("said before the refusal"));
    const served: number[] = [];
    await runtimeSettled(loop);
    let acceptor: Acceptor | undefined;
    withFree(9 + loop.descriptorsToCome, () => {
      // 9, less a reserve and its keeper, less the headroom.
      acceptor = new Acceptor(loop, { fd: listener, backlog: 16, canResetQueue: false }, {
        trigger,
        overload: { headroom: 3, reserve: 1 },
      }, { accept: (fd) => void served.push(fd) });
      loop.turn(0);
      expect(served).toHaveLength(4 + loop.descriptorsToCome);
      expect(acceptor.counters).toMatchObject({ refused: 12 - served.length, emfile: 0 });
      expect(clients.map(seenBy).filter((seen) => seen === "end")).toHaveLength(12 - served.length);
    });
    clients.push(...waiting(listener, 2));
    const before = served.length;
    withFree(5, () => turnUntil(loop, () => served.length === before + 2, "two more"));
    expect(clients.slice(12).map(seenBy)).toEqual(["open", "open"]);
    for (const fd of served) {
      close(fd);
      acceptor!.released(fd);
    }
    acceptor!.close();
    await loop.close();
  });

  test("onAccept that throws costs that client only", () => {
    let isThrowing = true;
    return rig({
      trigger,
      onAccept() {
        if (!isThrowing) return;
        isThrowing = false;
        throw new Error("no memory for it");
      },
    }, ({ loop, acceptor, listener, served, errors }) => {
      const clients = waiting(listener, 2);
      turnUntilQuiet(loop);
      expect(served).toHaveLength(1);
      expect(clients.map(seenBy)).toEqual(["end", "open"]);
      expect(errors).toEqual([new Error("no memory for it")]);
      expect(acceptor.counters).toMatchObject({ accepted: 2, setupFailed: 1 });
      expect(acceptor.connections).toBe(1);
    });
  });

  test("close() from inside onAccept ends accepting at once", async () => {
    const loop = new EventLoop();
    const listener = disown(tcpListener());
    const clients = waiting(listener, 3);
    let accepted = 0;
    const stop = (fd: number) => {
      accepted++;
      close(fd);
      acceptor.close();
      acceptor.close();
      acceptor.released(fd);
    };
    const acceptor = new Acceptor(loop, { fd: listener, backlog: 16, canResetQueue: false }, { trigger }, {
      accept: stop,
    });
    turnUntilQuiet(loop);
    expect(accepted).toBe(1);
    for (const client of clients) ready(client);
    expect(clients.map(seenBy)).toEqual(["end", "-ECONNRESET", "-ECONNRESET"]);
    await loop.close();
  });
});

describe("Acceptor", () => {
  test("pauses and resumes an exclusive listener by removing and adding it", () => {
    const operations: number[] = [];
    return rig({
      exclusive: true,
      overload: { headroom: 0, reserve: 0, slack: 0 },
      sys: {
        epollCtl(epollFd, operation, fd, event) {
          operations.push(operation);
          return realSyscalls.epollCtl(epollFd, operation, fd, event);
        },
      },
    }, ({ loop, acceptor, listener, served, errors, release }) => {
      waiting(listener, 3);
      operations.length = 0;
      withFree(1, () => {
        turnUntil(loop, () => acceptor.isPaused, "a pause");
        release();
        turnUntil(loop, () => acceptor.counters.accepted === 2, "the next client");
      });
      turnUntil(loop, () => served.length === 2, "the last client");
      expect(errors).toEqual([]);
      expect(operations).not.toContain(EPOLL_CTL.mod);
    });
  });

  test.each(["level", "edge"] as const)(
    "stands back, without spinning, while another loop refuses clients; %s-triggered",
    (trigger) => {
      const coordinator = new Coordinator();
      const other = new Coordinator(coordinator.handle);
      return rig({ trigger, coordinator, overload: { headroom: 0, reserve: 1, slack: 0 } }, (rig) => {
        const clients = waiting(rig.listener, 3);
        withFree(1, () => {
          expect(other.tryLock()).toBe(true);
          // The lock is held for less than a second, however long this takes.
          const clock = vi.spyOn(Date, "now").mockReturnValue(Date.now());
          try {
            const before = performance.now();
            let turns = 0;
            for (; performance.now() - before < 50; turns++) rig.loop.turn(5);
            expect(turns, "turns are spent waiting").toBeLessThan(250);
            expect(rig.acceptor.counters.shed).toBe(0);
          } finally {
            clock.mockRestore();
            other.unlock();
          }
          turnUntil(rig.loop, () => rig.acceptor.counters.shed === 2, "the refusals");
        });
        expect(clients.map(seenBy)).toEqual(["open", "end", "end"]);
      });
    },
  );

  test("a client that connects again at once does not cost a turn for each refusal, and each is refused", () => {
    const kernel = new FakeKernel();
    const loop = new EventLoop({}, kernel, new FakeHost(kernel));
    const listener = { fd: kernel.createListener(), backlog: 511, canResetQueue: false };
    const acceptor = new Acceptor(loop, listener, { maxConnections: 1 }, NOBODY);
    kernel.connectClient(listener.fd);
    let client = kernel.connectClient(listener.fd);
    let clients = 1;
    for (let turns = 0; kernel.now < 4_000; turns++) {
      loop.turn(1);
      if (client.state !== "end") continue;
      client = kernel.connectClient(listener.fd);
      clients++;
    }
    expect(acceptor.counters.refused).toBeGreaterThanOrEqual(clients - 1);
    // A burst of a second's worth, then as many in each second, and one after each pause.
    const perSecond = REFUSING_TURNS_PER_SECOND + 1000 / PAUSE_RATE_MS;
    expect(clients).toBeGreaterThan(REFUSING_TURNS_PER_SECOND);
    expect(clients).toBeLessThanOrEqual(REFUSING_TURNS_PER_SECOND + 4 * perSecond + 1);
  });

  test("refuses to start where the limit leaves room for no client, naming the numbers and the cure", async () => {
    const loop = new EventLoop();
    const listener = tcpListener();
    withFree(12, () => {
      const start = () =>
        new Acceptor(loop, { fd: listener, backlog: 16, canResetQueue: false }, { overload: { headroom: 12 } }, NOBODY);
      expect(start).toThrow(RangeError);
      expect(start).toThrow(
        /^Cannot accept connections: of \d+ descriptors \d+ are taken or about to be, and 12 kept free .*; raise the limit \(ulimit -n\)/,
      );
    });
    await loop.close();
  });

  test("takes a quarter of the free descriptors as headroom, 2 to 32", async () => {
    const loop = new EventLoop();
    await runtimeSettled(loop);
    for (const [free, headroom] of [[14, 2], [61, 13], [301, 32]] as const) {
      const listener = disown(tcpListener());
      withFree(free + loop.descriptorsToCome, () => {
        // A reserve of 4 and its keeper.
        const acceptor = new Acceptor(loop, { fd: listener, backlog: 16, canResetQueue: false }, {
          overload: { reserve: 4 },
        }, NOBODY);
        expect(acceptor.headroom).toBe(Math.max(2, Math.min(32, Math.ceil((free - 5) / 4))));
        expect(acceptor.headroom).toBeGreaterThanOrEqual(headroom);
        acceptor.close();
      });
    }
    await loop.close();
  });
});
