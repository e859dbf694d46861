import { Buffer } from "node:buffer";
import { describe, expect, test, vi } from "vitest";
import { ERRNO } from "../ffi/errno.ts";
import { MSG, O, SHUT, SO, SOL } from "../ffi/constants.ts";
import { encodeInt } from "../ffi/layout.ts";
import { open, realSyscalls, recv, send, sendmsg, setsockopt, shutdown } from "../ffi/syscalls.ts";
import { Connection } from "../src/connection.ts";
import { resolveConnection } from "../src/connection_options.ts";
import { NO_MEMORY_MS, READ_BUDGET_BYTES, RECEIVE_BUFFER_BYTES } from "../src/limits.ts";
import { EventLoop } from "../src/loop.ts";
import { closeNow, disown, expectNoLeak, openDescriptors, own } from "./support/descriptors.ts";
import { block, readAtPeer, receiveAll, rig, turnUntil, turnUntilQuiet } from "./support/loops.ts";
import { expectPattern, pattern } from "./support/patterns.ts";
import { bytes, messageWith, ready, reset, socketPair, tcpPair } from "./support/sockets.ts";

expectNoLeak();

/** Of a process that has little memory left. */
class SmallArrayBuffer extends ArrayBuffer {
  constructor(byteLength: number) {
    if (byteLength > 1024 * 1024) throw new RangeError("Array buffer allocation failed");
    super(byteLength);
  }
}

