/** How writes are gathered, what they cost in system calls, and what becomes of a peer that does not read. */
import { describe, expect, test } from "vitest";
import { SO, SOL } from "../ffi/constants.ts";
import { ERRNO } from "../ffi/errno.ts";
import { encodeInt, type MessageHeader } from "../ffi/layout.ts";
import { realSyscalls } from "../ffi/syscalls.ts";
import { Connection } from "../src/connection.ts";
import { resolveConnection } from "../src/connection_options.ts";
import { DIRECT_WRITE_BYTES, GATHER_MAX_BYTES } from "../src/limits.ts";
import { broadcast, SharedBytes } from "../src/shared_bytes.ts";
import { disown, expectNoLeak } from "./support/descriptors.ts";
import { block, readAtPeer, receiveAll, rig, type RigOptions, turnUntil, turnUntilQuiet } from "./support/loops.ts";
import { expectPattern, pattern } from "./support/patterns.ts";
import { bytes, socketPair, text } from "./support/sockets.ts";

expectNoLeak();

/** What the kernel was offered, call by call. */
interface Offers {
  readonly sys: NonNullable<RigOptions["sys"]>;
  readonly sizes: number[];
}

function vectorBytes(message: MessageHeader): number {
  const view = new DataView(message.vector.bytes.buffer);
  let sum = 0;
  for (let i = 0; i < message.vector.count; i++) sum += Number(view.getBigUint64(16 * i + 8, true));
  return sum;
}

/** @param most The kernel takes so many bytes of a call at most. */
function offers(most: number = Infinity): Offers {
  const sizes: number[] = [];
  return {
    sizes,
    sys: {
      send(fd, source, flags, length = source.byteLength) {
        sizes.push(length);
        return realSyscalls.send(fd, source, flags, Math.min(most, length));
      },
      sendmsg(fd, message, flags) {
        sizes.push(vectorBytes(message));
        return realSyscalls.sendmsg(fd, message, flags);
      },
    },
  };
}

/** Writes up to the high-water mark, so that drain is due. */
function fill(connection: Connection): void {
  connection.cork();
  while (connection.write(bytes(100)));
  connection.uncork();
}

