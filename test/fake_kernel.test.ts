import fc from "fast-check";
import process from "node:process";
import { describe, expect, test } from "vitest";
import { AF, EPOLL, O, POLL, RLIMIT, SHUT, SO, SOCK, SOL, TCP } from "../ffi/constants.ts";
import { ERRNO } from "../ffi/errno.ts";
import { decodeSockaddr, encodeInt, encodeSockaddr, type InetFields, type Rlimit } from "../ffi/layout.ts";
import { Acceptor, type AcceptorOptions } from "../src/acceptor.ts";
import { Connection } from "../src/connection.ts";
import { resolveConnection } from "../src/connection_options.ts";
import { EventLoop } from "../src/loop.ts";
import { BothKernels } from "./support/both_kernels.ts";
import { expectNoLeak, outcome } from "./support/descriptors.ts";
import { FakeHost } from "./support/fake_host.ts";
import { FakeKernel, type FakeKernelOptions } from "./support/fake_kernel.ts";
import { OPERATIONS } from "./support/kernel_operations.ts";
import { check } from "./support/properties.ts";
import { bytes } from "./support/sockets.ts";

expectNoLeak();

interface Rig {
  readonly kernel: FakeKernel;
  readonly host: FakeHost;
  readonly loop: EventLoop;
  readonly acceptor: Acceptor;
  readonly listener: number;
  readonly served: number[];
  release(): void;
}

/** An acceptor over a fake kernel, whose loop is turned by hand. */
function rig(options: AcceptorOptions, kernelOptions: FakeKernelOptions = {}): Rig {
  const kernel = new FakeKernel(kernelOptions);
  const host = new FakeHost(kernel);
  const loop = new EventLoop({}, kernel, host);
  const listener = kernel.createListener();
  const info = { fd: listener, backlog: 511, canResetQueue: false };
  const served: number[] = [];
  const acceptor = new Acceptor(loop, info, options, {
    accept: (fd) => void served.push(fd),
  });
  const release = () => {
    const fd = served.shift()!;
    kernel.close(fd);
    acceptor.released(fd);
  };
  return { kernel, host, loop, acceptor, listener, served, release };
}

function turnUntilQuiet(loop: EventLoop): void {
  while (loop.turn(0));
}

describe.each(["level", "edge"] as const)("FakeKernel under an acceptor, %s-triggered,", (trigger) => {
  test("runs out of descriptors, and the clients see the shed", () => {
    const { kernel, loop, acceptor, listener, served } = rig({ trigger, overload: { headroom: 0, reserve: 2 } }, {
      soft: 14,
    });
    const clients = Array.from({ length: 10 }, () => kernel.connectClient(listener));
    clients[9]!.send("said before the refusal");
    turnUntilQuiet(loop);
    expect(served, kernel.trace).toHaveLength(5);
    expect(acceptor.counters).toMatchObject({ accepted: 5, shed: 5, shedByReserve: 5, lostByReserve: 0 });
    expect(clients.map(({ state }) => state)).toEqual([...Array(5).fill("accepted"), ...Array(5).fill("end")]);
    expect(kernel.count("accept4", "EMFILE")).toBe(6);
    expect(kernel.descriptors).toHaveLength(14);
  });

  test("lets the pauses of the acceptor pass in its own time", () => {
    const { kernel, loop, acceptor, listener, served, release } = rig({
      trigger,
      overload: { headroom: 0, reserve: 0 },
    }, { soft: 8 });
    const clients = Array.from({ length: 4 }, () => kernel.connectClient(listener));
    turnUntilQuiet(loop);
    expect(acceptor.isPaused).toBe(true);
    expect(kernel.interestIn(listener) & POLL.in).toBe(0);
    for (let i = 0; i < 100 && kernel.now < 10_000; i++) loop.turn(Infinity);
    expect(kernel.count("accept4", "EMFILE")).toBeLessThan(20);
    release();
    turnUntilQuiet(loop);
    expect(served).toHaveLength(2);
    expect(clients.map(({ state }) => state)).toEqual(["end", "accepted", "accepted", "queued"]);
  });

  test("lets a thief take the slot between two calls", () => {
    const { kernel, loop, acceptor, listener } = rig({ trigger, overload: { headroom: 0, reserve: 1 } }, { soft: 9 });
    let thief = -1;
    kernel.onBetween(({ name }) => {
      if (name === "close" && thief === -1) thief = kernel.open("/dev/zero", O.rdonly);
    });
    for (let i = 0; i < 4; i++) kernel.connectClient(listener);
    turnUntilQuiet(loop);
    expect(kernel.describe(thief)?.name).toBe("/dev/zero");
    expect(acceptor.counters.lostByReserve).toBe(1);
    expect(acceptor.reserveMissing).toBe(1);
    expect(kernel.trace).toContain(`    open("/dev/zero", 0) = ${thief}`);
  });
});

