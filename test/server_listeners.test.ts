import { existsSync } from "node:fs";
import { beforeEach, describe, expect, test } from "vitest";
import { EventLoop, serve, type Server, type ServerOptions } from "../mod.ts";
import { EPOLL, EPOLL_CTL, SHUT } from "../ffi/constants.ts";
import { realSyscalls, shutdown } from "../ffi/syscalls.ts";
import { isListening } from "../src/socket.ts";
import { until } from "./support/conditions.ts";
import { closeNow, disown, expectNoLeak } from "./support/descriptors.ts";
import { newPath } from "./support/folders.ts";
import { Client } from "./support/net_client.ts";
import { refused } from "./support/servers.ts";
import { tcpListener } from "./support/sockets.ts";

expectNoLeak();

let path: string;
beforeEach(() => {
  path = newPath();
});

/** An answer to everything: `name`. */
const says = (name: string): Pick<ServerOptions, "data"> => ({ data: (connection) => void connection.write(name) });

/** A client of each listener. */
const clientsOf = (server: Server): Client[] => server.listeners.map((listener) => new Client(listener));

function portOf({ address }: Pick<Server, "address">): number {
  return address.transport === "tcp" ? address.port : -1;
}

describe.each(["level", "edge"] as const)("serve() on several listeners, %s-triggered,", (trigger) => {
  test("serves each in its own way, and in the server's where it has none", async () => {
    const adopted = disown(tcpListener());
    let closed = 0;
    const server = serve({
      ...says("server"),
      trigger,
      close: () => void closed++,
      listeners: [{}, { path, ...says("unix") }, { fd: adopted, ...says("adopted"), close: () => void (closed += 10) }],
    });
    const clients = clientsOf(server);
    for (const [i, answer] of ["server", "unix", "adopted"].entries()) await clients[i]!.ask("?", answer);
    expect(server.connections.size).toBe(3);
    expect(server.listeners.map(({ counters }) => counters.accepted)).toEqual([1, 1, 1]);
    expect(server.counters).toMatchObject({ accepted: 3 });
    expect(server.listeners.map(({ url }) => url)).toEqual([
      expect.stringMatching(/^tcp:\/\/127.0.0.1:\d+$/),
      `unix://${path}`,
      expect.stringMatching(/^tcp:\/\/127.0.0.1:\d+$/),
    ]);
    expect([server.address, server.url]).toEqual([server.listeners[0]!.address, server.listeners[0]!.url]);
    expect([server.waiting, server.listeners[1]!.waiting]).toEqual([0, undefined]);
    await server.stop();
    expect([closed, server.listeners, existsSync(path)]).toEqual([12, [], false]);
    await Promise.all(clients.map(({ over }) => over));
  });

  test("lets each have options of its own", async () => {
    const accepted: unknown[] = [];
    await using server = serve({
      trigger,
      highWaterBytes: 1000,
      open: (connection) => void accepted.push(connection.write("12345")),
      end: (connection) => void setTimeout(() => connection.end("late"), 1),
      listeners: [{ allowHalfOpen: true }, { highWaterBytes: 1, trigger: { connections: "level" } }],
    });
    const [halfOpen, plain] = clientsOf(server) as [Client, Client];
    await until(() => server.connections.size === 2, "two clients");
    for (const { socket } of [halfOpen, plain]) socket.end();
    expect(await Promise.all([halfOpen.over, plain.over])).toEqual(["close", "close"]);
    expect([halfOpen.received, plain.received]).toEqual(["12345late", "12345"]);
    expect(accepted).toEqual([true, true]);
  });

  test("counts maxConnections over all of them, and tells of overload with one voice", async () => {
    const lines: string[] = [];
    const states: boolean[] = [];
    await using server = serve({
      ...says("ok"),
      trigger,
      maxConnections: 2,
      logger(line) {
        lines.push(line);
        states.push(server.isOverloaded);
      },
      listeners: [{}, { path }, {}],
    });
    const served = server.listeners.slice(0, 2).map((listener) => new Client(listener));
    await until(() => server.connections.size === 2, "two clients");
    const refused = [...clientsOf(server), ...clientsOf(server)];
    await Promise.all(refused.map(({ over }) => over));
    expect(server.counters).toMatchObject({ accepted: 2, refused: 6, episodes: 1 });
    await until(() => !server.isOverloaded, "the end of the episode");
    expect(lines).toEqual([
      expect.stringMatching(/^overload on tcp:\/\/127.0.0.1:\d+ and 2 more: maxConnections reached/),
      expect.stringMatching(/^overload on tcp:\/\/127.0.0.1:\d+ and 2 more is over/),
    ]);
    expect(states).toEqual([true, false]);
    for (const { socket } of served) socket.destroy();
  });

  test("counts the connections of an address over all of them", async () => {
    await using server = serve({ ...says("ok"), trigger, maxConnectionsPerAddress: 1, listeners: [{}, { path }, {}] });
    const [listener, unix, other] = server.listeners.map((listener) => () => new Client(listener));
    const served = [listener!(), unix!(), unix!()];
    for (const client of served) await client.ask("?", "ok");
    expect(await other!().over).toBe("close");
    expect(server.counters).toMatchObject({ accepted: 3, rateLimited: 1 });
    for (const { socket } of served) socket.destroy();
  });

  test("a client who waits at one gets the place that is left at another", async () => {
    await using server = serve({
      ...says("ok"),
      trigger,
      maxConnections: 1,
      overload: { policy: "wait" },
      overloaded() {},
      listeners: [{}, { path }],
    });
    const first = new Client(server.listeners[0]!);
    await first.ask("?", "ok");
    const second = new Client(server.listeners[1]!);
    second.socket.write("?");
    await until(() => server.isOverloaded, "somebody to wait");
    expect(server.connections.size).toBe(1);
    first.socket.destroy();
    await until(() => second.received === "ok", "the place");
    const third = new Client(server.listeners[0]!);
    third.socket.write("?");
    second.socket.destroy();
    await until(() => third.received === "ok", "the place of the second");
    third.socket.destroy();
  });

  test("stop() closes all, lets queued bytes leave on each, and asyncDispose is a stop", async () => {
    const size = 4_000_000;
    const open: ServerOptions["open"] = (connection) => void connection.write("x".repeat(size));
    let clients: Client[];
    {
      await using server = serve({ trigger, open, listeners: [{}, { path }, { fd: disown(tcpListener()) }] });
      clients = clientsOf(server);
      for (const { socket } of clients) socket.pause();
      await until(() => server.connections.size === 3, "three clients");
      setTimeout(() => clients.forEach(({ socket }) => socket.resume()), 5);
    }
    expect(existsSync(path)).toBe(false);
    for (const client of clients) {
      expect(await client.over).toBe("close");
      expect(client.received.length).toBe(size);
    }
  });

  test("one that fails is told to onError, and closed alone; listen() may take its place", async () => {
    const errors: unknown[] = [];
    const adopted = disown(tcpListener());
    const server = serve({
      ...says("ok"),
      trigger,
      onError: (error) => errors.push(error),
      listeners: [{ fd: adopted }, { path }],
    });
    const [survivor, other] = clientsOf(server) as [Client, Client];
    await survivor.ask("?", "ok");
    shutdown(adopted, SHUT.rd); // it listens no more
    await until(() => errors.length === 1, "the error");
    expect(errors[0]).toMatchObject({
      message: expect.stringContaining(`Cannot accept connections on "${server.url}": accept4(2) returned EINVAL`),
      code: "EINVAL",
    });
    expect(server.listeners.map(({ url }) => url)).toEqual([`unix://${path}`]);
    await survivor.ask("?", "okok");
    await other.ask("?", "ok");
    const again = server.listen(says("again"));
    const late = new Client(again);
    await late.ask("?", "again");
    expect(server.counters).toMatchObject({ accepted: 3 });
    await server.stop();
    await Promise.all([survivor, other, late].map(({ over }) => over));
    expect(errors).toHaveLength(1);
  });

  test("stop() of a server whose listeners have all failed", async () => {
    const errors: unknown[] = [];
    const adopted = disown(tcpListener());
    const server = serve({ ...says("ok"), trigger, onError: (error) => errors.push(error), fd: adopted });
    const client = new Client(server);
    await client.ask("?", "ok");
    shutdown(adopted, SHUT.rd);
    await until(() => errors.length === 1, "the error");
    expect([server.listeners, server.waiting]).toEqual([[], undefined]);
    await client.ask("?", "okok");
    await server.stop();
    await client.over;
  });

  test("close() of one leaves its connections and the other listeners, and removes its file", async () => {
    await using server = serve({ ...says("ok"), trigger, listeners: [{ path }, {}] });
    const [unix, tcp] = clientsOf(server) as [Client, Client];
    await unix.ask("?", "ok");
    const [listener] = server.listeners;
    listener!.close();
    listener!.close();
    expect([existsSync(path), server.listeners.length, listener!.waiting]).toEqual([false, 1, undefined]);
    await unix.ask("?", "okok");
    await tcp.ask("?", "ok");
    expect(server.url).toBe(`unix://${path}`);
    expect(server.counters).toMatchObject({ accepted: 2 });
    server.listen({ path, ...says("new") });
    const again = new Client(server);
    await again.ask("?", "new");
    listener!.close(); // the file is another's by now
    expect(existsSync(path)).toBe(true);
    for (const { socket } of [unix, tcp, again]) socket.destroy();
  });
});