describe.each(["level", "edge"] as const)("Connection, %s-triggered, gathers:", (trigger) => {
  test("what is written in one turn leaves with one call", () => {
    const { sys, sizes } = offers();
    return rig({ trigger, sys }, {
      data(connection, chunk) {
        for (const byte of chunk) connection.write(bytes(1).fill(byte));
      },
    }, ({ loop, peer }) => {
      realSyscalls.send(peer, bytes("one by one"));
      turnUntil(loop, () => sizes.length > 0, "a send");
      turnUntilQuiet(loop);
      expect(sizes).toEqual([10]);
      expect(text(receiveAll(peer))).toBe("one by one");
    });
  });

  test("bytes, texts, vectors and large chunks that a handler mixes leave in the order in which they were written", () =>
    rig({ trigger }, {
      data(connection) {
        connection.write(bytes("bytes,"));
        connection.write("text,");
        connection.write(bytes("bytes again,"));
        connection.writev([bytes("a vector,"), "of two,"]);
        connection.write(bytes("then much:"));
        connection.write(pattern(2 * DIRECT_WRITE_BYTES));
        connection.write(bytes("end"));
        expect(connection.queuedBytes + connection.bytesSent).toBe(52 + 2 * DIRECT_WRITE_BYTES);
      },
    }, ({ loop, peer }) => {
      realSyscalls.send(peer, bytes("?"));
      turnUntilQuiet(loop);
      const all = receiveAll(peer);
      expect(text(all.subarray(0, 49))).toBe("bytes,text,bytes again,a vector,of two,then much:");
      expect(all.subarray(49, -3)).toEqual(pattern(2 * DIRECT_WRITE_BYTES));
      expect(text(all.subarray(-3))).toBe("end");
    }));

  test("what the kernel takes only a part of leaves whole", () => {
    const { sys, sizes } = offers(7);
    return rig({ trigger, sys }, {
      data: (connection) => void connection.write(bytes("more than seven bytes")),
    }, ({ loop, connection, peer }) => {
      realSyscalls.send(peer, bytes("?"));
      turnUntil(loop, () => connection.bytesSent === 21, "all of it");
      expect([text(receiveAll(peer)), sizes, connection.queuedBytes]).toEqual([
        "more than seven bytes",
        [21, 14, 7],
        0,
      ]);
    });
  });

  test("what timers, tasks and other connections write leaves with one call, when the turn is over", () => {
    const { sys, sizes } = offers();
    return rig({ trigger, sys }, {}, async ({ loop, connection, peer }) => {
      const [otherPeer, otherFd] = socketPair();
      const other = new Connection(
        loop,
        disown(otherFd),
        resolveConnection({ trigger }, { data: () => void connection.write("other ") }, () => {}),
      );
      other.start();
      realSyscalls.send(otherPeer, bytes("x"));
      loop.setTimer(0, () => connection.write("timer "));
      loop.post(() => connection.write("task"));
      await new Promise((resolve) => setTimeout(resolve, 1));
      loop.turn(0);
      expect(sizes).toEqual([16]);
      expect(text(receiveAll(peer))).toBe("other timer task");
      other.close();
      loop.turn(0);
    });
  });

  test("what is written outside a turn leaves with one call, when the job is over", () => {
    const { sys, sizes } = offers();
    return rig({ trigger, sys }, {}, async ({ connection, peer }) => {
      connection.write("two ");
      connection.write("words");
      expect(connection.queuedBytes).toBe(9);
      await Promise.resolve();
      expect(connection.queuedBytes).toBe(0);
      expect(sizes).toEqual([9]);
      expect(text(receiveAll(peer))).toBe("two words");
    });
  });

  test("who writes on at each drain, outside a turn, leaves the thread after one budget; and drain begins no turn", () => {
    let [sends, error, turn]: [number, unknown, () => void] = [0, undefined, () => {}];
    return rig({
      trigger,
      highWaterBytes: 1000,
      sys: { // a kernel without an end to what it takes
        send: (_fd, source, _flags, length = source.byteLength) => (sends++, length),
        sendmsg: (_fd, message) => (sends++, vectorBytes(message)),
      },
    }, {
      drain(connection) {
        try {
          turn();
        } catch (thrown) {
          error = thrown;
        }
        if (sends < 100) fill(connection);
      },
    }, async ({ loop, connection }) => {
      turn = () => void loop.turn(0);
      fill(connection);
      for (let i = 0; i < 20; i++) await Promise.resolve();
      expect(sends).toBe(1);
      expect(String(error)).toBe("RangeError: Cannot take a turn: one is under way, and turns do not nest");
      loop.turn(0);
      expect(sends).toBe(2);
    });
  });

  test("a large chunk is offered at once, without a copy, and with what was gathered before it", () => {
    const { sys, sizes } = offers();
    return rig({ trigger, sys }, {}, ({ connection, peer }) => {
      const large = pattern(DIRECT_WRITE_BYTES);
      connection.write(large);
      expect(sizes).toEqual([DIRECT_WRITE_BYTES]);
      connection.write("head:");
      connection.write(large);
      expect(sizes).toEqual([DIRECT_WRITE_BYTES, 5 + DIRECT_WRITE_BYTES]);
      const received = receiveAll(peer);
      expect(text(received.subarray(DIRECT_WRITE_BYTES, DIRECT_WRITE_BYTES + 5))).toBe("head:");
      expectPattern(received.subarray(DIRECT_WRITE_BYTES + 5));
      expect(connection.queuedBytes).toBe(0);
    });
  });

  test("many small chunks are offered before the turn ends, once they are many", () => {
    const { sys, sizes } = offers();
    return rig({ trigger, sys }, {}, (r) => {
      const count = GATHER_MAX_BYTES / 1024;
      for (let i = 0; i < count; i++) r.connection.write(pattern(1024, i * 1024));
      expect(sizes[0]).toBe(GATHER_MAX_BYTES);
      expectPattern(readAtPeer(r, GATHER_MAX_BYTES));
    });
  });

  test("a vectored write into a small send buffer loses and reorders nothing", () =>
    rig({ trigger, over: "unix" }, {}, (r) => {
      realSyscalls.setsockopt(r.fd, SOL.socket, SO.sndbuf, encodeInt(0)); // the smallest there is
      const chunks: Uint8Array[] = [];
      let total = 0;
      for (const length of [3, 5_000, 1, 0, 20_000, 100, 4_096, 50_000]) {
        chunks.push(pattern(length, total));
        total += length;
      }
      r.connection.write(pattern(0));
      r.connection.writev(chunks);
      for (const chunk of chunks) chunk.fill(0); // the caller's own again
      expect(r.connection.queuedBytes).toBeGreaterThan(0);
      expect(r.connection.queuedBytes + r.connection.bytesSent).toBe(total);
      expectPattern(readAtPeer(r, total));
      expect(r.connection.queuedBytes).toBe(0);
      expect(r.connection.bytesSent).toBe(total);
    }));
});

