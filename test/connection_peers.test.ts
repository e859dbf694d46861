/** What peers do to a connection, and what each of its calls does to them. Most of it is known from other libraries. */
import { Buffer } from "node:buffer";
import { describe, expect, test } from "vitest";
import { MSG, O, SHUT } from "../ffi/constants.ts";
import { ERRNO } from "../ffi/errno.ts";
import { dup3, realSyscalls, recv, send, shutdown, type Syscalls } from "../ffi/syscalls.ts";
import { Connection, EventLoop, resolveConnection } from "../mod.ts";
import { closeNow, disown, expectNoLeak, outcome } from "./support/descriptors.ts";
import { receiveAll, rig, turnUntil, turnUntilQuiet } from "./support/loops.ts";
import { bytes, ready, reset, socketPair, tcpPair, text } from "./support/sockets.ts";

expectNoLeak();

/** The kernel, and how many of its waits had something to tell. */
function countedWaits(): { sys: Partial<Syscalls>; waits: () => number } {
  let waits = 0;
  const epollWait: Syscalls["epollWait"] = (...args) => {
    const count = realSyscalls.epollWait(...args);
    if (count > 0) waits++;
    return count;
  };
  return { sys: { epollWait }, waits: () => waits };
}

/** What the peer reads until the end of the stream, or a reset. */
function readToEnd(peer: number): { received: Uint8Array; end: number | string } {
  const chunks: Uint8Array[] = [];
  const buffer = bytes(64 * 1024);
  for (;;) {
    ready(peer);
    const count = recv(peer, buffer);
    if (count <= 0) return { received: new Uint8Array(Buffer.concat(chunks)), end: outcome(count) };
    chunks.push(buffer.slice(0, count));
  }
}