describe.each(["level", "edge"] as const)("Connection, %s-triggered,", (trigger) => {
  test("delivers what the peer sends, and nothing twice", () =>
    rig({ trigger }, {}, ({ loop, peer, log }) => {
      send(peer, bytes("hello"));
      turnUntil(loop, () => log.includes("data 5"), "data");
      turnUntilQuiet(loop);
      expect(log).toEqual(["open", "data 5"]);
    }));

  test("delivers pending input before the end of the stream, then closes", () =>
    rig({ trigger }, {}, ({ loop, peer, log }) => {
      send(peer, bytes("last words"));
      closeNow(peer);
      turnUntil(loop, () => log.includes("close"), "close");
      expect(log).toEqual(["open", "data 10", "end", "close"]);
    }));

  test("write() is sent when the turn is over, and reports room", () =>
    rig({ trigger }, {}, ({ loop, connection, peer }) => {
      expect(connection.write("grüße")).toBe(true);
      expect(connection.queuedBytes).toBe(7);
      loop.turn(0);
      expect(connection.queuedBytes).toBe(0);
      ready(peer);
      expect(new TextDecoder().decode(receiveAll(peer))).toBe("grüße");
    }));

  test("write() takes all of it: what the kernel does not take is copied and sent in order", () =>
    rig({ trigger }, {}, (r) => {
      const chunk = pattern(100_000);
      let written = 0;
      while (r.connection.queuedBytes < 300_000) {
        for (let i = 0; i < chunk.byteLength; i++) chunk[i] = ((written + i) * 2654435761) >>> 24;
        r.connection.write(chunk);
        written += chunk.byteLength;
        chunk.fill(0); // the caller's own again
      }
      expectPattern(readAtPeer(r, written));
      expect(r.connection.queuedBytes).toBe(0);
    }));

  test("write() says false at the high-water mark, and drain follows at the low one, once", () =>
    rig({ trigger, highWaterBytes: 200_000, lowWaterBytes: 50_000 }, {}, (r) => {
      let written = block(r);
      while (r.connection.write(pattern(10_000, written))) written += 10_000;
      written += 10_000;
      expect(r.connection.queuedBytes).toBeGreaterThanOrEqual(200_000);
      turnUntilQuiet(r.loop);
      expect(r.log).toEqual(["open"]);
      readAtPeer(r, written);
      expect(r.log).toEqual(["open", "drain"]);
    }));

  test("a short write at every offset loses and reorders nothing", async () => {
    const message = pattern(23);
    for (let most = 1; most <= message.byteLength; most++) {
      const short: typeof realSyscalls.send = (fd, source, flags, length = source.byteLength) =>
        realSyscalls.send(fd, source, flags, Math.min(most, length));
      await rig({ trigger, sys: { send: short } }, {}, (r) => {
        r.connection.write(message);
        r.connection.write(message);
        const all = readAtPeer(r, 46);
        expect(all.subarray(0, 23)).toEqual(new Uint8Array(message));
        expect(all.subarray(23)).toEqual(new Uint8Array(message));
      });
    }
  });

  test.each(["EAGAIN", "ENOBUFS", "ENOMEM"] as const)("send() refused once with %s is waited for like room", (name) => {
    let refusals = 1;
    const sendOrRefuse: typeof realSyscalls.send = (...call) =>
      refusals-- > 0 ? -ERRNO[name][0] : realSyscalls.send(...call);
    return rig({ trigger, sys: { send: sendOrRefuse } }, {}, (r) => {
      expect(r.connection.write("later")).toBe(true);
      r.loop.turn(0);
      expect(r.connection.queuedBytes).toBe(5);
      expect(readAtPeer(r, 5)).toEqual(new Uint8Array(bytes("later")));
    });
  });

  test.each(["ENOBUFS", "ENOMEM"] as const)(
    "a kernel without memory (%s) is asked again after a while only",
    (name) => {
      let isRefused = true;
      let calls = 0;
      const send: typeof realSyscalls.send = (...call) => {
        calls++;
        return isRefused ? -ERRNO[name][0] : realSyscalls.send(...call);
      };
      return rig({ trigger, sys: { send } }, {}, (r) => {
        const startedAt = performance.now();
        r.connection.write("later");
        while (calls < 5) r.loop.turn(0);
        expect(r.connection.queuedBytes).toBe(5);
        expect(performance.now() - startedAt).toBeGreaterThan(3 * NO_MEMORY_MS); // and not in each turn
        isRefused = false;
        expect(readAtPeer(r, 5)).toEqual(new Uint8Array(bytes("later")));
      });
    },
  );

  test("bytes behind a message that carries a descriptor are read", () =>
    rig({ trigger, over: "unix" }, {}, ({ loop, peer, connection }) => {
      const passed = own(open("/dev/null", O.rdonly | O.cloexec));
      for (const word of ["A", "C"]) {
        expect(sendmsg(peer, messageWith(word, passed))).toBe(1);
        send(peer, bytes("x"));
      }
      for (let i = 0; i < 100 && connection.bytesReceived < 4; i++) loop.turn(0);
      expect(connection.bytesReceived).toBe(4);
    }));

  test("a chunk that there is no memory for aborts: what follows must not look like the rest of it", () => {
    const chunk = pattern(32 * 1024 * 1024); // more than fits
    return rig({ trigger }, {}, (r) => {
      vi.stubGlobal("ArrayBuffer", SmallArrayBuffer);
      try {
        expect(() => r.connection.write(chunk)).toThrow("allocation failed");
      } finally {
        vi.unstubAllGlobals();
      }
      expect(r.connection.state).toBe("closed");
      expect(r.connection.write("next")).toBe(false);
      r.loop.turn(0);
      expect(r.log.at(-1)).toBe("close Array buffer allocation failed");
      expect(r.reasons).toEqual(["abort"]);
      while (recv(r.peer, bytes(1024 * 1024), 0) > 0);
      expect(recv(r.peer, bytes(1), 0)).toBe(0);
    });
  });

  test("a call interrupted by a signal is repeated", () => {
    let interruptions = 2;
    return rig(
      {
        trigger,
        sys: {
          send: (...call) => interruptions-- > 0 ? -ERRNO.EINTR[0] : realSyscalls.send(...call),
          recv: (fd, target, flags) => interruptions-- > 0 ? -ERRNO.EINTR[0] : realSyscalls.recv(fd, target, flags),
        },
      },
      {},
      ({ loop, connection, peer, log }) => {
        connection.write("x");
        loop.turn(0);
        ready(peer);
        interruptions = 2;
        send(peer, bytes("abc"));
        turnUntil(loop, () => log.includes("data 3"), "data");
      },
    );
  });

  test("write re-entered from drain keeps the order", () => {
    let more = 3;
    let written = 0;
    return rig({ trigger, highWaterBytes: 1000 }, {
      drain(connection) {
        if (more-- <= 0) return;
        do {
          connection.write(pattern(64 * 1024, written));
          written += 64 * 1024;
        } while (connection.queuedBytes < 1000);
      },
    }, (r) => {
      setsockopt(r.fd, SOL.socket, SO.sndbuf, encodeInt(64 * 1024)); // the kernel would take megabytes else
      written = block(r);
      const all: Uint8Array[] = [];
      let received = 0;
      turnUntil(r.loop, () => {
        const chunk = receiveAll(r.peer);
        all.push(chunk);
        received += chunk.byteLength;
        return more < 0 && received === written;
      }, "everything");
      expect(r.log.filter((entry) => entry === "drain")).toHaveLength(4);
      expectPattern(Buffer.concat(all));
    });
  });

  test("pause() holds before the next read, and resume() delivers what waited", () =>
    rig({ trigger }, {
      data: (connection) => connection.pause(),
    }, ({ loop, connection, peer, log }) => {
      send(peer, pattern(3 * RECEIVE_BUFFER_BYTES / 2));
      turnUntil(loop, () => log.length === 2, "the first data");
      send(peer, bytes("more"));
      turnUntilQuiet(loop);
      expect(log).toHaveLength(2);
      for (let seen = log.length; seen < 3; seen = log.length) {
        connection.resume();
        turnUntil(loop, () => log.length > seen, "data after resume");
      }
    }));

  test("resume() right after pause() loses nothing", () =>
    rig({ trigger }, {}, ({ loop, connection, peer, log }) => {
      connection.pause();
      send(peer, bytes("abc"));
      turnUntilQuiet(loop);
      expect(log).toEqual(["open"]);
      connection.resume();
      connection.pause();
      connection.resume();
      turnUntil(loop, () => log.includes("data 3"), "data");
    }));

  test("a paused connection whose peer resets does not spin, and tells after resume()", () => {
    let waits = 0;
    return rig(
      {
        trigger,
        sys: {
          epollWait: (...args) => {
            const count = realSyscalls.epollWait(...args);
            if (count > 0) waits++;
            return count;
          },
        },
      },
      {},
      ({ loop, connection, peer, log }) => {
        connection.pause();
        send(peer, bytes("unread"));
        turnUntilQuiet(loop);
        reset(peer);
        for (let i = 0; i < 100; i++) loop.turn(1);
        expect(waits).toBeLessThan(5);
        expect(log).toEqual(["open"]);
        connection.resume();
        turnUntil(loop, () => log.length > 1 && log.at(-1)!.startsWith("close"), "close");
        expect(log.at(-1)).toBe("close ECONNRESET");
      },
    );
  });

  test("peer resets mid-write: the connection closes with the error, queued bytes are dropped", () =>
    rig({ trigger }, {}, ({ loop, connection, peer, log }) => {
      block({ connection });
      reset(peer);
      turnUntil(loop, () => log.length === 2, "close");
      expect(log[1]).toMatch(/^close (ECONNRESET|EPIPE)$/);
      expect(connection.queuedBytes).toBe(0);
      expect(connection.state).toBe("closed");
      expect(connection.write("more")).toBe(false);
    }));

  test("a peer that resets after it ended its stream is noticed by a connection with nothing to send", () =>
    rig({ trigger, allowHalfOpen: true }, {}, ({ loop, connection, peer, log }) => {
      shutdown(peer, SHUT.wr);
      turnUntil(loop, () => log.includes("end"), "end");
      turnUntilQuiet(loop);
      expect(connection.state).toBe("open");
      reset(peer);
      turnUntil(loop, () => log.length === 3, "close");
      expect(log[2]).toMatch(/^close (ECONNRESET|EPIPE)$/);
    }));

  test("half close: what is queued is sent after the peer has ended, then the connection closes", () =>
    rig({ trigger }, {}, (r) => {
      const written = block(r);
      shutdown(r.peer, SHUT.wr);
      expectPattern(readAtPeer(r, written));
      turnUntil(r.loop, () => r.log.includes("close"), "close");
      expect(r.log).toEqual(["open", "end", "close"]);
    }));

  test("allowHalfOpen: the connection stays after the peer's end until end(), and does not spin", () =>
    rig({ trigger, allowHalfOpen: true }, {}, ({ loop, connection, peer, log }) => {
      shutdown(peer, SHUT.wr);
      turnUntil(loop, () => log.includes("end"), "end");
      turnUntilQuiet(loop);
      for (let i = 0; i < 20; i++) expect(loop.turn(1)).toBe(false);
      connection.write("still here");
      connection.end();
      turnUntil(loop, () => log.includes("close"), "close");
      ready(peer);
      expect(receiveAll(peer)).toEqual(new Uint8Array(bytes("still here")));
    }));

  test("end() sends what is queued, then the peer reads end of stream and may go on", () =>
    rig({ trigger }, {}, (r) => {
      const written = block(r);
      r.connection.end("bye");
      expect(r.connection.write("too late")).toBe(false);
      const all = readAtPeer(r, written + 3);
      expect(all.subarray(written)).toEqual(new Uint8Array(bytes("bye")));
      turnUntil(r.loop, () => r.connection.state === "ended", "the end of our stream");
      ready(r.peer);
      expect(recv(r.peer, bytes(1))).toBe(0);
      send(r.peer, bytes("answer"));
      turnUntil(r.loop, () => r.log.includes("data 6"), "data after our end");
      closeNow(r.peer);
      turnUntil(r.loop, () => r.log.includes("close"), "close");
    }));

  test("finish() sends what is queued, reads no more, and closes without a reset", () =>
    rig({ trigger }, {}, (r) => {
      const written = block(r);
      send(r.peer, bytes("never read"));
      r.connection.finish();
      expectPattern(readAtPeer(r, written));
      turnUntil(r.loop, () => r.log.includes("close"), "close");
      ready(r.peer);
      expect(recv(r.peer, bytes(1))).toBe(0);
      expect(r.log).toEqual(["open", "close"]);
    }));

  test("one busy connection leaves the turn to others after its read budget, and is read on", async () => {
    const order: string[] = [];
    const [busyPeer, busyFd] = socketPair();
    const [quietPeer, quietFd] = socketPair();
    for (const fd of [busyPeer, busyFd]) {
      setsockopt(fd, SOL.socket, SO.sndbuf, encodeInt(4 * READ_BUDGET_BYTES));
    }
    const loop = new EventLoop();
    const named = (name: string) =>
      resolveConnection(
        { trigger },
        { data: (_, { byteLength }) => void order.push(`${name} ${byteLength}`) },
        () => {},
      );
    const connections = [
      new Connection(loop, disown(busyFd), named("busy")),
      new Connection(loop, disown(quietFd), named("quiet")),
    ];
    let sent = 0;
    for (let n = 1; n > 0 && sent < 3 * READ_BUDGET_BYTES;) {
      n = send(busyPeer, pattern(RECEIVE_BUFFER_BYTES), MSG.dontwait);
      if (n > 0) sent += n;
    }
    send(quietPeer, bytes("me too"));
    loop.turn(0);
    const busyBytes = () =>
      order.filter((entry) => entry.startsWith("busy")).reduce((sum, e) => sum + Number(e.slice(5)), 0);
    expect(sent).toBeGreaterThan(READ_BUDGET_BYTES);
    expect(busyBytes()).toBeLessThanOrEqual(READ_BUDGET_BYTES);
    expect(order).toContain("quiet 6");
    turnUntil(loop, () => busyBytes() === sent, "the rest");
    for (const connection of connections) connection.close();
    await loop.close();
  });

  test("close() inside its own data handler ends delivery at once", () =>
    rig({ trigger }, {
      data(connection) {
        connection.close();
        connection.close(new Error("twice is nothing"));
      },
    }, ({ loop, peer, log }) => {
      send(peer, pattern(2 * RECEIVE_BUFFER_BYTES));
      turnUntil(loop, () => log.includes("close"), "close");
      turnUntilQuiet(loop);
      expect(log).toEqual(["open", expect.stringMatching(/^data/), "close"]);
    }));
});

