/** Timeouts and rates, on a clock that the test moves. */
import { describe, expect, test } from "vitest";
import { ERRNO } from "../ffi/errno.ts";
import { MSG } from "../ffi/constants.ts";
import { realSyscalls, recv, send } from "../ffi/syscalls.ts";
import { resolveConnection } from "../src/connection_options.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { ManualHost } from "./support/hosts.ts";
import { block, receiveAll, type Rig, rig, type RigOptions, turnUntil, turnUntilQuiet } from "./support/loops.ts";
import { expectPattern, pattern } from "./support/patterns.ts";
import { bytes, ready } from "./support/sockets.ts";

expectNoLeak();

/** A rig whose clock stands until `passMs` moves it. */
interface TimeRig extends Rig<undefined> {
  readonly host: ManualHost;
  /** Lets `ms` pass, then tells whoever waited for it. */
  passMs(ms: number): void;
  /** Has the peer send, and the loop read. */
  receive(text: string): void;
}

function timeRig(
  options: RigOptions,
  test: (rig: TimeRig) => void | Promise<void>,
  handlers: Parameters<typeof rig>[1] = {},
): Promise<void> {
  const host = new ManualHost();
  return rig({ host, ...options }, handlers as Parameters<typeof rig<undefined>>[1], (r) =>
    test({
      ...r,
      host,
      passMs(ms) {
        host.clockMs += ms;
        while (r.loop.turn(0));
      },
      receive(text) {
        const before = r.connection.bytesReceived;
        send(r.peer, bytes(text), MSG.nosignal);
        turnUntil(r.loop, () => r.connection.bytesReceived === before + text.length, "bytes");
        turnUntilQuiet(r.loop);
      },
    }));
}

