import { expect, test } from "vitest";
import { SHUT } from "../ffi/constants.ts";
import { realSyscalls, send, shutdown } from "../ffi/syscalls.ts";
import { Connection } from "../src/connection.ts";
import { type ConnectionHandlers, type ConnectionOptions, resolveConnection } from "../src/connection_options.ts";
import { EventLoop } from "../src/loop.ts";
import { closeNow, disown, expectNoLeak } from "./support/descriptors.ts";
import { ManualHost } from "./support/hosts.ts";
import { turnUntil, turnUntilQuiet } from "./support/loops.ts";
import { bytes, socketPair, tcpPair } from "./support/sockets.ts";

expectNoLeak();

interface Scene {
  readonly loop: EventLoop;
  readonly host: ManualHost;
  readonly errors: unknown[];
  /** Makes a connection; what its `close` handler is told is appended to `ends`. */
  readonly connect: (options: ConnectionOptions, handlers: ConnectionHandlers, pair?: [number, number]) => {
    connection: Connection;
    peer: number;
  };
  readonly ends: string[];
  /** Lets `ms` pass, then tells whoever waited for it. */
  readonly passMs: (ms: number) => void;
}

async function scene(test: (scene: Scene) => void): Promise<void> {
  const [errors, ends, host]: [unknown[], string[], ManualHost] = [[], [], new ManualHost()];
  const onError = (error: unknown) => void errors.push(error);
  const loop = new EventLoop({ onError }, realSyscalls, host);
  const connections: Connection[] = [];
  try {
    test({
      ...{ loop, host, errors, ends },
      connect(options, handlers, [peer, fd] = socketPair()) {
        const close = (_: Connection, __: unknown, reason: string) => void ends.push(reason);
        const settings = resolveConnection(options, { ...handlers, close }, onError);
        const connection = new Connection(loop, disown(fd), settings);
        connections.push(connection);
        return { connection, peer };
      },
      passMs(ms) {
        host.clockMs += ms;
        turnUntilQuiet(loop);
      },
    });
  } finally {
    for (const connection of connections) connection.close();
    turnUntilQuiet(loop);
    await loop.close();
  }
  expect(errors).toEqual([]);
}

// A drain handler, or whoever waited for something, resumes a connection that was closed meanwhile.
test("resume() after the end sets no timer", () =>
  scene(({ loop, connect, ends, passMs }) => {
    const { connection, peer } = connect({ readTimeoutMs: 100 }, { data: (connection) => connection.pause() });
    send(peer, bytes("half a mess"));
    turnUntil(loop, () => connection.isPaused, "the message");
    connection.close();
    connection.resume();
    passMs(1_000);
    expect(ends).toEqual(["close"]);
  }));

// The time of a message that was said to have begun ran on a timer only if another deadline had left one.
test("progress() with unfinished bytes starts the time of the next message, whenever it is called", () =>
  scene(({ loop, connect, ends, passMs }) => {
    const { connection, peer } = connect({ readTimeoutMs: 100 }, { data: (connection) => connection.progress() });
    send(peer, bytes("a message, and a half"));
    turnUntil(loop, () => connection.bytesReceived > 0, "the message");
    passMs(200);
    connection.progress(6);
    passMs(99);
    expect(ends).toEqual([]);
    passMs(1);
    expect(ends).toEqual(["timeout"]);
  }));

// The queue of one whose peer is gone was counted until it was closed, and its clocks ran on: it seemed a slow reader.
test("limits of queues do not count what was dropped when the peer was found gone", () =>
  scene(({ loop, host, connect, ends }) => {
    const slowly = { bytesInPerSecond: 1, slowReaderMs: 1_000, writeTimeoutMs: 2_000 };
    const { connection, peer } = connect(slowly, {}, tcpPair());
    connection.write(bytes(8 * 1024 * 1024));
    expect(connection.queuedBytes).toBeGreaterThan(1024 * 1024);
    expect(loop.queueBudget.queuedBytes).toBe(connection.queuedBytes);
    send(peer, bytes("last words, read at their rate"));
    turnUntil(loop, () => connection.bytesReceived === 1, "the first of them");
    closeNow(peer); // with unread bytes: a reset
    turnUntil(loop, () => connection.queuedBytes === 0, "the queue dropped");
    expect(loop.queueBudget.queuedBytes).toBe(0);
    turnUntil(loop, () => {
      host.clockMs += 1_000;
      return ends.length > 0;
    }, "the end");
    expect(ends).toEqual(["reset"]);
    expect(connection.bytesReceived).toBe(30);
  }));

// The pause was added to the time of a message that began in it.
test("progress() while reading is paused: the next message has its time from resume() on, and no more", () =>
  scene(({ loop, host, connect, ends, passMs }) => {
    const { connection, peer } = connect({ readTimeoutMs: 100 }, { data: (connection) => connection.pause() });
    send(peer, bytes("a message, and a half"));
    turnUntil(loop, () => connection.isPaused, "the message");
    host.clockMs += 60_000;
    connection.progress(6);
    connection.resume();
    passMs(99);
    expect(ends).toEqual([]);
    passMs(1);
    expect(ends).toEqual(["timeout"]);
  }));

// Our answer was cut off for a message that could not become whole any more.
test("timeouts of reading are over with the peer's stream", () =>
  scene(({ loop, connect, ends, passMs }) => {
    const { connection, peer } = connect({ readTimeoutMs: 100, handshakeTimeoutMs: 100, allowHalfOpen: true }, {});
    send(peer, bytes("half a mess"));
    shutdown(peer, SHUT.wr);
    turnUntil(loop, () => connection.bytesReceived > 0, "the message");
    turnUntilQuiet(loop);
    passMs(1_000);
    expect(ends).toEqual([]);
    connection.end("our answer");
    turnUntil(loop, () => ends.length > 0, "the end");
    expect(ends).toEqual(["end"]);
  }));

test("the longest timeout there is may begin at any fraction of a millisecond", () =>
  scene(({ host, connect, passMs, ends }) => {
    host.clockMs += 0.25;
    connect({ idleTimeoutMs: 2 ** 31 - 1, handshakeTimeoutMs: 2 ** 31 - 1 }, {});
    passMs(2 ** 31 - 2);
    expect(ends).toEqual([]);
    passMs(2);
    expect(ends).toEqual(["timeout"]);
  }));

// It is late to read, so the peer does not pay for it; but that would never end.
test.each(["level", "edge"] as const)(
  "readTimeoutMs ends a message that comes faster than it is read, after once more that time: %s-triggered",
  (trigger) =>
    scene(({ loop, host, connect, ends }) => {
      const { connection, peer } = connect({ trigger, readTimeoutMs: 100 }, {
        data() {
          host.clockMs += 60;
          send(peer, bytes("and more"));
        },
      }, tcpPair());
      send(peer, bytes("a message that has no end"));
      for (let i = 0; i < 100 && ends.length === 0; i++) loop.turn(0);
      expect(ends).toEqual(["timeout"]);
      expect(connection.bytesReceived).toBeGreaterThan(bytes("a message that has no endand more").length);
    }),
);