describe("Connection.write(), of text,", () => {
  test.each(["ASCII", "Grüße, 世界 \u{1f30a}", "x".repeat(5_000), "ü".repeat(3_000), "\ud800 alone"])(
    "sends it as UTF-8: %#",
    (words) =>
      rig({}, {}, ({ loop, connection, peer }) => {
        connection.write("<");
        connection.write(words);
        connection.write(">");
        loop.turn(0);
        expect(receiveAll(peer)).toEqual(new Uint8Array(bytes(`<${words}>`)));
      }),
  );
});

describe("Connection.writev()", () => {
  test("sends text and bytes in order, and a small one is gathered", () => {
    const { sys, sizes } = offers();
    return rig({ sys }, {}, ({ loop, connection, peer }) => {
      connection.writev(["$3\r\n", bytes("abc"), "\r\n"]);
      connection.write("+OK\r\n");
      loop.turn(0);
      expect(sizes).toEqual([14]);
      expect(text(receiveAll(peer))).toBe("$3\r\nabc\r\n+OK\r\n");
    });
  });

  test("sends a large one in one call, more than one call takes in several", () => {
    const { sys, sizes } = offers();
    return rig({ sys }, {}, (r) => {
      r.connection.writev(["header", pattern(10_000), pattern(10_000, 10_000)]);
      expect(sizes).toEqual([20_006]);
      expectPattern(readAtPeer(r, 20_006).subarray(6));
      sizes.length = 0;
      r.connection.writev(Array.from({ length: 200 }, (_, i) => pattern(100, 100 * i)));
      expectPattern(readAtPeer(r, 20_000));
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBeGreaterThanOrEqual(20_000);
    });
  });

  test("writes nothing if one of the chunks is none", () =>
    rig({}, {}, ({ connection }) => {
      expect(() => connection.writev(["a", 7 as unknown as string])).toThrow(
        /Cannot write: the chunk must be a string/,
      );
      expect(connection.queuedBytes).toBe(0);
    }));
});

describe("Connection.cork()", () => {
  test("holds what is written beyond the turn, until uncork() was called as often", () => {
    const { sys, sizes } = offers();
    return rig({ sys }, {}, ({ loop, connection, peer }) => {
      connection.cork();
      connection.cork();
      connection.write("a");
      connection.write(pattern(DIRECT_WRITE_BYTES));
      loop.turn(0);
      connection.uncork();
      loop.turn(0);
      expect(sizes).toEqual([]);
      connection.uncork();
      loop.turn(0);
      expect(sizes).toEqual([1 + DIRECT_WRITE_BYTES]);
      connection.uncork(); // once too often
      connection.write("b");
      loop.turn(0);
      expect(receiveAll(peer).byteLength).toBe(2 + DIRECT_WRITE_BYTES);
    });
  });

  test("holds what a handler wrote before it, too, in the order in which it was written", () => {
    const { sys, sizes } = offers();
    return rig({ sys }, {
      data(connection) {
        connection.write(bytes("before "));
        connection.cork();
        connection.write(bytes("and "));
        connection.write("after");
      },
    }, ({ loop, connection, peer }) => {
      realSyscalls.send(peer, bytes("?"));
      turnUntil(loop, () => connection.queuedBytes > 0, "the writes");
      loop.turn(0);
      expect([connection.queuedBytes, sizes]).toEqual([16, []]);
      connection.uncork();
      loop.turn(0);
      expect([text(receiveAll(peer)), sizes]).toEqual(["before and after", [16]]);
    });
  });

  test("end(), finish() and close() send what is held", async () => {
    for (const method of ["end", "finish", "close"] as const) {
      await rig({}, {}, ({ loop, connection, peer }) => {
        connection.cork();
        connection.write("held");
        connection[method]();
        loop.turn(0);
        expect(text(receiveAll(peer))).toBe("held");
      });
    }
  });

  test("drain follows after uncork(), when write() said false meanwhile", () =>
    rig({ highWaterBytes: 10, lowWaterBytes: 2 }, {}, ({ loop, connection, log }) => {
      connection.cork();
      expect(connection.write("0123456789")).toBe(false);
      loop.turn(0);
      expect(log).toEqual(["open"]);
      connection.uncork();
      loop.turn(0);
      expect(log).toEqual(["open", "drain"]);
    }));
});

