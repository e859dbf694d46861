import fc from "fast-check";
import process from "node:process";
import { describe, expect, test } from "vitest";
import { AF, EPOLL, O, POLL, SO, SOCK, SOL, TCP } from "../ffi/constants.ts";
import { ERRNO } from "../ffi/errno.ts";
import { encodeInt, encodeSockaddr } from "../ffi/layout.ts";
import { Acceptor, type AcceptorOptions } from "../src/acceptor.ts";
import { Connection, resolveConnection } from "../src/connection.ts";
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
  const served: number[] = [];
  const acceptor = new Acceptor(loop, listener, options, (fd) => served.push(fd), () => {});
  const release = () => {
    kernel.close(served.shift()!);
    acceptor.released();
  };
  return { kernel, host, loop, acceptor, listener, served, release };
}

function turnUntilQuiet(loop: EventLoop): void {
  while (loop.turn(0));
}

describe.each(["level", "edge"] as const)("FakeKernel under an acceptor, %s-triggered,", (trigger) => {
  test("runs out of descriptors, and the clients see the shed", () => {
    const { kernel, loop, acceptor, listener, served } = rig({ trigger, headroom: 0, reserve: 2 }, { soft: 14 });
    const clients = Array.from({ length: 10 }, () => kernel.connectClient(listener));
    clients[9]!.send("said before the refusal");
    turnUntilQuiet(loop);
    expect(served, kernel.trace).toHaveLength(5);
    expect(acceptor.counters).toMatchObject({ accepted: 5, shed: 5, shedLost: 0 });
    expect(clients.map(({ state }) => state)).toEqual([...Array(5).fill("accepted"), ...Array(5).fill("end")]);
    expect(kernel.count("accept4", "EMFILE")).toBe(6);
    expect(kernel.descriptors).toHaveLength(14);
  });

  test("lets the pauses of the acceptor pass in its own time", () => {
    const { kernel, loop, acceptor, listener, served, release } = rig({ trigger, headroom: 0, reserve: 0 }, {
      soft: 8,
    });
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
    const { kernel, loop, acceptor, listener } = rig({ trigger, headroom: 0, reserve: 1 }, { soft: 9 });
    let thief = -1;
    kernel.onBetween(({ name }) => {
      if (name === "close" && thief === -1) thief = kernel.open("/dev/zero", O.rdonly);
    });
    for (let i = 0; i < 4; i++) kernel.connectClient(listener);
    turnUntilQuiet(loop);
    expect(kernel.describe(thief)?.name).toBe("/dev/zero");
    expect(acceptor.counters.shedLost).toBe(1);
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

type Step = readonly [name: string, number: number, other: number];

/** In 127/8, and different in each process, as these tests may run under several runtimes at a time. */
const OWN_ADDRESS = new Uint8Array([127, 128 | process.pid >> 16, process.pid >> 8, process.pid]);

/** Runs one sequence on both kernels, from the same start: a listener and an epoll instance that watches it. */
function compare(steps: readonly Step[]): void {
  const kernels = new BothKernels(12);
  let isFailed = true;
  try {
    // The port is chosen by us: one that the kernel chose is lost when a queue is reset.
    const sockaddr = encodeSockaddr({ family: "inet", address: OWN_ADDRESS, port: 4711 });
    const listener = kernels.opening("socket", (sys) => sys.socket(AF.inet, SOCK.stream | SOCK.nonblock, 0));
    kernels.both("reuse", (sys) => sys.setsockopt(listener, SOL.socket, SO.reuseaddr, encodeInt(1)));
    kernels.both("nodelay", (sys) => sys.setsockopt(listener, SOL.tcp, TCP.nodelay, encodeInt(1)));
    kernels.both("bind", (sys) => sys.bind(listener, sockaddr));
    kernels.both("listen", (sys) => sys.listen(listener, 4));
    kernels.opening("epoll_create1", (sys) => sys.epollCreate1(EPOLL.cloexec));
    for (const [name, number, other] of steps) {
      OPERATIONS[name]![1](kernels, number, other);
      kernels.settle();
    }
    isFailed = false;
  } catch (error) {
    if (kernels.isDisturbed) throw new Disturbed("A descriptor of the runtime came or went", { cause: error });
    throw error;
  } finally {
    kernels.release(isFailed);
  }
}

/** The runtime opened or closed a descriptor in between. */
class Disturbed extends Error {}

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
    check(fc.property(fc.array(step, { minLength: 1, maxLength: 60, size: "max" }), (steps) => {
      for (let tries = 0;; tries++) {
        try {
          return compare(steps);
        } catch (error) {
          if (!(error instanceof Disturbed) || tries === 3) throw error;
        }
      }
    }));
  }, 120_000);
});
