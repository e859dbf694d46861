import { existsSync } from "node:fs";
import { networkInterfaces } from "node:os";
import process from "node:process";
import { describe, expect, test } from "vitest";
import { AF, F, O, SO, SOCK, SOL, TCP } from "../ffi/constants.ts";
import { type ErrnoName, SystemError } from "../ffi/errno.ts";
import { ResolveError } from "../ffi/host.ts";
import { decodeInt, encodeInt, encodeSockaddr, type SockaddrFields } from "../ffi/layout.ts";
import { realSyscalls as real, type Syscalls } from "../ffi/syscalls.ts";
import type { Connection } from "../src/connection.ts";
import { connect, ConnectError, type ConnectOptions, interleave } from "../src/connector.ts";
import { EventLoop } from "../src/loop.ts";
import { closeNow, expectNoLeak, openDescriptors, own, withFree } from "./support/descriptors.ts";
import { FakeNetwork, TestSignal } from "./support/fake_network.ts";
import { newPath } from "./support/folders.ts";
import { ManualHost } from "./support/hosts.ts";
import { failure, kernelWith } from "./support/kernel.ts";
import { runtimeSettled } from "./support/loops.ts";
import { addressOf, bytes, connectTo, ready, tcpListener, tcpSocket } from "./support/sockets.ts";

expectNoLeak();

const DEADLINE_MS = 20_000;
const hasIpv6 = Object.values(networkInterfaces()).flat().some((found) => found?.address === "::1");

/** How a promise ended. */
interface Settled<T> {
  readonly value?: T;
  readonly error?: unknown;
}

/** Lets promises go on. */
const breathe = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Takes turns of `loop`, and lets promises go on, until `isDone`. */
async function turning(loop: EventLoop, isDone: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  while (!isDone()) {
    if (performance.now() > deadline) throw new Error(`Waited too long for ${what}`);
    if (!loop.isClosed) loop.turn(1);
    await breathe();
  }
}

/** What becomes of `promise` while `loop` turns. */
async function settled<T>(loop: EventLoop, promise: Promise<T>): Promise<Settled<T>> {
  let end: Settled<T> | undefined;
  promise.then((value) => end = { value }, (error) => end = { error });
  await turning(loop, () => end !== undefined, "connect()");
  return end!;
}

/** What a {@linkcode scene} has. */
interface Scene {
  readonly loop: EventLoop;
  readonly host: ManualHost;
  /** Puts the loop's clock on. */
  readonly pass: (ms: number) => void;
  /** connect() on the loop, which turns meanwhile; to 127.0.0.1 unless the options say otherwise. */
  readonly connect: (options: ConnectOptions) => Promise<Settled<Connection>>;
}

/** Runs `test` with a loop, whose clock goes with the real one, and expects that it leaves nothing behind. */
async function scene(sys: Partial<Syscalls>, test: (scene: Scene) => Promise<void>): Promise<void> {
  const host = new ManualHost();
  let aheadMs = 0;
  Object.defineProperty(host, "clockMs", { get: () => performance.now() + aheadMs });
  const errors: unknown[] = [];
  const loop = new EventLoop({ onError: (error) => errors.push(error) }, kernelWith(sys), host);
  const connections: Connection[] = [];
  try {
    await test({
      loop,
      host,
      pass: (ms) => void (aheadMs += ms),
      async connect(options) {
        const end = await settled(loop, connect({ loop, ...options }));
        if (end.value !== undefined) connections.push(end.value);
        return end;
      },
    });
    for (const connection of connections) connection.close();
    if (!loop.isClosed) loop.turn(0);
    expect(loop.poller.size, "sources besides the waker").toBe(loop.isClosed ? 0 : 1);
    expect(errors).toEqual([]);
  } finally {
    for (const connection of connections) connection.close();
    await loop.close();
  }
}

const portOf = (listener: number) => (addressOf(listener) as Extract<SockaddrFields, { port: number }>).port;

/** A port that nobody listens on. */
function freePort(): number {
  const fd = tcpSocket();
  real.bind(fd, encodeSockaddr({ family: "inet", address: Uint8Array.of(127, 0, 0, 1), port: 0 }));
  const port = portOf(fd);
  closeNow(fd);
  return port;
}

/** A listener at another address of loopback, or another family. */
function listenerAt(fields: SockaddrFields, backlog = 16): number {
  const family = { inet: AF.inet, inet6: AF.inet6, unix: AF.unix }[fields.family];
  const fd = own(real.socket(family, SOCK.stream | SOCK.nonblock | SOCK.cloexec, 0));
  expect([real.bind(fd, encodeSockaddr(fields)), real.listen(fd, backlog)]).toEqual([0, 0]);
  return fd;
}

