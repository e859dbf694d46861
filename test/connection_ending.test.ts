/** The ways a connection ends: what is still delivered, what the peer sees, and the reason that `close` is told. */
import { describe, expect, test } from "vitest";
import { SHUT } from "../ffi/constants.ts";
import { ERRNO } from "../ffi/errno.ts";
import { realSyscalls, recv, send, shutdown } from "../ffi/syscalls.ts";
import { ConnectionError } from "../src/close_reason.ts";
import { closeNow, expectNoLeak } from "./support/descriptors.ts";
import { ManualHost } from "./support/hosts.ts";
import { block, receiveAll, type Rig, rig, turnUntil, turnUntilQuiet } from "./support/loops.ts";
import { pattern } from "./support/patterns.ts";
import { bytes, ready, reset, text } from "./support/sockets.ts";

expectNoLeak();

/** What recv(2) says at the peer once everything is read. */
function lastWord(peer: number): number {
  const buffer = bytes(64 * 1024);
  for (;;) {
    ready(peer);
    const received = recv(peer, buffer);
    if (received <= 0) return received;
  }
}

function untilClosed<T>({ loop, log }: Rig<T>): void {
  turnUntil(loop, () => log.some((line) => line.startsWith("close")), "close");
}

describe.each(["level", "edge"] as const)("Connection, %s-triggered, tells close why it ended:", (trigger) => {
  test("the peer ended its stream: end", () =>
    rig({ trigger }, {}, (r) => {
      closeNow(r.peer);
      untilClosed(r);
      expect(r.reasons).toEqual(["end"]);
    }));

  test("we ended, then the peer: end", () =>
    rig({ trigger }, {}, (r) => {
      r.connection.end("bye");
      r.loop.turn(0);
      expect(r.connection.state).toBe("ended");
      expect(text(receiveAll(r.peer))).toBe("bye");
      closeNow(r.peer);
      untilClosed(r);
      expect(r.reasons).toEqual(["end"]);
    }));

  test("the peer broke it off: reset", () =>
    rig({ trigger }, {}, (r) => {
      reset(r.peer);
      untilClosed(r);
      expect(r.log.at(-1)).toBe("close ECONNRESET");
      expect(r.reasons).toEqual(["reset"]);
    }));

  test("the peer has gone, on a Unix socket, while a cork or a rate holds bytes for it: reset, as they are lost", async () => {
    for (const bytesOutPerSecond of [10, undefined]) {
      await rig({ trigger, over: "unix", allowHalfOpen: true, bytesOutPerSecond }, {}, (r) => {
        if (bytesOutPerSecond === undefined) r.connection.cork();
        r.connection.write(bytes(100));
        r.loop.turn(0);
        receiveAll(r.peer);
        closeNow(r.peer);
        untilClosed(r);
        expect([r.log.at(-1), r.reasons]).toEqual(["close EPIPE", ["reset"]]);
        expect(r.connection.bytesSent + r.connection.bytesDropped).toBe(100);
      });
    }
  });

  test("our side: close, with an error of its own or without, and abort", async () => {
    for (const error of [undefined, new Error("mine")]) {
      await rig({ trigger }, {}, (r) => {
        r.connection.close(error);
        r.loop.turn(0);
        expect(r.log.at(-1)).toBe(error === undefined ? "close" : "close mine");
        expect(r.reasons).toEqual(["close"]);
      });
      await rig({ trigger }, {}, (r) => {
        r.connection.abort(error);
        r.connection.abort();
        r.loop.turn(0);
        expect(r.log.at(-1)).toBe(error === undefined ? "close" : "close mine");
        expect(r.reasons).toEqual(["abort"]);
        expect(lastWord(r.peer)).toBe(-ERRNO.ECONNRESET[0]);
      });
    }
  });

  test.each(["open", "data", "drain", "end"] as const)(
    "what %s threw: handler error",
    (name) =>
      rig({ trigger, highWaterBytes: 1 }, {
        [name]() {
          throw new Error("mine");
        },
      }, (r) => {
        r.connection.cork();
        r.connection.write("x"); // says false, so that drain is due
        r.connection.uncork();
        r.loop.turn(0);
        receiveAll(r.peer);
        send(r.peer, bytes("x"), 0x4000);
        shutdown(r.peer, SHUT.wr);
        untilClosed(r);
        expect(r.log.at(-1)).toBe("close mine");
        expect(r.reasons).toEqual(["handler error"]);
      }),
  );

  test("epoll refuses to watch it on: failure", () => {
    let isRefused = false;
    const epollCtl: typeof realSyscalls.epollCtl = (...call) =>
      isRefused ? -ERRNO.ENOMEM[0] : realSyscalls.epollCtl(...call);
    return rig({ trigger, sys: { epollCtl } }, {}, (r) => {
      isRefused = true;
      r.connection.write(pattern(32 * 1024 * 1024)); // more than fits: room is to be waited for
      isRefused = false;
      r.loop.turn(0);
      expect(r.log.at(-1)).toBe("close ENOMEM");
      expect(r.reasons).toEqual(["failure"]);
      expect(lastWord(r.peer)).toBe(-ERRNO.ECONNRESET[0]);
    });
  });

  // The peer read an end of stream, and could not know that something was missing.
  test("a handler that throws while bytes are queued has the peer see a reset, and none where all is sent", async () => {
    for (const isBehind of [true, false]) {
      await rig({ trigger }, {
        data() {
          throw new Error("mine");
        },
      }, (r) => {
        if (isBehind) block(r);
        else r.connection.write("all of it");
        send(r.peer, bytes("x"));
        untilClosed(r);
        expect(r.connection.bytesDropped > 0).toBe(isBehind);
        expect(lastWord(r.peer)).toBe(isBehind ? -ERRNO.ECONNRESET[0] : 0);
      });
    }
  });
});