describe("FakeKernel", () => {
  test("carries a connection", () => {
    const kernel = new FakeKernel();
    const loop = new EventLoop({}, kernel, new FakeHost(kernel));
    const listener = kernel.createListener();
    const client = kernel.connectClient(listener);
    const settings = resolveConnection({}, {
      data: (connection, chunk) => void connection.write(chunk),
      end: (connection) => connection.close(),
    }, (error) => loop.report(error));
    const connection = new Connection(loop, kernel.accept4(listener, O.nonblock), settings);
    connection.start();
    client.send("hello");
    turnUntilQuiet(loop);
    expect(client.text).toBe("hello");
    client.end();
    turnUntilQuiet(loop);
    expect(client.state).toBe("end");
  });

  test("runs a loop beside a fake runtime", async () => {
    const kernel = new FakeKernel();
    const host = new FakeHost(kernel);
    const loop = new EventLoop({}, kernel, host);
    const ran: number[] = [];
    loop.setTimer(250, () => {
      ran.push(kernel.now);
      loop.stop();
    });
    const running = loop.run();
    await Promise.resolve();
    await Promise.resolve();
    while (host.step());
    await running;
    expect(ran).toEqual([250]);
    await loop.close();
    expect(kernel.descriptors).toEqual([0, 1, 2]);
  });

  test("fails where it is told to, and a failing close closes", () => {
    const kernel = new FakeKernel();
    kernel.fail("open", "ENFILE", 2, (path) => path === "/");
    expect([0, 1, 2].map(() => outcome(kernel.open("/", 0)))).toEqual(["-ENFILE", "-ENFILE", 3]);
    expect(kernel.open("/dev/null", 0)).toBe(4);
    kernel.fail("close", "EINTR");
    expect(outcome(kernel.close(4))).toBe("-EINTR");
    expect(outcome(kernel.close(4))).toBe("-EBADF");
    expect([kernel.count("open"), kernel.count("open", "ENFILE")]).toEqual([4, 2]);
  });

  test("counts open files, not descriptors, against the system's limit", () => {
    const kernel = new FakeKernel({ fileMax: 5 });
    const fd = kernel.open("/dev/null", 0);
    expect(kernel.fcntl(fd, 0, 0)).toBe(4);
    expect(kernel.fcntl(fd, 0, 0)).toBe(5);
    expect(kernel.fileCount).toBe(4);
    expect(kernel.eventfd(0, 0)).toBe(6);
    expect(kernel.open("/dev/null", 0)).toBe(-ERRNO.ENFILE[0]);
    kernel.close(4);
    expect(kernel.open("/dev/null", 0)).toBe(-ERRNO.ENFILE[0]);
    kernel.close(6);
    expect(kernel.open("/dev/null", 0)).toBe(4);
  });

  test("throws at what it does not model", () => {
    const kernel = new FakeKernel();
    expect(() => kernel.pipe2(new Int32Array(2), 0)).toThrow("Cannot fake pipe2");
    const listener = kernel.createListener();
    kernel.fcntl(listener, 4, 0);
    expect(() => kernel.accept4(listener, 0)).toThrow("it would block");
    expect(() => kernel.recv(-1, bytes(1))).toThrow(RangeError);
  });

  test("a client that finds the queue full tries again, and gives up after two minutes", () => {
    const kernel = new FakeKernel();
    const listener = kernel.createListener({ backlog: 0 });
    const clients = [1, 2, 3].map(() => kernel.connectClient(listener));
    expect(clients.map(({ state }) => state)).toEqual(["queued", "connecting", "connecting"]);
    kernel.accept4(listener, 0);
    kernel.advance(999);
    expect(clients.map(({ state }) => state)).toEqual(["accepted", "connecting", "connecting"]);
    kernel.advance(1);
    expect(clients.map(({ state }) => state)).toEqual(["accepted", "queued", "connecting"]);
    kernel.advance(126_000);
    expect(clients.map(({ state }) => state)).toEqual(["accepted", "queued", "timed out"]);
  });
});