/** A listener that answers nobody any more: its queue is full, so the kernel drops what comes. */
function silentListener(address: readonly number[] = [127, 0, 0, 1], port = 0): number {
  const listener = listenerAt({ family: "inet", address: Uint8Array.from(address), port }, 0);
  connectTo(listener);
  return listener;
}

/** A Unix listener whose queue is full. */
function fullUnixListener(path: string): number {
  const fields = { family: "unix", path: bytes(path) } as const;
  const listener = listenerAt(fields, 0);
  const client = own(real.socket(AF.unix, SOCK.stream | SOCK.nonblock | SOCK.cloexec, 0));
  expect(real.connect(client, encodeSockaddr(fields))).toBe(0);
  return listener;
}

let names = 0;
const abstractPath = () => `\0spillway-connector-${process.pid}-${names++}`;

describe("connect()", () => {
  test.each(["level", "edge"] as const)(
    "over TCP, %s-triggered: open once, then the bytes of both",
    (trigger) =>
      scene({}, async ({ loop, connect }) => {
        const listener = tcpListener();
        const log: string[] = [];
        const { value: connection } = await connect({
          port: portOf(listener),
          trigger,
          open: () => void log.push("open"),
          data: (_, chunk) => void log.push(new TextDecoder().decode(chunk)),
          close: (_, error) => void log.push(`close ${error}`),
        });
        expect(log).toEqual(["open"]);
        expect(connection!.remoteAddress).toEqual({ transport: "tcp", hostname: "127.0.0.1", port: portOf(listener) });
        const peer = own(real.accept4(listener, SOCK.nonblock));
        connection!.write("hello");
        await turning(loop, () => connection!.queuedBytes === 0, "the bytes to leave");
        await breathe();
        ready(peer);
        expect(real.recv(peer, bytes(10))).toBe(5);
        real.send(peer, bytes("world"));
        closeNow(peer);
        await turning(loop, () => log.length === 3, "the end");
        expect(log).toEqual(["open", "world", "close undefined"]);
      }),
  );

  test("loses nothing that was sent before the connection was looked at", () =>
    scene({}, async ({ loop, connect }) => {
      const listener = tcpListener();
      const log: string[] = [];
      const promise = connect({
        port: portOf(listener),
        open: () => void log.push("open"),
        data: (_, chunk) => void log.push(new TextDecoder().decode(chunk)),
        end: () => void log.push("end"),
      });
      ready(listener);
      const peer = own(real.accept4(listener, SOCK.nonblock));
      real.send(peer, bytes("first words"));
      closeNow(peer);
      await promise;
      await turning(loop, () => log.includes("end"), "the end");
      expect(log).toEqual(["open", "first words", "end"]);
    }));

  test.runIf(hasIpv6)("over IPv6", () =>
    scene({}, async ({ connect }) => {
      const address = new Uint8Array(16);
      address[15] = 1;
      const listener = listenerAt({ family: "inet6", address, port: 0, scopeId: 0 });
      const { value } = await connect({ hostname: "::1", port: portOf(listener) });
      expect(value!.remoteAddress).toEqual({ transport: "tcp", hostname: "::1", port: portOf(listener) });
    }));

  test("over a Unix socket: a path, and an abstract name", () =>
    scene({}, async ({ connect }) => {
      const file = newPath();
      for (const path of [file, abstractPath()]) {
        listenerAt({ family: "unix", path: bytes(path) });
        const { value } = await connect({ path });
        expect(value!.remoteAddress).toEqual({ transport: "unix", path });
        expect(existsSync(file)).toBe(true);
      }
    }));

  test("makes its socket non-blocking, not inherited, and without Nagle's delay", () => {
    const sockets: number[] = [];
    const socket: Syscalls["socket"] = (...args) => {
      const fd = real.socket(...args);
      sockets.push(fd);
      return fd;
    };
    return scene({ socket }, async ({ connect }) => {
      await connect({ port: portOf(tcpListener()) });
      const [fd] = sockets;
      const nodelay = encodeInt(0);
      real.getsockopt(fd!, SOL.tcp, TCP.nodelay, nodelay);
      expect(decodeInt(nodelay)).toBe(1);
      expect(real.fcntl(fd!, F.getfl) & O.nonblock).toBe(O.nonblock);
      expect(real.fcntl(fd!, F.getfd)).toBe(F.fdCloexec);
    });
  });

  test("calls open in a turn, never inside the stack of its caller, also where the kernel connects at once", () =>
    scene({}, async ({ loop }) => {
      const path = abstractPath();
      listenerAt({ family: "unix", path: bytes(path) });
      let isCalling = false;
      let wasNested: boolean | undefined;
      let promise: Promise<Connection> | undefined;
      loop.post(() => {
        isCalling = true;
        promise = connect({ loop, path, open: () => void (wasNested = isCalling) });
        isCalling = false;
      });
      loop.turn(0);
      const { value } = await settled(loop, promise!);
      expect(wasNested).toBe(false);
      value!.close();
    }));

  test("is fulfilled though open throws: then close tells why", () =>
    scene({}, async ({ loop, connect }) => {
      const failure = new Error("from open");
      let told: unknown;
      const { value } = await connect({
        port: portOf(tcpListener()),
        open() {
          throw failure;
        },
        close: (_, error) => void (told = error),
      });
      expect(value!.state).toBe("closed");
      await turning(loop, () => told !== undefined, "close");
      expect(told).toBe(failure);
    }));

  test("1,000 at once", () =>
    scene({}, async ({ loop }) => {
      const listener = tcpListener(1_100);
      let closers = 0;
      const beforeClose = loop.beforeClose;
      loop.beforeClose = (task) => {
        const takeBack = beforeClose.call(loop, task);
        closers++;
        return () => {
          closers--;
          takeBack();
        };
      };
      const signal = new TestSignal();
      const promises = Array.from({ length: 1_000 }, () => connect({ loop, port: portOf(listener), signal }));
      expect(signal.listeners.size).toBe(1_000);
      const { value: connections } = await settled(loop, Promise.all(promises));
      expect(new Set(connections!.map(({ remoteAddress }) => remoteAddress!.transport))).toEqual(new Set(["tcp"]));
      expect([signal.listeners.size, closers]).toEqual([0, 0]);
      for (const connection of connections!) connection.close();
    }));
});

