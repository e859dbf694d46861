/** Registering with a Poller, changing what is waited for, and removing, over sockets, listeners and pipes. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EPOLL, MSG, O, SHUT, SOCK } from "../ffi/constants.ts";
import { expectValue } from "../ffi/errno.ts";
import { realSyscalls as sys } from "../ffi/syscalls.ts";
import { Interest, Readiness } from "../src/interest.ts";
import { Poller } from "../src/poller.ts";
import type { Token } from "../src/token.ts";
import { closeNow, expectNoLeak, outcome, own } from "./support/descriptors.ts";
import { receiveAll } from "./support/loops.ts";
import { add, closePollers, fail, newPoller, readable, turn, WAIT_MS } from "./support/pollers.ts";
import { check } from "./support/properties.ts";
import { ACTIONS, ScriptedEnd } from "./support/scripted_end.ts";
import { bytes, connectTo, ready, reset, socketPair, tcpListener, tcpPair } from "./support/sockets.ts";

expectNoLeak();
closePollers();

const BOTH = Interest.readable | Interest.writable;

/** Watches `fd`, and notes the readiness that is reported of it. */
function watch(poller: Poller, fd: number, interest: number): { told: number[]; token: Token } {
  const told: number[] = [];
  return { told, token: add(poller, fd, interest, { onReady: (bits) => told.push(bits) }) };
}

/** Takes the next client of `listener`. */
function accept(listener: number): number {
  return own(sys.accept4(listener, SOCK.nonblock | SOCK.cloexec));
}

/** The read end and the write end of a pipe. */
function pipe(): [number, number] {
  const pair = new Int32Array(new ArrayBuffer(8));
  expectValue(sys.pipe2(pair, O.nonblock | O.cloexec), "make a pipe", "pipe2");
  return [own(pair[0]!), own(pair[1]!)];
}