/** In 127/8, and different in each process, as these tests may run under several runtimes at a time. */
const OWN_ADDRESS = new Uint8Array([127, 128 | process.pid >> 16, process.pid >> 8, process.pid]);

/** Chosen by us: one that the kernel chose is lost when a queue is reset. */
const PORT = 4711;

/**
 * Runs `test` on both kernels, from the same start: a listener on this port, 0 for any, and an epoll instance. What the
 * kernels do differently, they do again each time; what a thread of the runtime changes by opening or closing a file
 * meanwhile, does not come again.
 */
function onBoth(port: number, test: (kernels: BothKernels, listener: number) => void): void {
  for (let tries = 1;; tries++) {
    const kernels = new BothKernels(12);
    let isFailed = true;
    try {
      const sockaddr = encodeSockaddr({ family: "inet", address: OWN_ADDRESS, port });
      const listener = kernels.opening("socket", (sys) => sys.socket(AF.inet, SOCK.stream | SOCK.nonblock, 0));
      kernels.both("reuse", (sys) => sys.setsockopt(listener, SOL.socket, SO.reuseaddr, encodeInt(1)));
      kernels.both("nodelay", (sys) => sys.setsockopt(listener, SOL.tcp, TCP.nodelay, encodeInt(1)));
      kernels.both("bind", (sys) => sys.bind(listener, sockaddr));
      kernels.both("listen", (sys) => sys.listen(listener, 4));
      kernels.opening("epoll_create1", (sys) => sys.epollCreate1(EPOLL.cloexec));
      test(kernels, listener);
      isFailed = false;
    } catch (error) {
      if (tries === 4) throw error;
      console.warn(`Try ${tries} of 4: ${error}`);
    } finally {
      kernels.release(isFailed);
    }
    if (!isFailed) return;
  }
}

/** Few enough that a sequence comes to the same registration again and again. */
const EVENT_OPERATIONS = [
  "connect",
  "accept4",
  "client sends",
  "client ends",
  "client resets",
  "recv",
  "send",
  "shutdown",
  "queue reset",
  "close",
  "dup3",
  "dupfd",
  "eventfd",
  "write of an eventfd",
  "read of an eventfd",
  "epoll add",
  "epoll mod",
  "epoll del",
  "epoll_wait",
];