describe("connect() that cannot", () => {
  test("to a port that nobody listens on rejects with ECONNREFUSED", () =>
    scene({}, async ({ connect }) => {
      const port = freePort();
      const { error } = await connect({ port });
      expect(error).toBeInstanceOf(SystemError);
      expect(error).toMatchObject({ code: "ECONNREFUSED", syscall: "connect" });
      expect((error as Error).message).toBe(
        `Cannot connect to "tcp://127.0.0.1:${port}": connect(2) returned ECONNREFUSED (connection refused)`,
      );
    }));

  test("to a path that is not there, is no socket, or a socket of another kind", () =>
    scene({}, async ({ connect }) => {
      const path = abstractPath();
      const datagram = own(real.socket(AF.unix, SOCK.dgram | SOCK.cloexec, 0));
      real.bind(datagram, encodeSockaddr({ family: "unix", path: bytes(path) }));
      expect((await connect({ path: "/nowhere/at/all" })).error).toMatchObject({ code: "ENOENT" });
      expect((await connect({ path: "/dev/null" })).error).toMatchObject({ code: "ECONNREFUSED" });
      expect((await connect({ path })).error).toMatchObject({ code: "ECONNREFUSED" });
      expect((await connect({ path: abstractPath() })).error).toMatchObject({ code: "ECONNREFUSED" });
    }));

  test.each(["ENETUNREACH", "EADDRNOTAVAIL", "EAGAIN", "EACCES", "EPERM", "EINVAL", "ETIMEDOUT"] as const)(
    "where connect(2) returns %s rejects with it",
    (name) =>
      scene({ connect: () => failure(name) }, async ({ connect }) => {
        expect((await connect({ port: 7 })).error).toMatchObject({ code: name, syscall: "connect" });
      }),
  );

  test.each(["ENETUNREACH", "EHOSTUNREACH", "ECONNRESET", "ETIMEDOUT"] as const)(
    "where SO_ERROR is %s rejects with it",
    async (name) => {
      const network = new FakeNetwork();
      await scene(network.sys, async ({ loop, connect }) => {
        const promise = connect({ port: 7 });
        await breathe();
        network.answer("127.0.0.1:7", name);
        expect((await promise).error).toMatchObject({ code: name, syscall: "connect" });
        expect(network.open.size).toBe(0);
        expect(loop.poller.size).toBe(1);
      });
    },
  );

  test("that is over before it was looked at, without an error of the socket, rejects with ENOTCONN", () =>
    scene({ getpeername: () => failure("ENOTCONN") }, async ({ connect }) => {
      const { error } = await connect({ port: portOf(tcpListener()) });
      expect(error).toMatchObject({ code: "ENOTCONN", syscall: "connect" });
    }));

  test.each(["socket", "setsockopt", "getsockopt", "getpeername", "getsockname"] as const)(
    "where %s(2) fails rejects with its error",
    (call) =>
      scene({ [call]: () => failure("ENOBUFS") }, async ({ connect }) => {
        expect((await connect({ port: portOf(tcpListener()) })).error).toMatchObject({
          code: "ENOBUFS",
          syscall: call,
        });
      }),
  );

  test.each([1, 2])(
    "where epoll_ctl(2) refuses to watch the socket, at registration %i, rejects with ENOSPC",
    (nth) => {
      const sockets = new Set<number>();
      let additions = 0;
      return scene({
        socket(...args) {
          const fd = real.socket(...args);
          sockets.add(fd);
          return fd;
        },
        epollCtl(epollFd, operation, fd, event) {
          if (operation === 1 && sockets.has(fd) && ++additions === nth) return failure("ENOSPC");
          return real.epollCtl(epollFd, operation, fd, event);
        },
      }, async ({ connect }) => {
        const { error } = await connect({ port: portOf(tcpListener()) });
        expect(error).toMatchObject({ code: "ENOSPC", syscall: "epoll_ctl" });
      });
    },
  );

  test("that a signal interrupts goes on: TCP by itself, a Unix socket by another connect(2)", () => {
    let interruptions = 0;
    const connect: Syscalls["connect"] = (fd, sockaddr) => {
      if (sockaddr[0] === AF.unix && interruptions++ === 0) return failure("EINTR");
      const result = real.connect(fd, sockaddr);
      return result === failure("EINPROGRESS") ? failure("EINTR") : result;
    };
    return scene({ connect }, async ({ connect }) => {
      const path = abstractPath();
      listenerAt({ family: "unix", path: bytes(path) });
      expect((await connect({ path })).value).toBeDefined();
      expect((await connect({ port: portOf(tcpListener()) })).value).toBeDefined();
      expect(interruptions).toBe(2);
    });
  });

  test("that meets itself is refused, and the port is free at once", () => {
    const connect: Syscalls["connect"] = (fd, sockaddr) => {
      real.bind(fd, sockaddr); // as the kernel chooses the port now and then
      return real.connect(fd, sockaddr);
    };
    return scene({ connect }, async ({ connect }) => {
      const port = freePort();
      expect((await connect({ port })).error).toMatchObject({ code: "ECONNREFUSED" });
      listenerAt({ family: "inet", address: Uint8Array.of(127, 0, 0, 1), port });
    });
  });

  test("for lack of descriptors says what would help", () =>
    scene({ socket: () => failure("EMFILE") }, async ({ host, connect }) => {
      host.names.set("some.test", ["127.0.0.1", "127.0.0.2"]);
      for (const hostname of ["127.0.0.1", "some.test"]) {
        const { error } = await connect({ hostname, port: 7 });
        expect(error).toMatchObject({ code: "EMFILE", syscall: "socket" });
        expect((error as Error).message).toMatch(/; raise this process's limit of descriptors \(ulimit -n\)/);
      }
    }));

  test("for lack of descriptors beside another attempt waits for that one's", async () => {
    const network = new FakeNetwork();
    network.room = 1;
    let calls = 0;
    const socket: Syscalls["socket"] = (...args) => (calls++, network.sys.socket(...args));
    await scene({ ...network.sys, socket }, async ({ loop, host, connect }) => {
      host.names.set("some.test", ["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
      const promise = connect({ hostname: "some.test", port: 7, attemptDelayMs: 10 });
      await turning(loop, () => calls === 2, "the second attempt's lack of a descriptor");
      expect(network.attempts.length).toBe(1);
      network.answer("127.0.0.1:7", "ECONNREFUSED");
      await turning(loop, () => network.attempts.length === 2, "the second attempt");
      network.answer("127.0.0.2:7");
      const { value } = await promise;
      expect(value!.remoteAddress).toMatchObject({ hostname: "127.0.0.2" });
    });
  });

  test.each(
    [
      [{}, "Cannot connect: give the port to connect to, or the path of a socket"],
      [{ hostname: "localhost" }, "give the port"],
      [{ port: 1, path: "x" }, "Cannot connect to both path and port: give one of them"],
      [{ hostname: "x", path: "x" }, "Cannot connect to both path and hostname"],
      [{ port: 0 }, "Cannot use port 0: it must be an integer, 1 to 65535"],
      [{ port: 65536 }, "1 to 65535"],
      [{ port: "80" }, 'Cannot use port "80": it must be a number'],
      [{ path: "" }, 'Cannot connect to path "": it must be a path, neither empty nor with a NUL in it'],
      [{ path: "x".repeat(200) }, "Cannot connect to a path of 200 bytes"],
      [{ port: 1, hostname: "" }, 'Cannot connect to "": it must be a name, or an IPv4 or IPv6 address'],
      [{ port: 1, hostname: 1 }, "Cannot connect to 1: it must be"],
      [{ port: 1, hostname: "[::1]" }, "it must be"],
      [{ port: 1, hostname: "127.1" }, "it must be"],
      [{ port: 1, hostname: "0x7f.0.0.1" }, "it must be"],
      [{ port: 1, hostname: "1.2.3.4.5" }, "it must be"],
      [{ port: 1, hostname: "256.0.0.1" }, "it must be"],
      [{ port: 1, hostname: "a.test:80" }, "it must be"],
      [{ port: 1, hostname: "fe80::1%lo" }, "it must be"],
      [{ port: 1, hostname: "a b" }, "it must be"],
      [{ port: 1, timeoutMs: -1 }, "Cannot use timeoutMs -1"],
      [{ port: 1, attemptDelayMs: 9 }, "Cannot use attemptDelayMs 9: it must be 0, or at least 10"],
      [{ port: 1, signal: {} }, "Cannot use signal [object Object]: it must be an AbortSignal"],
      [{ port: 1, onError: 1 }, "Cannot use onError 1: it must be a function"],
      [{ port: 1, data: 1 }, "Cannot use data 1: it must be a function"],
      [{ port: 1, lowWaterBytes: -1 }, "Cannot use lowWaterBytes -1"],
      [{ port: 1, signal: { aborted: false, addEventListener() {} } }, "it must be an AbortSignal"],
      [{ port: 1, loop: {} }, "Cannot use loop: it must be an EventLoop"],
      [{ port: 1, hostnam: "x" }, 'Cannot connect: there is no option "hostnam"'],
      [undefined, "Cannot connect: options must be an object"],
    ] as unknown as [ConnectOptions, string][],
  )("rejects %j, without a socket", async (options, message) => {
    const before = openDescriptors();
    const promise = connect(options);
    expect(openDescriptors()).toEqual(before);
    await expect(promise).rejects.toThrow(message);
    await expect(promise).rejects.toSatisfy((error) => error instanceof TypeError || error instanceof RangeError);
  });
});

describe("connect() to a name", () => {
  test("tries its addresses in turn, and at once when one refuses", () =>
    scene({}, async ({ host, connect }) => {
      const listener = tcpListener();
      host.names.set("some.test", ["127.0.0.2", "127.0.0.3", "127.0.0.1"]);
      const { value } = await connect({
        hostname: "some.test",
        port: portOf(listener),
        attemptDelayMs: 0,
        timeoutMs: 0,
      });
      expect(value!.remoteAddress).toMatchObject({ hostname: "127.0.0.1" });
    }));

  test("falls back from IPv6 to IPv4", () =>
    scene({}, async ({ host, connect }) => {
      const listener = tcpListener();
      host.names.set("some.test", ["::1", "127.0.0.1"]);
      const { value } = await connect({ hostname: "some.test", port: portOf(listener) });
      expect(value!.remoteAddress).toMatchObject({ hostname: "127.0.0.1" });
    }));

  test("localhost asks no resolver: it is 127.0.0.1 and ::1", async () => {
    const network = new FakeNetwork();
    for (const hostname of ["localhost", "LocalHost.", "api.localhost"]) {
      await scene(network.sys, async ({ loop, connect }) => {
        network.attempts.length = 0;
        const promise = connect({ hostname, port: 7 });
        await turning(loop, () => network.attempts.length === 1, "the first attempt");
        network.answer("127.0.0.1:7", "ECONNREFUSED");
        await turning(loop, () => network.attempts.length === 2, "the second attempt");
        network.answer("[::1]:7");
        expect((await promise).value!.remoteAddress).toMatchObject({ hostname: "::1" });
      });
    }
  });

  test("does not wait for an address that is silent", () =>
    scene({}, async ({ host, connect }) => {
      const listener = tcpListener();
      silentListener([127, 0, 0, 2], portOf(listener));
      host.names.set("some.test", ["127.0.0.2", "127.0.0.1"]);
      const { value } = await connect({
        hostname: "some.test",
        port: portOf(listener),
        attemptDelayMs: 10,
        timeoutMs: 0,
      });
      expect(value!.remoteAddress).toMatchObject({ hostname: "127.0.0.1" });
    }));

  test("that refuses everywhere rejects with one error that names the host, each address and its code", () =>
    scene({}, async ({ host, connect }) => {
      const port = freePort();
      host.names.set("some.test", ["127.0.0.1", "nonsense", "127.0.0.2"]);
      const { error } = await connect({ hostname: "some.test", port });
      expect(error).toBeInstanceOf(ConnectError);
      expect(error).toBeInstanceOf(AggregateError);
      expect((error as Error).message).toBe(
        `Cannot connect to "tcp://some.test:${port}": no address answers: tcp://127.0.0.1:${port} ECONNREFUSED, ` +
          `tcp://nonsense:${port} TypeError, tcp://127.0.0.2:${port} ECONNREFUSED`,
      );
      expect(error).toMatchObject({ name: "ConnectError", code: "ECONNREFUSED" });
      expect((error as ConnectError).errors.map((error: Error) => error.name)).toEqual([
        "SystemError",
        "TypeError",
        "SystemError",
      ]);
    }));

  test("that has no address rejects with what the resolver says", () =>
    scene({}, async ({ host, connect }) => {
      host.names.set("empty.test", []);
      for (const hostname of ["unknown.test", "empty.test"]) {
        const { error } = await connect({ hostname, port: 7 });
        expect(error).toBeInstanceOf(ResolveError);
        expect(error).toMatchObject({ code: "ENOTFOUND", hostname });
      }
    }));

  test("looks it up in the runtime's resolver", () =>
    scene({}, async ({ loop }) => {
      const own = new EventLoop();
      try {
        const { error } = await settled(own, connect({ loop: own, hostname: "no..such.invalid", port: 7 }));
        expect(error).toMatchObject({ name: "ResolveError", hostname: "no..such.invalid", code: "ENOTFOUND" });
        expect(loop.isClosed).toBe(false);
      } finally {
        await own.close();
      }
    }));

  test("interleave() takes families in turn, beginning with that of the first, in the resolver's order", () => {
    expect(interleave([])).toEqual([]);
    expect(interleave(["::1", "::2", "::3", "1.1.1.1"])).toEqual(["::1", "1.1.1.1", "::2", "::3"]);
    expect(interleave(["1.1.1.1", "::1", "::2", "2.2.2.2"])).toEqual(["1.1.1.1", "::1", "2.2.2.2", "::2"]);
    expect(interleave(["1.1.1.1", "2.2.2.2"])).toEqual(["1.1.1.1", "2.2.2.2"]);
  });
});

describe("a Unix listener whose queue is full", () => {
  test("is asked again until there is room", () =>
    scene({}, async ({ loop, connect }) => {
      const path = abstractPath();
      const listener = fullUnixListener(path);
      let isConnected = false;
      const promise = connect({ path, timeoutMs: 0, open: () => void (isConnected = true) });
      for (let turns = 0; turns < 20; turns++) {
        loop.turn(1);
        await breathe();
      }
      expect(isConnected).toBe(false);
      own(real.accept4(listener, SOCK.cloexec));
      expect((await promise).value!.state).toBe("open");
    }));

  test("that goes away meanwhile refuses", () =>
    scene({}, async ({ loop, connect }) => {
      const path = abstractPath();
      const listener = fullUnixListener(path);
      const promise = connect({ path, timeoutMs: 0 });
      loop.turn(0);
      closeNow(listener);
      expect((await promise).error).toMatchObject({ code: "ECONNREFUSED" });
    }));

  test("is not asked for longer than timeoutMs", () =>
    scene({}, async ({ connect }) => {
      const path = abstractPath();
      fullUnixListener(path);
      expect((await connect({ path, timeoutMs: 20 })).error).toMatchObject({ name: "ConnectError", code: "ETIMEDOUT" });
    }));
});

describe("connect() ends", () => {
  /** How it is made to wait for each of its phases, and what the timeout then says it waited for. */
  const PHASES: Record<string, { options: () => ConnectOptions; waitsFor: RegExp }> = {
    "resolving": {
      options: () => ({ hostname: "pending.test", port: 7 }),
      waitsFor: /no answer from the resolver within/,
    },
    "connecting": {
      options: () => ({ port: portOf(silentListener()) }),
      waitsFor: /no answer from tcp:\/\/127\.0\.0\.1:\d+ within/,
    },
    "connecting to several": {
      options: () => {
        const port = portOf(silentListener());
        silentListener([127, 0, 0, 2], port);
        return { hostname: "two.test", port, attemptDelayMs: 10 };
      },
      waitsFor: /no answer from tcp:\S+, tcp:\S+ within/,
    },
    "before the next attempt": {
      options: () => ({ hostname: "two.test", port: portOf(silentListener()), attemptDelayMs: 1_000_000 }),
      waitsFor: /no answer from tcp:\S+ within/,
    },
    "waiting for a Unix listener": {
      options: () => {
        const path = abstractPath();
        fullUnixListener(path);
        return { path };
      },
      waitsFor: /no answer from unix:\S+ within/,
    },
  };

  /** Expects that a loop, if it ran, would park until something happens. */
  async function expectNoTimers({ loop, host }: Scene): Promise<void> {
    const running = loop.run();
    await breathe();
    host.settle();
    expect(host.parker.parkedMs).toBe(Infinity);
    loop.stop();
    host.settle();
    await running;
  }

  /** A scene in which a connection is `phase`. */
  async function waiting(
    phase: string,
    options: ConnectOptions,
    test: (
      scene: Scene & { promise: Promise<Settled<Connection>>; resolve: (addresses: string[]) => void },
    ) => Promise<void>,
  ): Promise<void> {
    await scene({}, async (scene) => {
      scene.host.names.set("two.test", ["127.0.0.1", "127.0.0.2"]);
      const { promise: found, resolve } = Promise.withResolvers<string[]>();
      const resolveNow = scene.host.resolve;
      scene.host.resolve = (name) => name === "pending.test" ? found : resolveNow.call(scene.host, name);
      const promise = scene.connect({ timeoutMs: 0, ...options, ...PHASES[phase]!.options() });
      for (let turns = 0; turns < 20; turns++) {
        scene.loop.turn(1);
        await breathe();
      }
      await test({ ...scene, promise, resolve });
      const before = openDescriptors();
      resolve(["127.0.0.1"]); // too late, to no effect
      await breathe();
      expect(openDescriptors()).toEqual(before);
      if (!scene.loop.isClosed) await expectNoTimers(scene);
    });
  }

  describe.each(Object.keys(PHASES))("while %s", (phase) => {
    test("when the signal is aborted, with its reason, without a turn of the loop", async () => {
      const controller = new AbortController();
      await waiting(phase, { signal: controller.signal }, async ({ loop, promise }) => {
        controller.abort(new Error("changed my mind"));
        expect(loop.poller.size, "sources besides the waker").toBe(1);
        expect((await promise).error).toBe(controller.signal.reason);
      });
    });

    test("when timeoutMs is over, with ETIMEDOUT and what it waited for", async () => {
      const signal = new TestSignal();
      await waiting(phase, { signal, timeoutMs: 100_000 }, async ({ promise, pass }) => {
        pass(100_000);
        const { error } = await promise;
        expect(error).toBeInstanceOf(ConnectError);
        expect(error).toMatchObject({ code: "ETIMEDOUT", errors: [] });
        expect((error as Error).message).toMatch(PHASES[phase]!.waitsFor);
        expect((error as Error).message).toMatch(/within 100000 ms; raise timeoutMs/);
        expect(signal.listeners.size).toBe(0);
      });
    });

    test("when the loop is closed", async () => {
      const signal = new TestSignal();
      await waiting(phase, { signal }, async ({ loop, promise }) => {
        await loop.close();
        const { error } = await promise;
        expect(error).toBeInstanceOf(RangeError);
        expect((error as Error).message).toMatch(/^Cannot connect to ".*": the event loop was closed meanwhile$/);
        expect(signal.listeners.size).toBe(0);
      });
    });
  });

  test("at once where the signal is aborted already, without a socket", () =>
    scene({ socket: () => failure("EFAULT") }, async ({ connect }) => {
      const reason = { any: "value" };
      expect((await connect({ port: 7, signal: AbortSignal.abort(reason) })).error).toBe(reason);
    }));

  test("at once on a loop that is closed", async () => {
    const loop = new EventLoop();
    await loop.close();
    await expect(connect({ loop, port: 7 })).rejects.toThrow(
      new RangeError('Cannot connect to "tcp://127.0.0.1:7": the event loop is closed'),
    );
  });

  test("an abort after success does nothing", () =>
    scene({}, async ({ connect }) => {
      const signal = new TestSignal();
      const { value } = await connect({ port: portOf(tcpListener()), signal });
      expect(signal.listeners.size).toBe(0);
      signal.abort("late");
      expect(value!.state).toBe("open");
    }));

  test("an abort from open does nothing", () =>
    scene({}, async ({ connect }) => {
      const signal = new TestSignal();
      const { value } = await connect({ port: portOf(tcpListener()), signal, open: () => signal.abort("late") });
      expect(value!.state).toBe("open");
    }));

  // They left a loop open, and a connection that belonged to nobody.
  test.each(["throws", "calls at once"])("by a signal that is not the platform's, and %s", async (what) => {
    const error = new Error("not the platform's");
    const signal = {
      aborted: false,
      reason: error,
      addEventListener(_: "abort", listener: () => void) {
        if (what === "throws") throw error;
        listener();
      },
      removeEventListener() {},
    };
    await scene({}, async ({ loop, connect }) => {
      const opened: unknown[] = [];
      const open = (connection: unknown) => void opened.push(connection);
      expect(await connect({ port: portOf(tcpListener()), signal, open })).toEqual({ error });
      for (let turns = 0; turns < 5; turns++) loop.turn(1);
      expect(opened).toEqual([]);
    });
    await expect(connect({ port: portOf(tcpListener()), signal })).rejects.toBe(error);
  });

  test("the timeout names addresses that failed before", async () => {
    const network = new FakeNetwork();
    network.refusals.set("127.0.0.1:7", "ENETUNREACH");
    await scene(network.sys, async ({ host, connect }) => {
      host.names.set("two.test", ["127.0.0.1", "127.0.0.2"]);
      const { error } = await connect({ hostname: "two.test", port: 7, timeoutMs: 30 });
      expect(error).toMatchObject({ code: "ETIMEDOUT", errors: [{ code: "ENETUNREACH" satisfies ErrnoName }] });
    });
  });
});

describe("connect() without a loop", () => {
  test("runs one beside the runtime, and closes it after the connection", async () => {
    const listener = tcpListener();
    const before = openDescriptors().length;
    const log: string[] = [];
    const closed = Promise.withResolvers<void>();
    const connection = await connect({
      port: portOf(listener),
      open: () => void log.push("open"),
      data(connection, chunk) {
        log.push(new TextDecoder().decode(chunk));
        connection.end();
      },
      close() {
        log.push("close");
        closed.resolve();
      },
    });
    const peer = own(real.accept4(listener, SOCK.nonblock));
    connection.write("ping");
    await breathe(); // it is sent when this job is over
    ready(peer);
    real.send(peer, bytes("pong"));
    while (!log.includes("pong")) await breathe();
    closeNow(peer);
    await closed.promise;
    expect(log).toEqual(["open", "pong", "close"]);
    while (openDescriptors().length > before) await breathe();
  });

  test("leaves nothing behind when it is refused, aborted, or out of time", async () => {
    const before = openDescriptors();
    await expect(connect({ port: freePort() })).rejects.toMatchObject({ code: "ECONNREFUSED" });
    expect(openDescriptors()).toEqual(before);
    const listener = silentListener();
    const connecting = openDescriptors();
    const controller = new AbortController();
    const promise = connect({ port: portOf(listener), signal: controller.signal });
    controller.abort();
    await expect(promise).rejects.toBe(controller.signal.reason);
    expect(openDescriptors()).toEqual(connecting);
    await expect(connect({ port: portOf(listener), timeoutMs: 20 })).rejects.toMatchObject({ code: "ETIMEDOUT" });
    expect(openDescriptors()).toEqual(connecting);
  });

  test("rejects for lack of descriptors, however many are left, and says what would help", async () => {
    const loop = new EventLoop();
    await runtimeSettled(loop);
    const needed = 3 + loop.descriptorsToCome;
    await loop.close();
    for (let free = 0; free < needed; free++) {
      let promise: Promise<unknown>;
      withFree(free, () => {
        promise = connect({ port: 7 });
        promise.catch(() => {});
      });
      await expect(promise!, `with ${free} free`).rejects.toMatchObject({
        code: "EMFILE",
        message: expect.stringMatching(/^Cannot connect to "tcp:.* returned EMFILE .*; raise this process's limit/),
      });
    }
  });

  test("close runs once where the connection is closed outside a turn, and what it throws goes to onError", async () => {
    const errors = Promise.withResolvers<unknown>();
    let closes = 0;
    const connection = await connect({
      port: portOf(tcpListener()),
      onError: errors.resolve,
      close() {
        closes++;
        throw new Error("from close");
      },
    });
    connection.close();
    connection.close();
    expect(await errors.promise).toEqual(new Error("from close"));
    expect(closes).toBe(1);
  });
});

test("SO_ERROR is asked once: reading clears it", () => {
  let reads = 0;
  const getsockopt: Syscalls["getsockopt"] = (fd, level, name, value) => {
    if (level === SOL.socket && name === SO.error) reads++;
    return real.getsockopt(fd, level, name, value);
  };
  return scene({ getsockopt }, async ({ connect }) => {
    await connect({ port: portOf(tcpListener()) });
    await connect({ port: freePort() });
    expect(reads).toBe(2);
  });
});
