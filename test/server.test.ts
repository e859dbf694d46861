import { existsSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type Connection, EventLoop, serve, type ServerOptions } from "../mod.ts";
import { AF, bind, encodeSockaddr, listen, realSyscalls, SOCK, socket } from "../ffi/syscalls.ts";
import { until } from "./support/conditions.ts";
import { closeNow, disown, expectNoLeak, own } from "./support/descriptors.ts";
import { newPath } from "./support/folders.ts";
import { Client } from "./support/net_client.ts";
import { refused } from "./support/servers.ts";
import { tcpListener } from "./support/sockets.ts";

expectNoLeak();

const ECHO: ServerOptions = {
  data(connection, bytes) {
    if (!connection.write(bytes)) connection.pause();
  },
  drain: (connection) => connection.resume(),
};

describe.each(["level", "edge"] as const)("serve(), %s-triggered,", (trigger) => {
  test("echoes to many clients at once", async () => {
    await using server = serve({ ...ECHO, trigger });
    const clients = Array.from({ length: 50 }, () => new Client(server));
    for (const [i, { socket }] of clients.entries()) socket.end(`${i}`.repeat(10_000));
    for (const [i, { over, received }] of (await Promise.all(clients.map(async (c) => (await c.over, c)))).entries()) {
      expect(await over).toBe("close");
      expect(received === `${i}`.repeat(10_000), `what client ${i} got back`).toBe(true);
    }
    await until(() => server.connections.size === 0, "the last close");
    expect(server.counters).toMatchObject({ accepted: 50, refused: 0, shed: 0 });
  });

  test("refuses above maxConnections, by end of stream, and serves again when one leaves", async () => {
    await using server = serve({ ...ECHO, trigger, maxConnections: 2, overloaded() {} });
    const [first, second] = [new Client(server), new Client(server)];
    await until(() => server.connections.size === 2, "two clients");
    const third = new Client(server);
    third.socket.write("ignored");
    expect(await third.over).toBe("close");
    expect(third.received).toBe("");
    expect(server.counters).toMatchObject({ accepted: 2, refused: 1 });
    first.socket.destroy();
    await until(() => server.connections.size === 1, "room");
    const fourth = new Client(server);
    fourth.socket.write("hello");
    await until(() => fourth.received === "hello", "the echo");
    for (const { socket } of [second, fourth]) socket.destroy();
  });
});

