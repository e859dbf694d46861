/** What src/connection.ts takes of the heap for a connection that is idle: there may be many of them. */
import { expect, test } from "vitest";
import { EPOLL, EPOLL_CTL } from "../ffi/constants.ts";
import { epollEventLayout } from "../ffi/layout.ts";
import { realSyscalls } from "../ffi/syscalls.ts";
import { Connection } from "../src/connection.ts";
import { resolveConnection } from "../src/connection_options.ts";
import { EventLoop } from "../src/loop.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { heapBytes } from "./support/heap.ts";
import { kernelWith } from "./support/kernel.ts";

expectNoLeak();

/** So many that whatever else the runtime makes meanwhile is little for each. */
const CONNECTIONS = 10_000;
/**
 * What a connection takes: on V8, where it is larger, and a little for what does not repeat; no room for any other object.
 * Timeouts are kept by two objects more.
 */
const CASES = [
  { title: "without timeouts", options: {}, mostBytes: 208 },
  { title: "with timeouts", options: { idleTimeoutMs: 60_000, readTimeoutMs: 60_000 }, mostBytes: 520 },
];
const MESSAGE_BYTES = 64;
/** Beyond those that the process has. */
const FIRST_FD = 1_000_000;

const layout = epollEventLayout();

/** A loop whose kernel has one message for each connection that is added after `FIRST_FD`. */
function loopOfTalkers(): EventLoop {
  const waiting: number[] = [];
  return new EventLoop(
    {},
    kernelWith({
      epollCtl(epollFd, operation, fd, event) {
        if (fd < FIRST_FD) return realSyscalls.epollCtl(epollFd, operation, fd, event);
        if (operation === EPOLL_CTL.add) waiting.push(event![layout.slot]!, event![layout.generation]!);
        return 0;
      },
      epollWait(_, events, most) {
        const count = Math.min(most, waiting.length / 2);
        for (let i = 0, at = 0; i < count; i++, at += layout.words) {
          events[at + layout.events] = EPOLL.in;
          events[at + layout.generation] = waiting.pop()!;
          events[at + layout.slot] = waiting.pop()!;
        }
        return count;
      },
      recv: () => MESSAGE_BYTES,
      send: (_fd, _source, _flags, length) => length!,
      close: (fd) => fd < FIRST_FD ? realSyscalls.close(fd) : 0,
    }),
  );
}

test.each(CASES)(
  "an idle connection, which was answered before, takes little memory: $title",
  async ({ options, mostBytes }) => {
    const loop = loopOfTalkers();
    const settings = resolveConnection<undefined>(
      options,
      { data: (connection, bytes) => void connection.write(bytes) },
      (error) => loop.report(error),
    );
    const connections: (Connection | undefined)[] = new Array(CONNECTIONS).fill(undefined);
    const talk = () => {
      for (let i = 0; i < CONNECTIONS; i++) (connections[i] = new Connection(loop, FIRST_FD + i, settings)).start();
      while (loop.turn(0));
      expect(connections.every((connection) => connection!.bytesSent === MESSAGE_BYTES)).toBe(true);
    };
    const end = () => {
      for (const connection of connections) connection!.close();
      loop.turn(0);
      connections.fill(undefined);
    };
    for (let i = 0; i < 3; i++) { // until tables have grown and what is hot is compiled
      talk();
      end();
    }
    const before = heapBytes();
    talk();
    expect((heapBytes() - before) / CONNECTIONS, "bytes of each").toBeLessThan(mostBytes);
    end();
    await loop.close();
  },
);