describe("Connection", () => {
  test.each(["open", "data", "drain", "end"] as const)(
    "closes from inside %s",
    (handler) =>
      rig({ highWaterBytes: 1 }, { [handler]: (connection: Connection) => connection.close() }, (r) => {
        if (handler === "drain") {
          const written = block(r);
          receiveAll(r.peer);
          turnUntil(r.loop, () => receiveAll(r.peer).byteLength >= 0 && r.log.includes("close"), `close of ${written}`);
        }
        if (handler === "data") send(r.peer, bytes("x"));
        if (handler === "end") shutdown(r.peer, SHUT.wr);
        turnUntil(r.loop, () => r.log.includes("close"), "close");
        turnUntilQuiet(r.loop);
        expect(r.log.filter((entry) => entry === "close")).toHaveLength(1);
        expect(r.errors).toEqual([]);
      }),
  );

  test.each(["open", "data", "drain", "end"] as const)(
    "a handler that throws ends its connection and the loop goes on: %s",
    (handler) =>
      rig({ highWaterBytes: 1 }, {
        [handler]: () => {
          throw new Error(`thrown in ${handler}`);
        },
      }, (r) => {
        if (handler === "drain") {
          block(r);
          turnUntil(r.loop, () => receiveAll(r.peer).byteLength >= 0 && r.log.length > 2, "close");
        }
        if (handler === "data") send(r.peer, bytes("x"));
        if (handler === "end") shutdown(r.peer, SHUT.wr);
        turnUntil(r.loop, () => r.log.at(-1) === `close thrown in ${handler}`, "close");
        expect(r.errors).toEqual([]);
        expect(r.loop.turn(0)).toBe(false);
      }),
  );

  test.each(["open", "data", "end"] as const)("a promise of %s that rejects ends its connection", (handler) =>
    rig({}, {
      [handler]: async () => {
        await Promise.resolve();
        throw new Error("rejected");
      },
    }, async (r) => {
      if (handler === "data") send(r.peer, bytes("x"));
      if (handler === "end") shutdown(r.peer, SHUT.wr);
      turnUntil(r.loop, () => handler === "open" || r.log.some((entry) => entry.startsWith(handler)), handler);
      await new Promise((resolve) => setTimeout(resolve, 0));
      turnUntil(r.loop, () => r.log.at(-1)!.startsWith("close"), "close");
      // By the time `end` has rejected, the connection had closed without an error.
      expect(r.log.at(-1)).toBe(handler === "end" ? "close" : "close rejected");
    }));

  test("what close throws, or rejects with, goes to onError", () =>
    rig({}, {
      close() {
        throw new Error("in close");
      },
    }, ({ loop, connection, errors }) => {
      connection.close();
      loop.turn(0);
      expect(errors).toEqual([new Error("in close")]);
    }));

  test.each([
    ["throws", "told", () => {
      throw new Error("mine");
    }],
    ["rejects with", "told", () => Promise.reject(new Error("mine"))],
    ["closes with", "not told", (connection: Connection) => connection.close(new Error("mine"))],
  ])(
    "without a close handler onError hears what another %s: %s",
    (_, told, data) =>
      rig({}, {}, async ({ loop, connection, peer, errors }) => {
        connection.setHandlers({ data });
        send(peer, bytes("x"));
        turnUntil(loop, () => connection.bytesReceived === 1, "the byte");
        await new Promise((resolve) => setTimeout(resolve, 0)); // a rejection is heard of later
        turnUntilQuiet(loop);
        expect(connection.state).toBe("closed");
        expect(errors).toEqual(told === "told" ? [new Error("mine")] : []);
      }),
  );

  test("a handler may return what it likes", () =>
    rig({}, { data: (connection, chunk) => connection.write(chunk) as unknown as void }, ({ loop, peer }) => {
      send(peer, bytes("ping"));
      turnUntil(loop, () => receiveAll(peer).byteLength === 4, "the echo");
    }));

  test("close() from another connection's handler in the same batch: the stale event finds nobody", async () => {
    const log: string[] = [];
    const loop = new EventLoop();
    const pairs = [socketPair(), socketPair()];
    const connections: Connection[] = [];
    for (const [i, [, fd]] of pairs.entries()) {
      const handlers = {
        data() {
          log.push(`data ${i}`);
          connections[1 - i]!.close();
        },
        close: () => void log.push(`close ${i}`),
      };
      connections.push(new Connection(loop, disown(fd), resolveConnection({}, handlers, () => {})));
    }
    for (const [peer] of pairs) send(peer, bytes("x"));
    loop.turn(0);
    expect(log).toHaveLength(2);
    const first = Number(log[0]!.slice(5));
    expect(log).toEqual([`data ${first}`, `close ${1 - first}`]);
    connections[first]!.close();
    loop.turn(0);
    await loop.close();
  });

  test("the close handler runs at the end of the turn, once, with the descriptor released", () =>
    rig({}, {}, ({ loop, connection, log }) => {
      const before = openDescriptors().length;
      connection.close();
      expect(log).toEqual(["open"]);
      expect(openDescriptors().length).toBe(before - 1);
      connection.close();
      loop.turn(0);
      loop.turn(0);
      expect(log).toEqual(["open", "close"]);
    }));

  test("bytes are borrowed: the next read overwrites them, slice() keeps them", () => {
    const borrowed: Uint8Array[] = [];
    const kept: Uint8Array[] = [];
    return rig({}, {
      data(_, chunk) {
        borrowed.push(chunk);
        kept.push(chunk.slice());
      },
    }, ({ loop, peer }) => {
      for (const text of ["one", "two"]) {
        send(peer, bytes(text));
        turnUntil(loop, () => kept.length === (text === "one" ? 1 : 2), text);
      }
      expect(kept).toEqual([bytes("one"), bytes("two")].map((chunk) => new Uint8Array(chunk)));
      expect(borrowed[0]).toEqual(borrowed[1]);
    });
  });

  test("a handler that detaches the receive buffer costs nobody a connection", () =>
    rig({}, {
      data(connection, chunk) {
        connection.write(structuredClone(chunk.buffer, { transfer: [chunk.buffer as ArrayBuffer] }).byteLength + "\n");
      },
    }, ({ loop, peer, log }) => {
      for (let i = 1; i <= 3; i++) {
        send(peer, bytes("x"));
        turnUntil(loop, () => receiveAll(peer).byteLength > 0, "an answer");
      }
      expect(log).toEqual(["open", "data 1", "data 1", "data 1"]);
    }));

  test("write() after close() or end(), and of nothing, changes nothing", () =>
    rig({}, {}, ({ connection, peer }) => {
      expect(connection.write("")).toBe(true);
      connection.end();
      expect(connection.write("x")).toBe(false);
      connection.close();
      expect(connection.write("x")).toBe(false);
      expect(connection.queuedBytes).toBe(0);
      expect(recv(peer, bytes(1))).toBe(0);
    }));

  test("write() throws a TypeError for what is neither text nor bytes", () =>
    rig({}, {}, ({ connection }) => {
      for (const wrong of [undefined, null, 5, new ArrayBuffer(4), [1, 2]]) {
        expect(() => connection.write(wrong as unknown as string)).toThrow(TypeError);
      }
    }));

  test("a peer on a Unix socket that closes while it is written to ends the connection", () =>
    rig({ over: "unix" }, {}, ({ loop, connection, peer, log }) => {
      closeNow(peer);
      connection.write("x");
      turnUntil(loop, () => log.length > 1, "close");
      expect(log.at(-1)).toBe("close EPIPE");
    }));

  test("a socket that cannot be watched stays the caller's", async () => {
    const [, fd] = tcpPair();
    const loop = new EventLoop({}, {
      ...realSyscalls,
      epollCtl: (e, op, watched, event) =>
        watched === fd ? -ERRNO.ENOSPC[0] : realSyscalls.epollCtl(e, op, watched, event),
    });
    const settings = resolveConnection({}, {}, () => {});
    expect(() => new Connection(loop, fd, settings)).toThrow(
      /Cannot watch a connection: epoll_ctl\(2\) returned ENOSPC/,
    );
    await loop.close();
  });

  test("remoteAddress and localAddress are known after the end if they were asked for before", () =>
    rig({}, {}, ({ connection }) => {
      const { remoteAddress } = connection;
      expect(remoteAddress).toMatchObject({ transport: "tcp", hostname: "127.0.0.1" });
      connection.close();
      expect(connection.remoteAddress).toEqual(remoteAddress);
      expect(connection.localAddress).toBeUndefined();
    }));

  test("resolveConnection() refuses marks out of order and handlers that are none", () => {
    const resolve = (options: object, handlers: object = {}) => () => resolveConnection(options, handlers, () => {});
    expect(resolve({ highWaterBytes: 0 })).toThrow(/Cannot use highWaterBytes 0: it must be an integer, at least 1/);
    expect(resolve({ highWaterBytes: 10, lowWaterBytes: 10 })).toThrow(RangeError);
    expect(resolve({ trigger: "both" })).toThrow(/Cannot use trigger "both": it must be "level" or "edge"/);
    expect(resolve({}, { data: "echo" })).toThrow(/Cannot use data "echo": it must be a function/);
    expect(resolve({ allowHalfOpen: 1 })).toThrow(TypeError);
  });
});