describe("serve() on several listeners", () => {
  test("checks the options of each", () => {
    expect(refused({ port: 1, listeners: [{}] })).toBe(
      "Cannot serve on both listeners and port: say port in one of the listeners",
    );
    expect(refused({ backlog: 1, listeners: [{}] })).toContain("Cannot serve on both listeners and backlog");
    for (const listeners of [[], {}, "tcp"]) {
      expect(refused({ listeners })).toBe("Cannot use listeners: it must be an array of one listener at least");
    }
    expect(refused({ listeners: [{}, { maxConnections: 1 }] })).toBe(
      'Cannot listen: there is no option "maxConnections"',
    );
    expect(refused({ listeners: [{}, 5] })).toBe("Cannot listen: options must be an object");
    expect(refused({ listeners: [{ data: 1 }] })).toContain("Cannot use data 1");
    expect(refused({ listeners: [{}, { trigger: "rising" }] })).toContain('must be "level" or "edge"');
    expect(refused({ listeners: [{}, { exclusive: 1 }] })).toContain("Cannot use exclusive 1");
    expect(refused({ listeners: [{}, { port: 1, path: "/x" }] })).toContain("Cannot serve on both port and path");
    expect(refused({ listeners: [{}, { reusePort: true, path }] })).toContain("Cannot use reusePort with path");
  });

  test("leaves nothing open where one of them cannot be had, and gives an adopted one back", async () => {
    await using taken = serve({});
    const adopted = tcpListener();
    for (const bad of [{ port: portOf(taken) }, { port: 70_000 }, { fd: adopted }, { trigger: { listener: "x" } }]) {
      const message = refused({ listeners: [{ path }, { fd: adopted }, {}, bad] });
      expect(message).toMatch(/EADDRINUSE|0 to 65535|EEXIST|must be "level"/);
      expect([existsSync(path), isListening(adopted, "look")]).toEqual([false, true]);
    }
    closeNow(adopted);
  });

  test("watches each listener, and its connections, by a trigger of their own", async () => {
    const added: boolean[] = [];
    const loop = new EventLoop({}, {
      ...realSyscalls,
      epollCtl(epollFd, operation, fd, event) {
        if (operation === EPOLL_CTL.add) added.push((new Uint32Array(event!.buffer)[0]! & EPOLL.et) !== 0);
        return realSyscalls.epollCtl(epollFd, operation, fd, event);
      },
    });
    const server = serve({
      loop,
      trigger: { listener: "edge" },
      listeners: [{}, { trigger: "level" }, { trigger: { listener: "level", connections: "edge" } }],
    });
    expect(added.slice(-3)).toEqual([true, false, false]);
    const running = loop.run();
    const clients: Client[] = [];
    const isEdge: (boolean | undefined)[] = [];
    for (const [i, listener] of server.listeners.entries()) {
      clients.push(new Client(listener));
      await until(() => server.connections.size === i + 1, "a connection");
      isEdge.push(added.at(-1));
    }
    expect(isEdge).toEqual([false, false, true]);
    await server.stop();
    await Promise.all(clients.map(({ over }) => over));
    loop.stop();
    await running;
    await loop.close();
  });

  test("listen() that fails changes nothing", async () => {
    await using server = serve(says("ok"));
    expect(() => server.listen({ port: portOf(server) })).toThrow(/EADDRINUSE/);
    expect(() => server.listen({ backlog: 0 })).toThrow(RangeError);
    const adopted = disown(tcpListener());
    server.listen({ fd: adopted });
    expect(() => server.listen({ fd: adopted })).toThrow(/EEXIST/);
    const clients = clientsOf(server);
    expect(clients).toHaveLength(2);
    for (const client of clients) await client.ask("?", "ok");
    for (const { socket } of clients) socket.destroy();
  });
});