describe.each([["level", 0], ["edge", Interest.edge]] as const)("Poller, %s-triggered,", (_, trigger) => {
  test("tells of a client what became ready, changed to writable, removed: one event each, then none", () => {
    const poller = newPoller();
    const listener = tcpListener();
    const atListener = watch(poller, listener, Interest.acceptable | trigger);
    const client = connectTo(listener);
    const atClient = watch(poller, client, Interest.readable | trigger);
    turn(poller, fail, WAIT_MS);
    expect([atListener.told, atClient.told]).toEqual([[Readiness.readable], []]);
    const server = accept(listener);
    expect(sys.send(server, bytes("hello"))).toBe(5);
    ready(client);
    turn(poller);
    expect(atClient.told).toEqual([Readiness.readable]);
    poller.modify(atClient.token, Interest.writable | trigger);
    turn(poller);
    expect(atClient.told).toEqual([Readiness.readable, Readiness.writable]);
    poller.remove(atClient.token);
    poller.remove(atListener.token);
    connectTo(listener);
    ready(listener);
    expect(turn(poller)).toBe(0);
    expect([atListener.told.length, atClient.told.length, poller.size]).toEqual([1, 2, 0]);
    accept(listener);
  });

  test("what became ready before modify() is told only if it is still waited for", () => {
    const poller = newPoller();
    const listener = tcpListener();
    const { told, token } = watch(poller, listener, Interest.acceptable | trigger);
    connectTo(listener);
    ready(listener);
    poller.modify(token, Interest.writable | trigger);
    expect(turn(poller)).toBe(0);
    poller.modify(token, Interest.acceptable | trigger);
    turn(poller);
    expect(told).toEqual([Readiness.readable]);
    accept(listener);
  });

  test("what became ready between remove() and another add() is told to the new source alone", () => {
    const poller = newPoller();
    const listener = tcpListener();
    const first = watch(poller, listener, Interest.acceptable | trigger);
    poller.remove(first.token);
    connectTo(listener);
    ready(listener);
    expect(turn(poller)).toBe(0);
    const second = watch(poller, listener, Interest.acceptable | trigger);
    turn(poller);
    expect([first.told, second.told]).toEqual([[], [Readiness.readable]]);
    accept(listener);
  });

  test("an idle descriptor is not told of, however often it is added and removed", () => {
    const poller = newPoller();
    const [a] = socketPair();
    for (const fd of [tcpListener(), a]) {
      for (let i = 0; i < 3; i++) {
        const { told, token } = watch(poller, fd, Interest.readable | trigger);
        expect(turn(poller)).toBe(0);
        poller.remove(token);
        expect(told).toEqual([]);
      }
    }
  });

  test("a listener is told of each client, one after the other", () => {
    const poller = newPoller();
    const listener = tcpListener();
    const { told } = watch(poller, listener, Interest.acceptable | trigger);
    for (let clients = 1; clients <= 3; clients++) {
      connectTo(listener);
      turn(poller, fail, WAIT_MS);
      expect(told).toHaveLength(clients);
      accept(listener);
      expect(outcome(sys.accept4(listener, SOCK.cloexec))).toBe("-EAGAIN");
      expect(turn(poller)).toBe(0);
    }
  });

  test("a source that has read until EAGAIN is told again of what arrives after it", () => {
    const poller = newPoller();
    const [client, server] = tcpPair();
    const { told } = watch(poller, server, Interest.readable | trigger);
    for (let arrivals = 1; arrivals <= 3; arrivals++) {
      expect(sys.send(client, bytes("again"))).toBe(5);
      turn(poller, fail, WAIT_MS);
      expect(told).toHaveLength(arrivals);
      expect(receiveAll(server)).toHaveLength(5); // until EAGAIN
      expect(turn(poller)).toBe(0);
    }
  });

  test("what was written before remove() arrives", () => {
    const poller = newPoller();
    const [client, server] = tcpPair();
    const { told, token } = watch(poller, server, BOTH | trigger);
    expect(sys.send(server, bytes("written"))).toBe(7);
    poller.remove(token);
    expect(turn(poller)).toBe(0);
    ready(client);
    expect([receiveAll(client).byteLength, told]).toEqual([7, []]);
  });

  test("a descriptor that was closed without remove() is told no more, and its number may be added again", () => {
    const poller = newPoller();
    const [a, b] = socketPair();
    const { told, token } = watch(poller, a, BOTH | trigger);
    const other = readable();
    expect(outcome(sys.dup3(other, a, O.cloexec))).toBe(a); // closes it, and the number means something else at once
    expect(turn(poller)).toBe(0);
    const again = watch(poller, a, Interest.readable | trigger);
    turn(poller);
    expect([told, again.told]).toEqual([[], [Readiness.readable]]);
    poller.remove(again.token);
    poller.remove(token);
    closeNow(b);
  });

  test("an orderly end, ours and the peer's, is told as hungUp beside readEnded", () => {
    const poller = newPoller();
    const [client, server] = tcpPair();
    const { told } = watch(poller, server, Interest.readable | trigger);
    sys.shutdown(client, SHUT.wr);
    turn(poller, fail, WAIT_MS);
    expect(told).toEqual([Readiness.readable | Readiness.readEnded]);
    sys.shutdown(server, SHUT.wr);
    turn(poller, fail, WAIT_MS);
    expect(told.at(-1)).toBe(Readiness.readable | Readiness.readEnded | EPOLL.hup);
  });

  test("a reset is told as an error and hungUp, also where it came before the socket was added", () => {
    const poller = newPoller();
    const everything = Readiness.readable | Readiness.readEnded | Readiness.hungUp;
    for (const isFirst of [true, false]) {
      const [client, server] = tcpPair();
      const before = isFirst ? undefined : watch(poller, server, Interest.readable | trigger);
      reset(client);
      ready(server);
      const { told, token } = before ?? watch(poller, server, Interest.readable | trigger);
      turn(poller, fail, WAIT_MS);
      expect(told).toEqual([everything]);
      poller.remove(token);
    }
  });

  test.each(
    [
      ["the reading half", SHUT.rd, Readiness.readable | Readiness.writable | Readiness.readEnded],
      ["the writing half", SHUT.wr, Readiness.writable],
      ["both halves", SHUT.rdwr, Readiness.readable | Readiness.writable | Readiness.readEnded | EPOLL.hup],
    ] as const,
  )("shutdown(2) of %s of our own socket is told as the kernel sees it, over TCP and Unix", (_, how, expected) => {
    for (const [, fd] of [tcpPair(), socketPair()]) {
      const poller = newPoller();
      const { told } = watch(poller, fd, BOTH | trigger);
      turn(poller);
      expect(told).toEqual([Readiness.writable]);
      expect(sys.shutdown(fd, how)).toBe(0);
      told.length = 0;
      turn(poller);
      // Ending what we send makes nothing ready that was not. An edge may come of it all the same.
      if (how === SHUT.wr && trigger !== 0 && told.length === 0) continue;
      expect(told).toEqual([expected]);
    }
  });

  test("a pipe: its reader is told of bytes, then of the writer's end; its writer of the reader's", () => {
    const poller = newPoller();
    const [read, write] = pipe();
    const reader = watch(poller, read, Interest.readable | trigger);
    const writer = watch(poller, write, Interest.writable | trigger);
    turn(poller);
    expect([reader.told, writer.told]).toEqual([[], [Readiness.writable]]);
    poller.remove(writer.token);
    expect(sys.write(write, bytes("x"))).toBe(1);
    turn(poller);
    expect(reader.told).toEqual([Readiness.readable]);
    closeNow(write);
    turn(poller);
    expect(reader.told.at(-1)).toBe(Readiness.readable | EPOLL.hup);

    const [otherRead, otherWrite] = pipe();
    closeNow(otherRead);
    const alone = watch(poller, otherWrite, Interest.writable | trigger);
    turn(poller);
    expect(alone.told).toEqual([Readiness.writable | EPOLL.err]);
  });

  test("an epoll descriptor is readable while the poller behind it has something to tell", () => {
    const outer = newPoller();
    const inner = newPoller();
    const { told } = watch(outer, inner.fd, Interest.readable | trigger);
    expect(turn(outer)).toBe(0);
    const behind = watch(inner, readable(), Interest.readable);
    turn(outer);
    turn(inner);
    expect([told, behind.told]).toEqual([[Readiness.readable], [Readiness.readable]]);
    inner.remove(behind.token);
    expect(turn(outer)).toBe(0);
  });

  test("two pollers may watch one descriptor, and each is told", () => {
    const pollers = [newPoller(), newPoller()];
    const listener = tcpListener();
    const watched = pollers.map((poller) => watch(poller, listener, Interest.acceptable | trigger));
    connectTo(listener);
    ready(listener);
    for (const poller of pollers) turn(poller);
    expect(watched.map(({ told }) => told)).toEqual([[Readiness.readable], [Readiness.readable]]);
    pollers[0]!.remove(watched[0]!.token);
    connectTo(listener);
    accept(listener);
    ready(listener);
    expect(pollers.map((poller) => turn(poller))).toEqual([0, 1]);
    accept(listener);
  });

  test("every byte of both directions arrives, whatever is waited for in between", () => {
    const script = fc.array(fc.constantFrom(...ACTIONS), { maxLength: 40 });
    check(fc.property(script, (actions) => {
      const poller = newPoller();
      let at = 0;
      const next = () => actions[at++] ?? "all";
      const ends = socketPair().map((fd) => new ScriptedEnd(poller, fd, trigger, next));
      for (let turns = 0; ends.some(({ isDone }) => !isDone); turns++) {
        expect(turns, "turns until both ends are through").toBeLessThan(1_000);
        turn(poller);
        for (const end of ends) end.goOn();
      }
      for (const end of ends) end.close();
      expect(ends.map(({ isWrong }) => isWrong)).toEqual([false, false]);
      expect(poller.size).toBe(0);
      poller.close();
    }));
  });
});

