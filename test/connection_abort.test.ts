/** abort(): what the peer sees, whatever went before it. */
import { describe, expect, test } from "vitest";
import { POLL, SHUT } from "../ffi/constants.ts";
import { errnoName } from "../ffi/errno.ts";
import { realSyscalls, recv, send, shutdown } from "../ffi/syscalls.ts";
import { type CloseReason, connect, Connection, EventLoop, resolveConnection, serve } from "../mod.ts";
import { socketError } from "../src/socket.ts";
import { disown, expectNoLeak } from "./support/descriptors.ts";
import { rig, turnUntil, turnUntilQuiet } from "./support/loops.ts";
import { bytes, ready, tcpPair } from "./support/sockets.ts";

expectNoLeak();

/** What the kernel holds against `peer`, once it holds something. */
function errorOf(peer: number): string {
  ready(peer, POLL.err);
  return errnoName(socketError(peer, realSyscalls));
}

describe.each(["level", "edge"] as const)("abort(), %s-triggered,", (trigger) => {
  test("drops what was written, and the peer reads a reset", () => {
    const reasons: CloseReason[] = [];
    return rig(
      { trigger },
      { close: (_, __, reason) => void reasons.push(reason) },
      ({ loop, connection, peer, log }) => {
        for (let i = 0; i < 4; i++) connection.write("PING");
        connection.abort();
        connection.abort(new Error("twice is nothing"));
        expect([connection.state, connection.queuedBytes, connection.write("x")]).toEqual(["closed", 0, false]);
        turnUntilQuiet(loop);
        expect([log, reasons]).toEqual([["open", "close"], ["abort"]]);
        ready(peer);
        expect(errnoName(-recv(peer, bytes(8)))).toBe("ECONNRESET");
      },
    );
  });

  test("with more queued than the kernel takes drops it, and resets", () =>
    rig({ trigger }, {}, ({ loop, connection, peer, log }) => {
      connection.write(bytes(10_000_000));
      loop.turn(0);
      expect(connection.queuedBytes).toBeGreaterThan(0);
      connection.abort();
      turnUntilQuiet(loop);
      expect([log, connection.queuedBytes, errorOf(peer)]).toEqual([["open", "close"], 0, "ECONNRESET"]);
    }));

  test("after end() resets all the same, whether the end has left or not", async () => {
    for (const hasLeft of [false, true]) {
      await rig({ trigger }, {}, ({ loop, connection, peer, log }) => {
        connection.end("last");
        if (hasLeft) turnUntil(loop, () => connection.state === "ended", "the end of our stream");
        connection.abort();
        turnUntilQuiet(loop);
        expect(log).toEqual(["open", "close"]);
        expect(["ECONNRESET", "EPIPE"]).toContain(errorOf(peer));
      });
    }
  });

  test("after the peer's end resets", () =>
    rig({ trigger, allowHalfOpen: true }, { end: (connection) => connection.abort() }, ({ loop, peer, log }) => {
      send(peer, bytes("last words"));
      shutdown(peer, SHUT.wr);
      turnUntil(loop, () => log.includes("close"), "close");
      expect(log).toEqual(["open", "data 10", "end", "close"]);
      expect(errorOf(peer)).toBe("ECONNRESET");
    }));

  test("after somebody shut the socket down closes, once", async () => {
    const [, fd] = tcpPair();
    const loop = new EventLoop();
    const reasons: CloseReason[] = [];
    const handlers = { close: (_: Connection, __: unknown, reason: CloseReason) => void reasons.push(reason) };
    const connection: Connection = new Connection(loop, disown(fd), resolveConnection({ trigger }, handlers, () => {}));
    shutdown(fd, SHUT.rdwr);
    connection.abort();
    turnUntilQuiet(loop);
    expect(reasons).toEqual(["abort"]);
    await loop.close();
  });

  test("over a Unix socket, which knows no reset, ends the stream", () =>
    rig({ trigger, over: "unix" }, {}, ({ loop, connection, peer, log }) => {
      connection.write("dropped");
      connection.abort();
      turnUntilQuiet(loop);
      expect([log, recv(peer, bytes(8))]).toEqual([["open", "close"], 0]);
    }));

  test("of a client is a reset at the server, whether the client has ended or not", async () => {
    const reasons: string[] = [];
    let told: () => void;
    await using server = serve({
      trigger,
      data: (connection, chunk) => void connection.write(chunk),
      close(_, error, reason) {
        reasons.push(`${reason} ${(error as { code?: string } | undefined)?.code}`);
        told();
      },
    });
    const { address, loop } = server;
    for (const hasEnded of [false, true]) {
      const over = new Promise<void>((resolve) => told = resolve);
      // The server's end is not read: it answers, and waits for the client to take it.
      const client = await connect({
        loop,
        trigger,
        allowHalfOpen: true,
        port: address.transport === "tcp" ? address.port : 0,
        data(connection) {
          if (hasEnded) connection.end();
          connection.abort();
        },
      });
      client.write("hello");
      await over;
      expect(client.state).toBe("closed");
    }
    expect(reasons).toEqual(["reset ECONNRESET", "reset ECONNRESET"]);
  });
});