describe.each(["level", "edge"] as const)("Connection, %s-triggered,", (trigger) => {
  test("close() from a timer ends the stream of a silent peer, and nothing but close is told", () =>
    rig({ trigger }, {}, ({ loop, connection, peer, log }) => {
      loop.setTimer(0, () => connection.close());
      turnUntil(loop, () => log.length > 1, "close");
      expect(log).toEqual(["open", "close"]);
      expect(readToEnd(peer)).toEqual({ received: new Uint8Array(0), end: 0 });
    }));

  test("close() right after many small writes: the peer gets every one, then the end of the stream", () =>
    rig({ trigger }, {}, ({ loop, connection, peer, log }) => {
      for (let i = 0; i < 32; i++) expect(connection.write("PING")).toBe(true);
      connection.close();
      turnUntil(loop, () => log.length > 1, "close");
      turnUntilQuiet(loop);
      expect(log).toEqual(["open", "close"]);
      const { received, end } = readToEnd(peer);
      expect([text(received), end]).toEqual(["PING".repeat(32), 0]);
    }));

  test("close() with more queued than the kernel takes: the peer gets the first of it, without a gap", () =>
    rig({ trigger }, {}, ({ loop, connection, peer, log }) => {
      const chunk = bytes(1024);
      for (let i = 0; i < 10_000; i++) {
        chunk.fill(i % 251);
        connection.write(chunk);
      }
      loop.turn(0);
      expect(connection.queuedBytes).toBeGreaterThan(0);
      const taken = 10_000 * 1024 - connection.queuedBytes;
      connection.close();
      expect(connection.queuedBytes).toBe(0);
      turnUntilQuiet(loop);
      expect(log).toEqual(["open", "close"]);
      const { received } = readToEnd(peer);
      expect(received.byteLength).toBeGreaterThanOrEqual(taken);
      expect(received.byteLength).toBeLessThan(10_000 * 1024);
      expect(received.findIndex((byte, i) => byte !== Math.floor(i / 1024) % 251), "first wrong byte").toBe(-1);
    }));

  test("a small write behind one that the kernel does not take whole is queued behind it", () =>
    rig({ trigger }, {}, ({ loop, connection, peer }) => {
      const large = 10_000_000;
      connection.write(bytes(large));
      const queued = connection.queuedBytes;
      expect(queued).toBeGreaterThan(0);
      connection.write("A");
      expect(connection.queuedBytes).toBe(queued + 1);
      let received = 0;
      let last = 0;
      turnUntil(loop, () => {
        const all = receiveAll(peer);
        received += all.byteLength;
        last = all.at(-1) ?? last;
        return received === large + 1;
      }, "everything");
      expect([String.fromCharCode(last), connection.queuedBytes]).toEqual(["A", 0]);
    }));

  test("a peer that has reset before the connection is watched: it closes with ECONNRESET", async () => {
    const [peer, fd] = tcpPair();
    reset(peer);
    ready(fd);
    const loop = new EventLoop();
    const closed: unknown[] = [];
    const handlers = { close: (_: Connection, error: unknown) => void closed.push(error) };
    new Connection(loop, disown(fd), resolveConnection({ trigger }, handlers, () => {})).start();
    turnUntil(loop, () => closed.length > 0, "close");
    expect(closed).toEqual([expect.objectContaining({ code: "ECONNRESET" })]);
    await loop.close();
  });

  test("a reset while idle is told by close alone, with ECONNRESET, and nothing can be written after it", () =>
    rig({ trigger }, {}, ({ loop, connection, peer, log }) => {
      turnUntilQuiet(loop);
      reset(peer);
      turnUntil(loop, () => log.length > 1, "close");
      turnUntilQuiet(loop);
      expect(log).toEqual(["open", expect.stringMatching(/^close ECONNRESET/)]);
      expect([connection.state, connection.write("x"), connection.remoteAddress]).toEqual(["closed", false, undefined]);
    }));

  test("writing on and on to a peer that has closed ends the connection with EPIPE or ECONNRESET", () =>
    rig({ trigger, allowHalfOpen: true }, {}, ({ loop, connection, peer, log }) => {
      closeNow(peer);
      turnUntil(loop, () => log.includes("end"), "end");
      turnUntil(loop, () => !connection.write("meow") && log.length > 2, "close");
      expect(log.slice(2)).toEqual([expect.stringMatching(/^close (ECONNRESET|EPIPE)/)]);
    }));

  test("a peer that has closed before it is written to: the connection closes, once", () =>
    rig({ trigger }, {}, ({ loop, connection, peer, log }) => {
      closeNow(peer);
      connection.write("hello\n");
      turnUntil(loop, () => connection.state === "closed", "close");
      turnUntilQuiet(loop);
      expect(log.filter((entry) => entry.startsWith("close"))).toHaveLength(1);
      expect(log.at(-1)).toMatch(/^close/);
    }));

  test("bytes that wait for a paused connection do not spin the loop, and writing goes on", () => {
    const { sys, waits } = countedWaits();
    return rig({ trigger, sys }, { open: (connection) => connection.pause() }, ({ loop, connection, peer, log }) => {
      send(peer, bytes("PING"));
      for (let i = 0; i < 50; i++) loop.turn(1);
      expect(waits()).toBeLessThan(5);
      connection.write("PONG");
      turnUntil(loop, () => receiveAll(peer).byteLength === 4, "what was written");
      expect(log).toEqual(["open"]);
      connection.resume();
      turnUntil(loop, () => log.includes("data 4"), "what waited");
    });
  });

  test("urgent bytes neither end the connection nor spin the loop, and the others are delivered", () => {
    const { sys, waits } = countedWaits();
    let received = "";
    return rig(
      { trigger, sys },
      { data: (_, chunk) => void (received += text(chunk)) },
      ({ loop, connection, peer, log }) => {
        for (const word of ["hello", "world"]) {
          expect(send(peer, bytes(word), MSG.oob)).toBe(5); // the last byte of each is the urgent one
          turnUntil(loop, () => received.endsWith(word.slice(0, 4)), word);
        }
        const before = waits();
        for (let i = 0; i < 50; i++) loop.turn(1);
        expect(waits() - before).toBeLessThan(5);
        expect(connection.state).toBe("open");
        expect(send(peer, bytes("!"))).toBe(1);
        turnUntil(loop, () => received.endsWith("!"), "what came after");
        expect(log.filter((entry) => !entry.startsWith("data"))).toEqual(["open"]);
      },
    );
  });

  test("what is behind an urgent byte is delivered with what is before it", () => {
    let received = "";
    return rig({ trigger }, { data: (_, chunk) => void (received += text(chunk)) }, ({ loop, peer }) => {
      send(peer, bytes("before!"), MSG.oob); // a read stops before the last byte
      send(peer, bytes("behind"));
      turnUntilQuiet(loop);
      turnUntil(loop, () => received === "beforebehind", "what is behind");
    });
  });

  test.each(["tcp", "unix"] as const)(
    "end() twice and close() in one go, over %s: one end of the stream, one close",
    (over) =>
      rig({ trigger, over }, {}, ({ loop, connection, peer, log }) => {
        connection.end("last");
        connection.end("ignored");
        connection.close();
        turnUntilQuiet(loop);
        expect(log).toEqual(["open", "close"]);
        const { received, end } = readToEnd(peer);
        expect([text(received), end]).toEqual(["last", 0]);
      }),
  );

  test.each(["tcp", "unix"] as const)(
    "both ends end their stream at the same moment, over %s: each reads the other's",
    (over) =>
      rig({ trigger, over }, {}, ({ loop, connection, peer, log }) => {
        send(peer, bytes("Q"));
        shutdown(peer, SHUT.wr);
        connection.end("A");
        turnUntil(loop, () => log.includes("close"), "close");
        expect(log).toEqual(["open", "data 1", "end", "close"]);
        const { received, end } = readToEnd(peer);
        expect([text(received), end]).toEqual(["A", 0]);
      }),
  );

  test("no handler runs inside a call of the user's", () => {
    let depth = 0;
    const nested: string[] = [];
    const call = (task: () => void) => {
      depth++;
      task();
      depth--;
    };
    const note = (name: string) => {
      if (depth > 0) nested.push(name);
    };
    return rig({ trigger, highWaterBytes: 1 }, {
      data(connection) {
        note("data");
        call(() => {
          connection.pause();
          connection.resume();
          while (connection.write(bytes(100_000)));
        });
      },
      drain(connection) {
        note("drain");
        call(() => connection.end());
      },
      end(connection) {
        note("end");
        call(() => connection.close());
      },
      close: () => note("close"),
    }, ({ loop, connection, peer, log }) => {
      connection.pause();
      send(peer, bytes("x"));
      shutdown(peer, SHUT.wr);
      turnUntilQuiet(loop);
      call(() => connection.resume());
      turnUntil(loop, () => receiveAll(peer).byteLength >= 0 && log.includes("close"), "close");
      expect(log).toEqual(["open", "data 1", "end", "close"]);
      expect(nested).toEqual([]);
    });
  });

  test("a write that fails tells nobody before it returns", () =>
    rig({ trigger, over: "unix" }, {}, ({ loop, connection, peer, log }) => {
      closeNow(peer);
      connection.write("x");
      connection.write("y");
      expect(log).toEqual(["open"]);
      turnUntil(loop, () => log.at(-1)!.startsWith("close"), "close");
    }));

  test("a descriptor number that is another connection's within the same batch: the new one is told nothing", async () => {
    const log: string[] = [];
    const loop = new EventLoop();
    const pairs = [socketPair(), socketPair()];
    const [freshPeer, fresh] = socketPair();
    const connections: Connection[] = [];
    const make = (fd: number, name: string, data = () => {}) => {
      const handlers = {
        data: () => (log.push(`data ${name}`), data()),
        end: () => void log.push(`end ${name}`),
        close: () => void log.push(`close ${name}`),
      };
      const connection: Connection = new Connection(loop, fd, resolveConnection({ trigger }, handlers, () => {}));
      connections.push(connection);
      return connection;
    };
    for (const [i, [, fd]] of pairs.entries()) {
      make(disown(fd), `${i}`, () => {
        const number = connections[1 - i]!.surrender();
        expect(outcome(dup3(fresh, number, O.cloexec))).toBe(number); // in one step: nobody takes it in between
        make(number, "new");
      });
    }
    for (const [peer] of pairs) send(peer, bytes("x"));
    loop.turn(0);
    loop.turn(0);
    const first = log[0] === "data 0" ? 0 : 1;
    expect(log).toEqual([`data ${first}`, `close ${1 - first}`]);
    send(freshPeer, bytes("mine"));
    turnUntil(loop, () => log.at(-1) === "data new", "its own bytes");
    for (const connection of connections) connection.close();
    loop.turn(0);
    await loop.close();
  });

  test.each(["tcp", "unix"] as const)(
    "two connections of one loop play ping-pong over %s, a thousand times",
    async (over) => {
      const loop = new EventLoop();
      const ends = over === "tcp" ? tcpPair() : socketPair();
      const counts = [0, 0];
      const players = ends.map((fd, i) => {
        const data = (connection: Connection, chunk: Uint8Array) => {
          expect(text(chunk)).toBe("PING\n");
          if (++counts[i]! < 1_000) connection.write(chunk);
          else connection.end();
        };
        return new Connection(loop, disown(fd), resolveConnection({ trigger }, { data }, () => {}));
      });
      players[0]!.write("PING\n");
      turnUntil(loop, () => players.every(({ state }) => state === "closed"), "the end of the game");
      expect(counts).toEqual([999, 1_000]);
      await loop.close();
    },
  );

  test.each(["tcp", "unix"] as const)(
    "the pieces of what is written with writev() arrive as one, over %s, a thousand times there and back",
    async (over) => {
      const loop = new EventLoop();
      const ends = over === "tcp" ? tcpPair() : socketPair();
      const wrong: string[] = [];
      let left = 1_000;
      const players = ends.map((fd) => {
        const data = (connection: Connection, chunk: Uint8Array) => {
          if (text(chunk) !== "PING\n") wrong.push(text(chunk));
          if (--left > 0) connection.writev(["P", bytes("IN"), "", chunk.subarray(3)]);
          else connection.end();
        };
        return new Connection(loop, disown(fd), resolveConnection({ trigger }, { data }, () => {}));
      });
      players[0]!.writev(["PING", "\n"]);
      turnUntil(loop, () => players.every(({ state }) => state === "closed"), "the end of the game");
      expect([wrong, left]).toEqual([[], 0]);
      await loop.close();
    },
  );

  test("what the peer sent before it closed is told though a write to it has failed", () =>
    rig({ trigger, over: "unix" }, {}, ({ loop, connection, peer, log }) => {
      send(peer, bytes("last words"));
      closeNow(peer);
      connection.write(bytes(100_000)); // large enough to be offered at once
      turnUntil(loop, () => log.at(-1)!.startsWith("close"), "close");
      expect(log).toEqual(["open", "data 10", "close EPIPE"]);
    }));
});

describe("Connection", () => {
  test("a second connection on one descriptor is refused, and the first goes on", () =>
    rig({}, {}, ({ loop, peer, log }) => {
      const [, fd] = socketPair();
      const settings = resolveConnection({}, {}, () => {});
      const first = new Connection(loop, disown(fd), settings);
      expect(() => new Connection(loop, fd, settings)).toThrow(
        /Cannot watch a connection: epoll_ctl\(2\) returned EEXIST/,
      );
      first.close();
      send(peer, bytes("hello"));
      turnUntil(loop, () => log.includes("data 5"), "data");
    }));

  test("a write on a descriptor that is none any more ends the connection with EBADF", () => {
    const fail = () => -ERRNO.EBADF[0];
    return rig({ sys: { send: fail, sendmsg: fail, writev: fail } }, {}, ({ loop, connection, log }) => {
      connection.write("hello\n");
      turnUntil(loop, () => log.length > 1, "close");
      expect(log).toEqual(["open", expect.stringMatching(/^close EBADF/)]);
      expect(connection.write("more")).toBe(false);
    });
  });
});