describe("Poller", () => {
  test("a second source for one descriptor is refused until the first is removed, and the first goes on", () => {
    const poller = newPoller();
    const fd = readable();
    const first = watch(poller, fd, Interest.readable);
    expect(outcome(poller.add(fd, Interest.readable, { onReady: fail }) as number)).toBe("-EEXIST");
    turn(poller);
    poller.remove(first.token);
    const second = watch(poller, fd, Interest.readable);
    turn(poller);
    expect([first.told, second.told]).toEqual([[Readiness.readable], [Readiness.readable]]);
  });

  test("64 sources that are removed before a wait are not told, and leave nothing", () => {
    const poller = newPoller();
    const watched = Array.from({ length: 64 }, () => watch(poller, readable(), BOTH));
    for (const { token } of watched) poller.remove(token);
    expect(turn(poller)).toBe(0);
    expect([poller.size, watched.flatMap(({ told }) => told)]).toEqual([0, []]);
  });

  test("2,000 pollers, one after the other, leave no descriptor", () => {
    for (let i = 0; i < 2_000; i++) {
      const poller = new Poller();
      expect(poller.wait(0)).toBe(0);
      poller.close();
    }
  });

  test("a source that only looked at its bytes is told of those that arrive after them", () => {
    const poller = newPoller();
    const [client, server] = tcpPair();
    const { told } = watch(poller, server, Interest.readable | Interest.edge);
    for (let arrivals = 1; arrivals <= 3; arrivals++) {
      expect(sys.send(client, bytes("x"))).toBe(1);
      turn(poller, fail, WAIT_MS);
      expect(told).toHaveLength(arrivals);
      expect(sys.recv(server, bytes(8), MSG.peek)).toBe(arrivals);
    }
  });
});