describe.each(["level", "edge"] as const)("Connection, %s-triggered, with", (trigger) => {
  test("idleTimeoutMs is closed when nothing was received or sent for so long, and not before", () =>
    timeRig({ trigger, idleTimeoutMs: 100 }, ({ connection, reasons, log, passMs, receive, loop }) => {
      passMs(99);
      receive("x");
      passMs(99);
      connection.write("y");
      loop.turn(0);
      passMs(99);
      expect(connection.state).toBe("open");
      passMs(1);
      expect(reasons).toEqual(["timeout"]);
      expect(log.at(-1)).toBe(
        "close Cannot keep a connection on which nothing was received or sent for 100 ms (idleTimeoutMs)",
      );
    }));

  test("handshakeTimeoutMs is closed without a first byte, and stays with one", async () => {
    await timeRig({ trigger, handshakeTimeoutMs: 100 }, ({ connection, passMs, receive }) => {
      passMs(99);
      receive("x");
      passMs(1_000);
      expect(connection.state).toBe("open");
    });
    await timeRig({ trigger, handshakeTimeoutMs: 100 }, ({ connection, reasons, log, passMs, loop }) => {
      connection.write("welcome"); // ours are not the peer's
      loop.turn(0);
      passMs(100);
      expect(reasons).toEqual(["timeout"]);
      expect(log.at(-1)).toMatch(/whose peer sent nothing in its first 100 ms \(handshakeTimeoutMs\)$/);
    });
  });

  test("readTimeoutMs is closed when a message takes longer, however steadily it trickles in", () =>
    timeRig({ trigger, readTimeoutMs: 100 }, ({ connection, reasons, log, passMs, receive }) => {
      passMs(1_000); // no message has begun
      for (let i = 0; i < 9; i++) {
        receive(".");
        passMs(11);
      }
      expect(connection.state).toBe("open");
      receive(".");
      passMs(1);
      expect(reasons).toEqual(["timeout"]);
      expect(log.at(-1)).toMatch(/whose peer took more than 100 ms over one message \(readTimeoutMs\)$/);
    }));

  test("readTimeoutMs stays where messages are completed in time", () =>
    timeRig({ trigger, readTimeoutMs: 100 }, ({ connection, reasons, passMs, receive }) => {
      for (let i = 0; i < 5; i++) {
        receive("message");
        passMs(60);
        connection.progress(0);
        passMs(200); // between messages
      }
      receive("one and a half");
      passMs(60);
      connection.progress(6);
      passMs(99);
      expect(connection.state).toBe("open");
      passMs(1);
      expect(reasons).toEqual(["timeout"]);
    }));

  test("readTimeoutMs does not run while reading is paused, by us", () =>
    timeRig({ trigger, readTimeoutMs: 100, handshakeTimeoutMs: 100 }, ({ connection, reasons, passMs, receive }) => {
      connection.pause();
      passMs(1_000);
      connection.resume();
      passMs(50);
      receive("half");
      connection.pause();
      passMs(1_000);
      connection.resume();
      passMs(99);
      expect(connection.state).toBe("open");
      passMs(1);
      expect(reasons).toEqual(["timeout"]);
    }));

  test.each(["idleTimeoutMs", "readTimeoutMs", "handshakeTimeoutMs"] as const)(
    "%s does not close who has sent something in time, which we are late to read",
    async (name) => {
      let isBlind = false;
      const epollWait: typeof realSyscalls.epollWait = (...call) => isBlind ? 0 : realSyscalls.epollWait(...call);
      await timeRig(
        { trigger, [name]: 100, sys: { epollWait } },
        ({ connection, loop, peer, host, passMs, reasons }) => {
          if (name === "readTimeoutMs") {
            send(peer, bytes("a"), MSG.nosignal); // a message begins
            turnUntil(loop, () => connection.bytesReceived === 1, "the first byte");
          }
          send(peer, bytes("b"), MSG.nosignal);
          ready(peer, 4);
          isBlind = true; // more connections are ready than one batch holds, and others come first
          host.clockMs += 150;
          loop.turn(0);
          expect(connection.state).toBe("open");
          isBlind = false;
          turnUntilQuiet(loop);
          // The bytes end what was waited for, but for a message that has been under way for too long.
          expect(connection.state).toBe(name === "readTimeoutMs" ? "closed" : "open");
          passMs(100);
          expect(reasons).toEqual(name === "handshakeTimeoutMs" ? [] : ["timeout"]);
        },
      );
    },
  );

  test("readTimeoutMs stands still while the rate holds reading back, and runs for who trickles below it", async () => {
    await timeRig({ trigger, readTimeoutMs: 1_000, bytesInPerSecond: 10 }, ({ connection, peer, passMs, loop }) => {
      send(peer, bytes(30), MSG.nosignal); // takes 2 s at that rate
      turnUntil(loop, () => connection.bytesReceived === 10, "the burst");
      for (let i = 0; i < 25; i++) passMs(100);
      expect([connection.state, connection.bytesReceived]).toEqual(["open", 30]);
    });
    await timeRig({ trigger, readTimeoutMs: 1_000, bytesInPerSecond: 10 }, ({ connection, passMs, receive }) => {
      for (let i = 0; i < 4; i++) {
        receive(".");
        passMs(250);
      }
      expect(connection.state).toBe("closed");
    });
  });

  test("writeTimeoutMs cuts a peer off that takes nothing, with a reset, and not one that takes a little", () => {
    let isBlind = false;
    const epollWait: typeof realSyscalls.epollWait = (...call) => isBlind ? 0 : realSyscalls.epollWait(...call);
    return timeRig({ trigger, writeTimeoutMs: 100, sys: { epollWait } }, (r) => {
      const { connection, reasons, log, passMs, peer, loop } = r;
      block(r);
      for (let i = 0; i < 5; i++) {
        passMs(99);
        const before = connection.bytesSent;
        const buffer = bytes(1 << 20);
        turnUntil(loop, () => {
          recv(peer, buffer, MSG.dontwait);
          if (connection.queuedBytes === 0) block(r);
          return connection.bytesSent > before;
        }, "room");
        if (connection.queuedBytes === 0) block(r);
      }
      isBlind = true; // what the kernels acknowledge late, on their own clock, is no room on this one
      passMs(99);
      expect(connection.state).toBe("open");
      passMs(1);
      expect(reasons).toEqual(["timeout"]);
      expect(log.at(-1)).toMatch(/whose peer took nothing of what is queued for 100 ms \(writeTimeoutMs\)$/);
      let received: number;
      do received = recv(peer, bytes(1 << 16)); while (received > 0);
      expect(received).toBe(-ERRNO.ECONNRESET[0]);
    });
  });

  test("writeTimeoutMs does not run once the kernel has taken everything", () =>
    timeRig({ trigger, writeTimeoutMs: 100 }, (r) => {
      const written = block(r);
      let received = 0;
      turnUntil(r.loop, () => (received += receiveAll(r.peer).byteLength) === written, "everything");
      turnUntilQuiet(r.loop);
      r.passMs(1_000);
      expect(r.connection.state).toBe("open");
    }));

  test("slowReaderMs cuts a peer off whose queue stays at the high-water mark, and not one that comes back", () =>
    timeRig({ trigger, slowReaderMs: 100, highWaterBytes: 1 }, (r) => {
      const written = block(r);
      expect(r.connection.write("more")).toBe(false);
      r.passMs(99);
      let received = 0;
      turnUntil(r.loop, () => (received += receiveAll(r.peer).byteLength) === written + 4, "everything");
      turnUntilQuiet(r.loop);
      r.passMs(1_000);
      expect(r.connection.state).toBe("open");
      block(r);
      r.passMs(99);
      r.connection.write("on and on");
      expect(r.connection.state).toBe("open");
      r.passMs(1);
      expect(r.reasons).toEqual(["slow reader"]);
      expect(r.log.at(-1)).toMatch(/took more than 100 ms from highWaterBytes down to lowWaterBytes \(slowReaderMs\)$/);
    }));

  test("the timeout that is due first, whichever it is", () =>
    timeRig(
      { trigger, idleTimeoutMs: 500, readTimeoutMs: 300, handshakeTimeoutMs: 400 },
      ({ log, passMs, receive }) => {
        passMs(399);
        receive("x");
        passMs(299);
        expect(log).toEqual(["open", "data 1"]);
        passMs(1);
        expect(log.at(-1)).toMatch(/readTimeoutMs/);
      },
    ));

  test("bytesInPerSecond is read at that rate, with a burst of a second's worth, and without spinning", () =>
    timeRig({ trigger, bytesInPerSecond: 1000 }, ({ connection, loop, peer, passMs }) => {
      send(peer, pattern(5_000), MSG.nosignal);
      turnUntil(loop, () => connection.bytesReceived >= 1000, "the burst");
      turnUntilQuiet(loop);
      expect(connection.bytesReceived).toBe(1000);
      expect(loop.turn(0)).toBe(false);
      for (let i = 0; i < 10; i++) passMs(100);
      expect(connection.bytesReceived).toBe(2000);
      connection.pause();
      passMs(1000);
      expect(connection.bytesReceived).toBe(2000);
      connection.resume();
      turnUntilQuiet(loop);
      expect(connection.bytesReceived).toBe(3000);
      for (let i = 0; i < 40; i++) passMs(100);
      expect(connection.bytesReceived).toBe(5000);
    }));

  test("bytesInPerSecond is told of the peer's end and reset, in their turn", async () => {
    for (const how of ["shutdown", "reset"] as const) {
      await timeRig({ trigger, bytesInPerSecond: 100 }, ({ connection, loop, peer, passMs, log }) => {
        send(peer, pattern(250), MSG.nosignal);
        if (how === "shutdown") realSyscalls.shutdown(peer, 1);
        turnUntil(loop, () => connection.bytesReceived === 100, "the burst");
        turnUntilQuiet(loop);
        expect(loop.turn(0)).toBe(false);
        for (let i = 0; i < 30; i++) passMs(100);
        expect(connection.bytesReceived).toBe(250);
        expect(log.includes("end")).toBe(how === "shutdown");
      });
    }
  });

  test("bytesOutPerSecond is sent at that rate; the rest is queued, and the end follows it", () =>
    timeRig({ trigger, bytesOutPerSecond: 1000 }, ({ connection, loop, peer, passMs }) => {
      connection.write(pattern(2_500));
      connection.end();
      loop.turn(0);
      expect(connection.bytesSent).toBe(1000);
      expect(connection.queuedBytes).toBe(1500);
      expect(loop.turn(0)).toBe(false);
      for (let i = 0; i < 10; i++) passMs(100);
      expect(connection.bytesSent).toBe(2000);
      for (let i = 0; i < 5; i++) passMs(100);
      expect(connection.state).toBe("ended");
      ready(peer);
      expectPattern(receiveAll(peer));
    }));
});