describe.each(["level", "edge"] as const)("Connection, %s-triggered, with its peer gone:", (trigger) => {
  test("what the peer sent before its reset is delivered, then the reset, although we write", () =>
    rig({ trigger }, {}, (r) => {
      send(r.peer, bytes("last words"));
      reset(r.peer);
      r.connection.write("too late");
      untilClosed(r);
      expect(r.log).toEqual(["open", "data 10", "close ECONNRESET"]);
      expect(r.reasons).toEqual(["reset"]);
      expect(r.connection.bytesDropped).toBe(8);
    }));

  test("the same over a Unix socket, where a write fails at once", () =>
    rig({ trigger, over: "unix" }, {}, async (r) => {
      send(r.peer, bytes("last words"));
      closeNow(r.peer);
      r.connection.write("too late");
      await Promise.resolve();
      expect(r.connection.state).toBe("ended");
      expect(r.connection.write("and later still")).toBe(false);
      untilClosed(r);
      expect(r.log).toEqual(["open", "data 10", "close EPIPE"]);
      expect(r.connection.bytesDropped).toBe(8 + 15);
    }));

  test("pending input longer than the read budget is delivered whole", () =>
    rig({ trigger, over: "unix" }, {}, (r) => {
      let sent = 0;
      for (let n = send(r.peer, pattern(65_536), 0x40); n > 0; n = send(r.peer, pattern(65_536), 0x40)) sent += n;
      closeNow(r.peer);
      r.connection.write("x");
      untilClosed(r);
      expect(r.connection.bytesReceived).toBe(sent);
    }));

  test("paused with bytes queued, it closes at once: nobody would resume it", () =>
    rig({ trigger }, {}, (r) => {
      block(r);
      r.connection.pause();
      send(r.peer, bytes("unread"));
      reset(r.peer);
      untilClosed(r);
      expect(r.log).toEqual(["open", "close ECONNRESET"]);
    }));

  test("pause() while its rate holds the rest back closes it: nobody would resume it", () => {
    const host = new ManualHost();
    return rig({ trigger, over: "unix", bytesInPerSecond: 10, host }, {}, (r) => {
      send(r.peer, bytes("more than ten bytes"));
      turnUntilQuiet(r.loop);
      closeNow(r.peer);
      r.connection.write("x");
      turnUntilQuiet(r.loop);
      expect(r.connection.state).toBe("ended");
      r.connection.pause();
      turnUntilQuiet(r.loop);
      expect(r.log).toEqual(["open", "data 10", "close EPIPE"]);
    });
  });

  test("a peer that has only ceased to read is told of when all it sent is delivered, be it held to a rate", () => {
    const host = new ManualHost();
    return rig({ trigger, over: "unix", bytesInPerSecond: 10, host }, {}, (r) => {
      send(r.peer, bytes("more than ten bytes"));
      turnUntilQuiet(r.loop);
      shutdown(r.peer, SHUT.rd);
      r.connection.write("x");
      turnUntilQuiet(r.loop);
      expect(r.connection.state).toBe("ended");
      host.clockMs += 1_000;
      turnUntilQuiet(r.loop);
      expect(r.log).toEqual(["open", "data 10", "data 9", "close EPIPE"]);
    });
  });

  test("a handler that pauses between its failed write and the end closes it too", () =>
    rig({ trigger, over: "unix" }, {
      data(connection) {
        connection.pause();
      },
    }, async (r) => {
      send(r.peer, bytes("a"));
      closeNow(r.peer);
      r.connection.write("x");
      await Promise.resolve();
      untilClosed(r);
      expect(r.log).toEqual(["open", "data 1", "close EPIPE"]);
    }));
});

