/** Every method is legal inside every handler, of its own connection and of another one. */
import { describe, expect, test } from "vitest";
import { MSG, SHUT, SO, SOL } from "../ffi/constants.ts";
import { encodeInt } from "../ffi/layout.ts";
import { realSyscalls, send, shutdown } from "../ffi/syscalls.ts";
import { Connection } from "../src/connection.ts";
import { type ConnectionHandlers, resolveConnection } from "../src/connection_options.ts";
import { EventLoop } from "../src/loop.ts";
import { SharedBytes } from "../src/shared_bytes.ts";
import { disown, expectNoLeak } from "./support/descriptors.ts";
import { receiveAll, turnUntil, turnUntilQuiet } from "./support/loops.ts";
import { bytes, socketPair, tcpPair } from "./support/sockets.ts";

expectNoLeak();

const METHODS: Readonly<Record<string, (connection: Connection) => void>> = {
  "write": (c) => void c.write("text"),
  "write, more than the kernel takes": (c) => void c.write(bytes(500_000)),
  "write, shared": (c) => void c.write(new SharedBytes("shared")),
  "writev": (c) => void c.writev(["a", bytes(10_000)]),
  "cork": (c) => (c.cork(), void c.write("held")),
  "uncork": (c) => c.uncork(),
  "pause": (c) => c.pause(),
  "resume": (c) => c.resume(),
  "pause and resume": (c) => (c.pause(), c.resume()),
  "unread": (c) => c.unread(bytes("again")),
  "progress": (c) => c.progress(1),
  "end": (c) => c.end("bye"),
  "finish": (c) => c.finish({ timeoutMs: 20 }),
  "close": (c) => c.close(),
  "close, with an error": (c) => c.close(new Error("mine")),
  "abort": (c) => c.abort(),
};
const HANDLERS = ["open", "data", "drain", "end", "close"] as const;

/** Plays a short life of two connections, in one handler of which `act` is called, once. */
async function play(
  { over, trigger, where, on }: { over: "tcp" | "unix"; trigger: "level" | "edge"; where: string; on: "own" | "other" },
  act: (connection: Connection) => void,
): Promise<void> {
  const errors: unknown[] = [];
  const loop = new EventLoop({ onError: (error) => errors.push(error) }, realSyscalls);
  const log: string[][] = [[], []];
  const connections: Connection[] = [];
  const pairs = [0, 1].map(() => over === "tcp" ? tcpPair() : socketPair());
  // The smallest: little is more than the kernel takes.
  for (const [, fd] of pairs) {
    realSyscalls.setsockopt(fd, SOL.socket, SO.sndbuf, encodeInt(0));
  }
  let hasActed = false;
  const handlersOf = (index: number): ConnectionHandlers =>
    Object.fromEntries(HANDLERS.map((name) => [name, () => {
      log[index]!.push(name);
      if (index !== 0 || name !== where || hasActed) return;
      hasActed = true;
      act(connections[on === "own" ? 0 : 1] ?? connections[0]!);
    }]));
  for (const index of [1, 0]) { // the second one first, so that it is there when `open` of the first is told
    const settings = resolveConnection(
      { trigger, highWaterBytes: 1000, readTimeoutMs: 60_000, idleTimeoutMs: 60_000, bytesInPerSecond: 1_000_000 },
      handlersOf(index),
      (error) => errors.push(error),
    );
    connections[index] = new Connection(loop, disown(pairs[index]![1]), settings);
    connections[index]!.start();
  }
  const [first, second] = connections as [Connection, Connection];
  for (const [peer] of pairs) send(peer, bytes("hello"), MSG.nosignal);
  first.write(bytes(300_000)); // so that drain is due
  turnUntil(loop, () => {
    receiveAll(pairs[0]![0], "ends it");
    first.uncork();
    return first.queuedBytes === 0;
  }, "room");
  if (second.isPaused) second.resume();
  for (const [peer] of pairs) shutdown(peer, SHUT.wr);
  for (const connection of connections) connection.resume();
  turnUntil(loop, () => {
    for (const [peer] of pairs) receiveAll(peer, "ends it");
    for (const connection of connections) {
      connection.uncork();
      connection.resume();
    }
    return connections.every(({ state }) => state === "closed");
  }, "both ends");
  turnUntilQuiet(loop);
  expect(hasActed, "the handler was called").toBe(true);
  expect(errors).toEqual([]);
  for (const calls of log) {
    expect(calls.filter((name) => name === "open"), calls.join()).toHaveLength(1);
    expect(calls.filter((name) => name === "close"), calls.join()).toHaveLength(1);
    expect(calls.filter((name) => name === "end").length, calls.join()).toBeLessThanOrEqual(1);
    expect(calls.at(0)).toBe("open");
    expect(calls.at(-1)).toBe("close");
  }
  expect(loop.queueBudget.queuedBytes).toBe(0);
  await loop.close();
}

describe.each(HANDLERS)("inside %s,", (where) => {
  describe.each(["own", "other"] as const)("on its %s connection,", (on) => {
    test.each(Object.entries(METHODS))("%s is legal", async (_, act) => {
      for (const over of ["tcp", "unix"] as const) {
        for (const trigger of ["level", "edge"] as const) await play({ over, trigger, where, on }, act);
      }
    });
  });
});
