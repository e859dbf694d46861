/** src/leak_watch.ts: connections that nobody closed are told of, with the place they came from. */
import { describe, expect, test } from "vitest";
import { Connection } from "../src/connection.ts";
import { resolveConnection } from "../src/connection_options.ts";
import { LeakError, LeakWatch } from "../src/leak_watch.ts";
import { EventLoop } from "../src/loop.ts";
import { close } from "../ffi/syscalls.ts";
import { disown, expectNoLeak } from "./support/descriptors.ts";
import { collectGarbage } from "./support/garbage.ts";
import { socketPair } from "./support/sockets.ts";

expectNoLeak();

/** The name is looked for in a stack. */
function connectionMadeHere(loop: EventLoop, fd: number): Connection {
  return new Connection(loop, fd, resolveConnection({}, {}, () => {}));
}

describe("EventLoop with reportLeaks", () => {
  test("tells of connections that are left behind when it is closed, and where they were made", async () => {
    const leaks: unknown[] = [];
    const loop = new EventLoop({ reportLeaks: true, onError: (error) => leaks.push(error) });
    const [, fd] = socketPair();
    connectionMadeHere(loop, fd);
    await loop.close();
    expect(leaks).toHaveLength(1);
    const [leak] = leaks as LeakError[];
    expect(leak).toBeInstanceOf(LeakError);
    expect(leak!.fd).toBe(fd);
    expect(leak!.message).toMatch(/^A connection on descriptor \d+ was never closed: its event loop was closed/);
    expect(leak!.stack).toContain("connectionMadeHere");
  });

  test("releases what the loop holds, though onError throws what it is told, and close() rejects with that", async () => {
    const loop = new EventLoop({
      reportLeaks: true,
      onError: (error) => {
        throw error;
      },
    });
    const [, fd] = socketPair();
    const connection = connectionMadeHere(loop, fd);
    await expect(loop.close()).rejects.toThrow(LeakError);
    expect(loop.poller.fd).toBe(-1);
    expect(connection.state).toBe("open"); // it only tells
  });

  test("says nothing of connections that were closed, aborted, or handed over", async () => {
    const leaks: unknown[] = [];
    const loop = new EventLoop({ reportLeaks: true, onError: (error) => leaks.push(error) });
    const [a, b] = socketPair();
    connectionMadeHere(loop, disown(a)).close();
    const surrendered = connectionMadeHere(loop, disown(b)).surrender();
    close(surrendered);
    const [c] = socketPair();
    connectionMadeHere(loop, disown(c)).abort();
    loop.turn(0);
    await loop.close();
    expect(leaks).toEqual([]);
  });

  test("is off unless asked for", async () => {
    const loop = new EventLoop();
    expect(loop.leaks).toBeUndefined();
    await loop.close();
    expect(() => new EventLoop({ reportLeaks: 1 as unknown as boolean })).toThrow(TypeError);
  });

  test("tells of one that was dropped, once the garbage collector has taken it", async () => {
    const leaks: LeakError[] = [];
    const watch = new LeakWatch((leak) => leaks.push(leak));
    (() => {
      for (let i = 0; i < 10; i++) watch.made({ connection: i }, 1000 + i);
    })();
    const kept = {};
    watch.made(kept, 2000);
    await collectGarbage(() => leaks.length >= 5);
    expect(leaks[0]!.message).toMatch(/the garbage collector took it/);
    expect(leaks.map(({ fd }) => fd)).not.toContain(2000);
    watch.released(kept);
  });
});