describe("FakeKernel and the real one", () => {
  test.each([
    ["of all calls", Object.keys(OPERATIONS)],
    ["about events", EVENT_OPERATIONS],
  ])("agree on random sequences %s", (_, names) => {
    const weighted = names.map((name) => ({ weight: OPERATIONS[name]![0], arbitrary: fc.constant(name) }));
    const step = fc.tuple(fc.oneof(...weighted), fc.nat(0xffff), fc.nat(0xffff));
    check(
      fc.property(fc.array(step, { minLength: 1, maxLength: 60, size: "max" }), (steps) =>
        onBoth(PORT, (kernels) => {
          for (const [name, number, other] of steps) {
            OPERATIONS[name]![1](kernels, number, other);
            kernels.settle();
          }
        })),
    );
  }, 120_000);

  test("agree that a full table is found before an empty queue, and that a raised limit accepts", () =>
    onBoth(PORT, (kernels, listener) => {
      const accept = () => kernels.opening("accept4", (sys) => sys.accept4(listener, SOCK.nonblock));
      while (kernels.opening("open", (sys) => sys.open("/dev/null", O.rdonly)) >= 0);
      expect(outcome(accept())).toBe("-EMFILE");
      kernels.connect(listener);
      expect(outcome(accept())).toBe("-EMFILE");
      const limit = kernels.fake.getrlimit(RLIMIT.nofile) as Rlimit;
      kernels.both("raise", (sys) => sys.setrlimit(RLIMIT.nofile, { ...limit, soft: limit.soft + 1 }));
      const fd = accept();
      expect(fd).toBe(limit.soft);
      kernels.both("lower", (sys) => sys.setrlimit(RLIMIT.nofile, limit));
      // Beyond the limit a client can be closed, but not replaced: dup2(2), EBADF
      expect(outcome(kernels.both("dup3", (sys) => sys.dup3(listener, fd, O.cloexec)))).toBe("-EBADF");
      kernels.close(fd);
      kernels.settle();
    }));

  test("agree that a queue is reset without a descriptor, and that the listener goes on", () =>
    onBoth(PORT, (kernels, listener) => {
      for (let i = 0; i < 5; i++) kernels.connect(listener);
      kernels.both("shutdown", (sys) => sys.shutdown(listener, SHUT.rd));
      kernels.both("listen", (sys) => sys.listen(listener, 4));
      kernels.settle();
      expect(kernels.clients.map(({ real }) => real.state)).toEqual(Array(5).fill("reset"));
      kernels.connect(listener);
      kernels.settle();
      expect(kernels.fake.queueLength(listener)).toBe(1);
    }));

  test("agree that a listener which is shut down twice before it listens again hands down an end of stream", () =>
    onBoth(PORT, (kernels, listener) => {
      for (const expected of [0, "-ENOTCONN"]) {
        expect(outcome(kernels.both("shutdown", (sys) => sys.shutdown(listener, SHUT.rd)))).toBe(expected);
      }
      kernels.both("listen", (sys) => sys.listen(listener, 4));
      kernels.connect(listener);
      const fd = kernels.opening("accept4", (sys) => sys.accept4(listener, SOCK.nonblock));
      expect(kernels.both("recv", (sys) => sys.recv(fd, bytes(8)))).toBe(0);
      kernels.both("shutdown", (sys) => sys.shutdown(listener, SHUT.rd));
      kernels.both("listen", (sys) => sys.listen(listener, 4));
      kernels.connect(listener);
      const next = kernels.opening("accept4", (sys) => sys.accept4(listener, SOCK.nonblock));
      expect(outcome(kernels.both("recv", (sys) => sys.recv(next, bytes(8))))).toBe("-EAGAIN");
    }));

  test.each([["keeps a port that was chosen", PORT, true], ["loses one that was not", 0, false]] as const)(
    "agree that a queue reset %s",
    (_, port, isKept) =>
      onBoth(port, (kernels, listener) => {
        const found = kernels.both("reset", (sys) => {
          const portOf = () => {
            const sockaddr = bytes(16);
            return (decodeSockaddr(sockaddr, sys.getsockname(listener, sockaddr)) as InetFields).port;
          };
          const before = portOf();
          sys.shutdown(listener, SHUT.rd);
          sys.listen(listener, 4);
          return portOf() === before;
        });
        expect(found).toBe(isKept);
      }),
  );
});