describe("Timeouts", () => {
  test("are set anew by a store: one timer for each connection, however much is read and written", () =>
    timeRig({ idleTimeoutMs: 1_000, readTimeoutMs: 800, writeTimeoutMs: 900 }, (r) => {
      let timers = 0;
      const { schedule } = r.loop;
      r.loop.schedule = (...call) => (timers++, schedule.apply(r.loop, call));
      for (let i = 0; i < 500; i++) {
        r.receive("x");
        r.connection.progress();
        r.connection.write("y");
        r.loop.turn(0);
        r.passMs(10);
      }
      expect(r.connection.state).toBe("open");
      expect(timers).toBeGreaterThan(3); // 5 s of a 1 s timer
      expect(timers).toBeLessThan(20);
    }));

  test("are over with the connection, which leaves no timer behind", () =>
    timeRig({ idleTimeoutMs: 100, bytesInPerSecond: 1 }, ({ connection, loop, passMs, receive }) => {
      receive("x");
      connection.close();
      passMs(0);
      passMs(1_000);
      expect(loop.turn(0)).toBe(false);
    }));

  test("resolveConnection() checks them, and limits", () => {
    const resolve = (options: object) => () => resolveConnection(options, {}, () => {});
    for (const name of ["idleTimeoutMs", "readTimeoutMs", "writeTimeoutMs", "handshakeTimeoutMs", "slowReaderMs"]) {
      expect(resolve({ [name]: -1 })).toThrow(`Cannot use ${name} -1: it must be an integer, 0 to 2147483647`);
      expect(resolve({ [name]: 1.5 })).toThrow(RangeError);
      expect(resolve({ [name]: "1s" })).toThrow(TypeError);
    }
    expect(resolve({ bytesInPerSecond: 0 })).toThrow("it must be an integer, at least 1");
    expect(resolve({ maxQueuedBytes: 10, highWaterBytes: 11 })).toThrow("it must be an integer, at least 11");
    expect(resolveConnection({ idleTimeoutMs: 0 }, {}, () => {}).timeouts).toBeUndefined();
  });
});