describe("Connection.close()", () => {
  test("offers what was written in this turn to the kernel, once", () =>
    rig({}, {}, ({ loop, connection, peer }) => {
      connection.write("goodbye");
      connection.close();
      expect(connection.bytesSent).toBe(7);
      expect(text(receiveAll(peer))).toBe("goodbye");
      loop.turn(0);
    }));

  test("drops what was queued before, and counts it", () =>
    rig({}, {}, ({ loop, connection }) => {
      block({ connection });
      const { queuedBytes } = connection;
      connection.close();
      expect(connection.queuedBytes).toBe(0);
      expect(connection.bytesDropped).toBe(queuedBytes);
      loop.turn(0);
    }));

  test("what a handler throws, or rejects with, after it goes to onError", () =>
    rig({}, {
      async data(connection) {
        connection.close();
        await Promise.resolve();
        throw new Error("late");
      },
    }, async ({ loop, peer, log, reasons, errors }) => {
      send(peer, bytes("x"));
      turnUntil(loop, () => log.includes("close"), "close");
      await new Promise((resolve) => setTimeout(resolve, 0));
      expect(reasons).toEqual(["close"]);
      expect((errors as Error[]).map(({ message }) => message)).toEqual(["late"]);
    }));

  test("every method is legal after it, and changes nothing", () =>
    rig({}, {}, ({ loop, connection, log }) => {
      connection.close();
      connection.cork();
      expect(connection.write("x")).toBe(false);
      expect(connection.writev(["x", pattern(10_000)])).toBe(false);
      connection.uncork();
      connection.pause();
      connection.resume();
      connection.unread(bytes("x"));
      connection.progress(1);
      connection.setHandlers({});
      connection.end("x");
      connection.finish();
      connection.abort();
      connection.close();
      loop.turn(0);
      turnUntilQuiet(loop);
      expect(log).toEqual(["open"]); // its `close` handler was replaced
      expect(connection.bytesDropped).toBe(1 + 10_001 + 1);
      expect(connection.state).toBe("closed");
      expect([connection.isPaused, connection.queuedBytes]).toEqual([false, 0]);
    }));
});