describe("serve()", () => {
  test("types connection.data, set in open, and keeps it per connection", async () => {
    await using server = serve<{ name: string; lines: number }>({
      open: (connection) => void (connection.data = { name: `#${server.counters.accepted}`, lines: 0 }),
      data(connection) {
        connection.write(`${connection.data.name} ${++connection.data.lines}\n`);
      },
    });
    const [a, b] = [new Client(server), new Client(server)];
    for (const client of [a, b]) client.socket.write("x");
    await until(() => a.received !== "" && b.received !== "", "an answer each");
    expect([a.received, b.received].sort()).toEqual(["#1 1\n", "#2 1\n"]);
    a.socket.write("y");
    await until(() => a.received.includes(" 2\n"), "the second answer");
    for (const { socket } of [a, b]) socket.destroy();
  });

  test("listens on a Unix socket, replaces an abandoned one, and removes it on stop", async () => {
    const path = newPath();
    const first = serve({ ...ECHO, path });
    expect(first.url).toBe(`unix://${path}`);
    expect(() => serve({ ...ECHO, path })).toThrow(/Cannot listen on "unix:.*": bind\(2\) returned EADDRINUSE/);
    const client = new Client(first);
    client.socket.end("over unix");
    await client.over;
    expect(client.received).toBe("over unix");
    await first.stop();
    expect(existsSync(path)).toBe(false);

    const abandoned = own(socket(AF.unix, SOCK.stream, 0));
    const sockaddr = encodeSockaddr({ family: "unix", path: new TextEncoder().encode(path) });
    expect([bind(abandoned, sockaddr), listen(abandoned, 1)]).toEqual([0, 0]);
    closeNow(abandoned);
    expect(existsSync(path)).toBe(true);
    await using second = serve({ ...ECHO, path });
    expect(existsSync(path)).toBe(true);
    await second.stop();

    writeFileSync(path, "no socket at all");
    expect(() => serve({ ...ECHO, path })).toThrow(/EADDRINUSE/);
    expect(existsSync(path)).toBe(true);
  });

  test("adopts a listening descriptor, and refuses one that does not listen", async () => {
    const listener = disown(tcpListener());
    const server = serve({ ...ECHO, fd: listener });
    const client = new Client(server);
    client.socket.end("adopted");
    await client.over;
    expect(client.received).toBe("adopted");
    await server.stop();
    expect(() => serve({ ...ECHO, fd: listener })).toThrow(/Cannot listen on descriptor \d+: getsockopt\(2\)/);
  });

  test("checks every option at the boundary and leaves nothing open", async () => {
    expect(refused({ prot: 1 })).toBe('Cannot serve: there is no option "prot"');
    expect(refused({ port: 70000 })).toBe("Cannot listen on port 70000: it must be 0 to 65535");
    expect(refused({ port: "80" })).toBe('Cannot listen on port "80": it must be a number');
    expect(refused({ hostname: "example.com" })).toContain("it must be an IPv4 or IPv6 address");
    expect(refused({ port: 1, path: "/x" })).toBe("Cannot serve on both port and path: give one of them");
    expect(refused({ path: "/x", hostname: "::1" })).toBe(
      "Cannot serve on both path and hostname: only a port has one",
    );
    expect(refused({ fd: 3, hostname: "::1" })).toContain("Cannot serve on both fd and hostname");
    expect(refused({ path: "" })).toContain("must be a path");
    expect(refused({ path: "/x", reusePort: true })).toBe(
      "Cannot use reusePort with path: only a port that the server binds itself can be shared",
    );
    expect(refused({ backlog: 0 })).toContain("Cannot use backlog 0");
    expect(refused({ headroom: 5 })).toBe('Cannot serve: there is no option "headroom"');
    expect(refused({ overload: { tail: 5 } })).toBe('Cannot set overload: there is no option "tail"');
    expect(refused({ overload: { headroom: -1 } })).toContain("Cannot use headroom -1");
    expect(refused({ overload: { headroom: 10 ** 9 } })).toMatch(
      /^Cannot accept connections: of \d+ descriptors .*raise the limit/,
    );
    expect(refused({ overload: { reserve: 1.5 } })).toContain("Cannot use reserve 1.5");
    expect(refused({ maxConnections: 0 })).toContain("Cannot use maxConnections 0");
    expect(refused({ trigger: "rising" })).toContain('it must be "level" or "edge"');
    expect(refused({ trigger: { listeners: "edge" } })).toContain('no option "listeners"');
    expect(refused({ data: 5 })).toContain("it must be a function");
    expect(refused({ highWaterBytes: "1" })).toContain("it must be a number");
    expect(refused({ onError: 1 })).toContain("it must be a function");
    // null was taken for nothing: for any port, which the ladder took for a chosen one, and for a loop that nobody runs.
    expect(refused({ port: null })).toBe("Cannot listen on port null: it must be a number");
    expect(refused({ hostname: null })).toContain("it must be an IPv4 or IPv6 address");
    for (const loop of [null, {}]) expect(refused({ loop })).toBe("Cannot use loop: it must be an EventLoop");
    expect(() => serve(undefined as unknown as ServerOptions)).toThrow(TypeError);
    expect(() => serve({ port: 1, hostname: "203.0.113.1" })).toThrow(/returned EADDRNOTAVAIL/);
    await using server = serve({});
    expect(() => serve({ port: server.address.transport === "tcp" ? server.address.port : 0 })).toThrow(
      /Cannot listen on "tcp:\/\/127.0.0.1:\d+": bind\(2\) returned EADDRINUSE \(address already in use\)/,
    );
  });

  test("listens on IPv6, and on localhost", async () => {
    await using six = serve({ ...ECHO, hostname: "::1" });
    expect(six.url).toMatch(/^tcp:\/\/\[::1\]:\d+$/);
    const client = new Client(six);
    client.socket.end("six");
    await client.over;
    expect(client.received).toBe("six");
    await using local = serve({ ...ECHO, hostname: "localhost" });
    expect(local.address).toMatchObject({ hostname: "127.0.0.1" });
  });

  test("a handler that throws ends its own connection; what close throws goes to onError", async () => {
    const closed: unknown[] = [];
    const errors: unknown[] = [];
    await using server = serve({
      onError: (error) => errors.push(error),
      data(connection, bytes) {
        if (bytes[0] === 0x21) throw new Error("bad input");
        connection.write(bytes);
      },
      close(_, error) {
        closed.push(error);
        throw new Error("in close");
      },
    });
    const [good, bad] = [new Client(server), new Client(server)];
    bad.socket.write("!");
    await bad.over;
    good.socket.write("still served");
    await until(() => good.received === "still served", "the echo");
    expect(closed).toEqual([new Error("bad input")]);
    expect(errors).toEqual([new Error("in close")]);
    good.socket.destroy();
    await until(() => closed.length === 2, "the second close");
  });
});