describe("Connection, a peer that does not read:", () => {
  test("more than maxQueuedBytes cuts it off with a reset", () =>
    rig({ highWaterBytes: 1000, maxQueuedBytes: 200_000 }, {}, (r) => {
      block(r);
      while (r.connection.write(pattern(10_000)) || r.connection.state === "open");
      expect(r.connection.state).toBe("closed");
      expect(r.connection.bytesDropped).toBeGreaterThan(200_000);
      expect(r.connection.bytesDropped).toBeLessThanOrEqual(210_000 + 64 * 1024);
      r.loop.turn(0);
      expect(r.reasons).toEqual(["slow reader"]);
      expect(r.log.at(-1)).toMatch(/^close Cannot keep \d+ bytes for a slow peer: maxQueuedBytes is 200000$/);
      const buffer = bytes(64 * 1024);
      let received: number;
      do received = realSyscalls.recv(r.peer, buffer); while (received > 0);
      expect(received).toBe(-ERRNO.ECONNRESET[0]);
    }));

  test("a peer that reads is not cut off, however much is written", () =>
    rig({ highWaterBytes: 1000, maxQueuedBytes: 20_000_000 }, {}, (r) => {
      r.connection.write(pattern(10_000_000));
      expectPattern(readAtPeer(r, 10_000_000));
      expect(r.connection.state).toBe("open");
    }));

  test("the loop's maxQueuedBytes cuts the largest queue off, and no other", () =>
    rig({ loop: { maxQueuedBytes: 600_000 } }, {}, async (r) => {
      const [otherPeer, otherFd] = socketPair();
      const reasons: string[] = [];
      const settings = resolveConnection({}, { close: (_, __, reason) => void reasons.push(reason) }, () => {});
      const other = new Connection(r.loop, disown(otherFd), settings);
      other.start();
      block(r);
      while (r.connection.queuedBytes < 400_000) r.connection.write(pattern(10_000));
      other.write(pattern(300_000)); // the kernel takes some of it
      expect(r.loop.queueBudget.queuedBytes).toBe(r.connection.queuedBytes + other.queuedBytes);
      while (r.connection.state === "open") other.write(pattern(1_000));
      r.loop.turn(0);
      expect(r.reasons).toEqual(["slow reader"]);
      expect(reasons).toEqual([]);
      expect(other.state).toBe("open");
      expect(r.loop.queueBudget.queuedBytes).toBe(other.queuedBytes);
      other.close();
      r.loop.turn(0);
      expect(r.loop.queueBudget.queuedBytes).toBe(0);
      await Promise.resolve();
      void otherPeer;
    }));
});

describe("broadcast()", () => {
  test("sends one copy to all, and says how many have room", () => {
    const { sys, sizes } = offers();
    return rig({ sys, highWaterBytes: 1 << 20 }, {}, (r) => {
      const [otherPeer, otherFd] = socketPair();
      const other = new Connection(r.loop, disown(otherFd), resolveConnection({ highWaterBytes: 1 }, {}, () => {}));
      other.start();
      const news = bytes("news");
      expect(broadcast([r.connection, other], news)).toBe(2);
      news.fill(0); // the caller's own again
      broadcast([r.connection, other], "!");
      r.loop.turn(0);
      expect(text(receiveAll(r.peer))).toBe("news!");
      expect(text(receiveAll(otherPeer))).toBe("news!");
      other.close();
      expect(broadcast([other], "nobody")).toBe(0);
      expect(sizes.length).toBeGreaterThan(0);
      r.loop.turn(0);
    });
  });

  test("a large chunk waits in the queues without another copy, and all of it arrives", () =>
    rig({}, {}, (r) => {
      const size = 12_000_000;
      const shared = new SharedBytes(pattern(size));
      r.connection.write("first");
      expect(broadcast([r.connection], shared)).toBe(0);
      const last = shared.bytes.subarray(-4);
      last.set(bytes("seen")); // nobody may, but it shows that the queue refers to these bytes
      r.connection.write("last");
      const all = readAtPeer(r, 5 + size + 4);
      expectPattern(all.subarray(5, -8));
      expect(text(all.subarray(-8))).toBe("seenlast");
    }));

  test("takes text, bytes and SharedBytes, and nothing else", () => {
    expect(() => broadcast([], 7 as unknown as string)).toThrow(/Cannot share a chunk/);
    expect(new SharedBytes("grüße").byteLength).toBe(7);
  });
});