describe("Connection.finish()", () => {
  test("sends all, waits until the peer's kernel has it, and closes without a reset, whatever the peer sends", () =>
    rig({}, {}, (r) => {
      const size = 8_000_000;
      r.connection.write(pattern(size));
      r.connection.finish();
      let received = 0;
      let isReset = false;
      turnUntil(r.loop, () => {
        isReset ||= send(r.peer, bytes("noise"), 0x4000 | 0x40) === -ERRNO.ECONNRESET[0];
        received += receiveAll(r.peer).byteLength;
        return received === size && r.connection.state === "closed";
      }, "everything at the peer");
      r.loop.turn(0);
      expect(r.reasons).toEqual(["close"]);
      expect(r.log.filter((line) => line.startsWith("data"))).toEqual([]);
      expect(isReset).toBe(false);
    }));

  test("closes after timeoutMs if the peer acknowledges nothing, and looks again and again until then", () => {
    const host = new ManualHost();
    const sys = { getsockopt: (_fd: number, _level: number, _name: number, value: Uint8Array) => (value[0] = 4, 104) };
    return rig({ host, sys }, {}, (r) => {
      r.connection.finish({ timeoutMs: 100 });
      r.loop.turn(0);
      expect(r.connection.state).toBe("ended");
      for (host.clockMs += 99; r.loop.turn(0);) expect(r.connection.state).toBe("ended");
      host.clockMs += 1;
      r.loop.turn(0);
      expect(r.log).toEqual(["open", "close"]);
    });
  });

  test("the peer's end closes it at once", () =>
    rig({}, {}, (r) => {
      send(r.peer, pattern(1000));
      r.connection.finish({ timeoutMs: 60_000 });
      closeNow(r.peer);
      untilClosed(r);
      expect(r.log).toEqual(["open", "close"]);
    }));

  test("leaves the bytes alone that a handler has on loan", () => {
    const lent: string[] = [];
    return rig({ over: "unix", bytesInPerSecond: 5 }, {
      data(connection, chunk) {
        connection.finish({ timeoutMs: 0 });
        lent.push(text(chunk));
      },
    }, (r) => {
      send(r.peer, bytes("firstOTHER"));
      untilClosed(r);
      expect(lent).toEqual(["first"]);
    });
  });

  test("a peer that resets is told of", () =>
    rig({}, {}, (r) => {
      block(r);
      r.connection.finish();
      r.loop.turn(0);
      reset(r.peer);
      untilClosed(r);
      expect(r.reasons).toEqual(["reset"]);
    }));

  test("paused or not, in any handler, twice: once is what counts", async () => {
    for (const isPaused of [true, false]) {
      await rig({}, {
        data(connection, chunk) {
          connection.write(chunk);
          if (isPaused) connection.pause();
          connection.finish();
          connection.finish({ timeoutMs: 0 });
        },
      }, (r) => {
        send(r.peer, bytes("echo"));
        untilClosed(r);
        expect(text(receiveAll(r.peer))).toBe("echo");
        expect(r.log).toEqual(["open", "data 4", "close"]);
      });
    }
  });

  test("waits for no message of the peer: timeouts of reading do not run any more", () => {
    const host = new ManualHost();
    return rig({ host, handshakeTimeoutMs: 10, readTimeoutMs: 10 }, {}, (r) => {
      block(r);
      r.connection.pause();
      r.connection.finish();
      r.connection.resume();
      host.clockMs += 1_000;
      turnUntilQuiet(r.loop);
      expect(r.connection.state).toBe("ending");
    });
  });

  test("refuses wrong options", () =>
    rig({}, {}, ({ connection }) => {
      expect(() => connection.finish({ timeoutMs: -1 })).toThrow(RangeError);
      expect(() => connection.finish({ afterMs: 1 } as object)).toThrow(/there is no option "afterMs"/);
    }));
});