describe("Server", () => {
  test("stop() lets queued bytes leave, and tells every close", async () => {
    const size = 8_000_000;
    let closed = 0;
    const server = serve({ open: (connection) => void connection.write("x".repeat(size)), close: () => void closed++ });
    const clients = [new Client(server), new Client(server)];
    for (const { socket } of clients) socket.pause();
    await until(() => server.connections.size === 2, "two clients");
    expect([...server.connections].every(({ queuedBytes }) => queuedBytes > 0)).toBe(true);
    const stopped = server.stop();
    const late = new Client(server);
    expect(await late.over).toBe("ECONNREFUSED");
    for (const { socket } of clients) socket.resume();
    await stopped;
    expect(closed).toBe(2);
    for (const { over, received } of clients) {
      expect(await over).toBe("close");
      await until(() => received.length <= size, "the bytes");
    }
    expect(clients.map(({ received }) => received.length)).toEqual([size, size]);
  });

  // It read an end of stream, and could not know that something was missing.
  test.each([0, 20])("stop() resets after timeoutMs, %i, who does not read", async (timeoutMs) => {
    const reasons: unknown[] = [];
    const server = serve({
      open: (connection) => void connection.write("x".repeat(20_000_000)),
      close: (_, error, reason) => void reasons.push([error, reason]),
    });
    const client = new Client(server);
    client.socket.pause();
    await until(() => server.connections.size === 1, "a client");
    await server.stop({ timeoutMs });
    expect(server.connections.size).toBe(0);
    expect(reasons).toEqual([[undefined, "stop"]]);
    client.socket.resume();
    expect(await client.over).toBe("ECONNRESET");
  });

  test("who is given up for somebody else while bytes are queued for it sees a reset", async () => {
    await using server = serve({
      maxConnections: 1,
      overload: { reapIdle: { minIdleMs: 0 } },
      open: (connection) => void connection.write("x".repeat(20_000_000)),
    });
    const idle = new Client(server);
    idle.socket.pause();
    await until(() => server.connections.size === 1, "a client");
    const other = new Client(server);
    await until(() => server.counters.reaped === 1, "its end");
    idle.socket.resume();
    expect(await idle.over).toBe("ECONNRESET");
    other.socket.destroy();
  });

  // It never settled: no turn came any more.
  test("stop() releases everything and rejects where the caller's loop is closed before, or meanwhile", async () => {
    for (const isBefore of [true, false]) {
      const loop = new EventLoop();
      const running = loop.run();
      const server = serve({ ...ECHO, loop });
      const client = new Client(server);
      await until(() => server.connections.size === 1, "a client");
      const stop = () =>
        expect(server.stop()).rejects.toThrow(/^Cannot tell of every close: the event loop was closed/);
      loop.stop();
      await running;
      const stopped = isBefore ? undefined : stop();
      await loop.close();
      await (stopped ?? stop());
      expect([server.connections.size, server.listeners]).toEqual([0, []]);
      await client.over;
    }
  });

  test("stop() twice is one stop, is legal in a handler, and refuses a wrong timeout", async () => {
    let stopped: Promise<void> | undefined;
    const server = serve({ data: () => void (stopped = server.stop()) });
    expect(() => server.stop({ timeoutMs: -1 })).toThrow(RangeError);
    const client = new Client(server);
    client.socket.write("stop");
    await client.over;
    expect(server.stop()).toBe(stopped);
    await stopped;
  });

  test("unserved clients in the backlog do not hold stop() up", async () => {
    const server = serve({});
    const clients = Array.from({ length: 20 }, () => new Client(server));
    await server.stop();
    for (const { socket, over } of clients) {
      await over;
      socket.destroy();
    }
  });

  test("serves on a loop of the caller's, beside other servers, and leaves it running", async () => {
    const loop = new EventLoop();
    const running = loop.run();
    const servers = [serve({ ...ECHO, loop }), serve({ ...ECHO, loop, trigger: "edge" })];
    for (const server of servers) {
      const client = new Client(server);
      client.socket.end("shared");
      await client.over;
      expect(client.received).toBe("shared");
      await server.stop();
    }
    expect(loop.isRunning).toBe(true);
    loop.stop();
    await running;
    await loop.close();
  });

  test("a socket that cannot be watched costs that connection only, counted", async () => {
    let isRefusing = false;
    const loop = new EventLoop({ onError: () => {} }, {
      ...realSyscalls,
      epollCtl: (epollFd, operation, fd, event) =>
        isRefusing && operation === 1 ? -28 : realSyscalls.epollCtl(epollFd, operation, fd, event),
    });
    const running = loop.run();
    const server = serve({ ...ECHO, loop });
    isRefusing = true;
    const unlucky = new Client(server);
    await unlucky.over;
    isRefusing = false;
    const lucky = new Client(server);
    lucky.socket.end("served");
    await lucky.over;
    expect(lucky.received).toBe("served");
    expect(server.counters).toMatchObject({ setupFailed: 1 });
    await server.stop();
    loop.stop();
    await running;
    await loop.close();
  });

  test("what onError throws ends the server, and stop() says why", async () => {
    const server = serve({
      close() {
        throw new Error("fatal");
      },
      onError(error) {
        throw error;
      },
    });
    const client = new Client(server);
    await until(() => server.connections.size === 1, "a client");
    const stopped = server.stop();
    await expect(stopped).rejects.toThrow("fatal");
    await client.over;
  });

  test("what onError throws while a client is taken in ends the server, and releases the client once", async () => {
    const released: number[] = [];
    let taken = -1;
    const sys = {
      ...realSyscalls,
      accept4: (...call: Parameters<typeof realSyscalls.accept4>) => {
        const fd = realSyscalls.accept4(...call);
        if (fd >= 0) taken = fd;
        return fd;
      },
      close: (fd: number) => {
        if (fd === taken) released.push(fd);
        return realSyscalls.close(fd);
      },
    };
    const loop = new EventLoop({ onError: () => {} }, sys);
    const running = loop.run();
    const server = serve({
      loop,
      open(connection) {
        connection.close();
        throw new Error("mine");
      },
      onError(error) {
        throw error;
      },
    });
    const client = new Client(server);
    await client.over;
    await until(() => server.connections.size === 0, "the end of the client");
    expect(released).toEqual([taken]);
    expect(server.counters).toMatchObject({ accepted: 1, setupFailed: 0 });
    await server.stop();
    loop.stop();
    await running;
    await loop.close();
  });

  test("a loop that somebody stops ends the server: every close is told, and stop() settles", async () => {
    const closed: unknown[] = [];
    const server = serve({ ...ECHO, close: (_, error, reason) => void closed.push([error, reason]) });
    const client = new Client(server);
    await until(() => server.connections.size === 1, "a client");
    server.loop.stop();
    await client.over;
    await until(() => closed.length === 1, "the close");
    await server.stop();
    expect([closed, server.connections.size, server.listeners]).toEqual([[[undefined, "stop"]], 0, []]);
    expect(() => server.listen({})).toThrow("Cannot listen: the server has been stopped");
    expect(await new Client(server).over).toBe("ECONNREFUSED");
  });

  test("while it stops, handlers may try anything: nothing more is taken or served", async () => {
    const size = 8_000_000;
    const attempts: unknown[] = [];
    const server = serve({
      ...ECHO,
      open: (connection) => void connection.write("x".repeat(size)),
      close() {
        for (const other of server.connections) attempts.push(other.write("more"));
        try {
          server.listen({});
        } catch (error) {
          attempts.push((error as Error).message);
        }
      },
    });
    const clients = [new Client(server), new Client(server)];
    const [slow, fast] = clients as [Client, Client];
    slow.socket.pause();
    await until(() => server.connections.size === 2 && fast.received.length === size, "the bytes of one");
    const stopped = server.stop();
    await fast.over;
    await until(() => attempts.length === 2, "the first close");
    expect(attempts).toEqual([false, "Cannot listen: the server has been stopped"]);
    slow.socket.resume();
    await stopped;
    await slow.over;
    expect(slow.received.length).toBe(size);
    expect(server.connections.size).toBe(0);
  });

  test("what overloaded throws, or rejects with, goes to onError", async () => {
    const errors: unknown[] = [];
    let told = 0;
    await using server = serve({
      ...ECHO,
      maxConnections: 1,
      onError: (error) => errors.push(error),
      overloaded() {
        if (told++ === 0) throw new Error("thrown");
        return Promise.reject(new Error("rejected"));
      },
    });
    const clients = [new Client(server), new Client(server)];
    await until(() => errors.length === 2, "both");
    expect(errors).toEqual([new Error("thrown"), new Error("rejected")]);
    for (const { socket } of clients) socket.destroy();
  });

  // Nobody caught it: it ended the process, and not the loop.
  test("what onError throws of what overloaded rejects with ends the loop", async () => {
    const onError = (error: unknown) => {
      throw error;
    };
    const loop = new EventLoop({ onError });
    const running = loop.run();
    const overloaded = () => Promise.reject(new Error("rejected"));
    const server = serve({ ...ECHO, loop, onError, overloaded, maxConnections: 1 });
    const clients = [new Client(server), new Client(server)];
    await expect(running).rejects.toThrow("rejected");
    for (const { socket } of clients) socket.destroy();
    const runningOn = loop.run();
    await server.stop();
    loop.stop();
    await runningOn;
    await loop.close();
  });

  test("connections is live, and a connection may close any other", async () => {
    await using server = serve({
      data() {
        for (const connection of [...server.connections] as Connection[]) connection.close();
      },
    });
    const clients = [new Client(server), new Client(server), new Client(server)];
    await until(() => server.connections.size === 3, "three clients");
    clients[1]!.socket.write("all out");
    await Promise.all(clients.map(({ over }) => over));
    expect(server.connections.size).toBe(0);
  });
});