describe("Connection.unread() and setHandlers()", () => {
  test.each(["level", "edge"] as const)("a protocol changes without losing a byte, %s-triggered", (trigger) => {
    const seen: string[] = [];
    return rig({ trigger }, {
      data(connection, chunk) {
        const line = text(chunk);
        const at = line.indexOf("\n");
        seen.push(`old ${line.slice(0, at)}`);
        connection.setHandlers({
          data: (_, rest) => void seen.push(`new ${text(rest)}`),
          end: () => void seen.push("new end"),
        });
        connection.unread(chunk.subarray(at + 1));
        send(peerOf!, bytes(" more"));
      },
    }, (r) => {
      peerOf = r.peer;
      send(r.peer, bytes("UPGRADE\nfirst bytes"));
      turnUntil(r.loop, () => seen.join("").includes("more"), "everything");
      closeNow(r.peer);
      turnUntil(r.loop, () => r.connection.state === "closed", "the end");
      expect(seen.join("|")).toBe("old UPGRADE|new first bytes|new  more|new end");
    });
  });
  let peerOf: number | undefined;

  test("what is given back twice is delivered in order, before the end of the stream", () => {
    const seen: string[] = [];
    return rig({}, {
      data(connection, chunk) {
        seen.push(text(chunk));
        if (seen.length > 1) return;
        connection.unread(chunk.subarray(2));
        connection.unread(chunk.subarray(0, 2));
      },
    }, (r) => {
      send(r.peer, bytes("abcd"));
      closeNow(r.peer);
      untilClosed(r);
      expect(seen).toEqual(["abcd", "abcd"]);
      expect(r.log).toEqual(["open", "data 4", "data 4", "end", "close"]);
    });
  });

  test("what is given back waits for resume()", () =>
    rig({}, {}, (r) => {
      r.connection.pause();
      r.connection.unread(bytes("later"));
      turnUntilQuiet(r.loop);
      expect(r.log).toEqual(["open"]);
      r.connection.resume();
      turnUntilQuiet(r.loop);
      expect(r.log).toEqual(["open", "data 5"]);
    }));

  test("who gives everything back for ever does not keep the loop from others", () =>
    rig({}, {
      data: (connection, chunk) => connection.unread(chunk),
    }, (r) => {
      send(r.peer, bytes("again"));
      turnUntil(r.loop, () => r.log.length > 5, "a few deliveries");
      let isTold = false;
      r.loop.setTimer(0, () => isTold = true);
      turnUntil(r.loop, () => isTold, "a timer");
      expect(r.log.length).toBeLessThan(100);
    }));

  // As many zeros were delivered as an ArrayBuffer has bytes.
  test("unread() refuses what is no Uint8Array, and changes nothing", () =>
    rig({}, {}, ({ connection, loop, log }) => {
      for (const chunk of [new ArrayBuffer(3), Int32Array.of(1), "text", undefined] as unknown[]) {
        expect(() => connection.unread(chunk as Uint8Array)).toThrow(
          new TypeError("Cannot unread: the bytes must be a Uint8Array"),
        );
      }
      turnUntilQuiet(loop);
      expect(log).toEqual(["open"]);
    }));

  test("setHandlers() refuses what is no function, and keeps the old ones", () =>
    rig({}, {}, ({ connection, loop, peer, log }) => {
      expect(() => connection.setHandlers({ data: "echo" as never })).toThrow(/Cannot use data "echo"/);
      send(peer, bytes("x"));
      turnUntil(loop, () => log.includes("data 1"), "data");
    }));
});

describe("Connection, read about:", () => {
  test("bytes in and out, age, and time since it was busy", () => {
    const host = new ManualHost();
    return rig({ host }, {}, ({ loop, connection, peer }) => {
      host.clockMs += 50;
      expect([connection.ageMs, connection.idleMs]).toEqual([50, 50]);
      send(peer, bytes("abc"));
      ready(peer, 4);
      turnUntil(loop, () => connection.bytesReceived === 3, "bytes");
      host.clockMs += 7;
      expect([connection.ageMs, connection.idleMs]).toEqual([57, 7]);
      connection.write("defgh");
      expect(connection.bytesSent).toBe(0);
      loop.turn(0);
      expect([connection.bytesReceived, connection.bytesSent, connection.idleMs]).toEqual([3, 5, 0]);
    });
  });

  test("a ConnectionError names the limit and the reason", () => {
    const error = new ConnectionError("timeout", "Cannot keep a connection");
    expect(error).toBeInstanceOf(Error);
    expect([error.name, error.reason, error.message]).toEqual([
      "ConnectionError",
      "timeout",
      "Cannot keep a connection",
    ]);
  });
});
