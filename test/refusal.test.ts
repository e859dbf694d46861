/** src/refusal.ts: how a client learns that it is refused. */
import { describe, expect, test } from "vitest";
import { MSG, SHUT, SOCK } from "../ffi/constants.ts";
import { accept4, close, realSyscalls, recv, send, shutdown, type Syscalls } from "../ffi/syscalls.ts";
import { Refusal, type Refuse } from "../src/refusal.ts";
import { disown, expectNoLeak, outcome, own } from "./support/descriptors.ts";
import { kernelWith } from "./support/kernel.ts";
import { bytes, connectTo, ready, reset, socketPair, tcpListener, text } from "./support/sockets.ts";

expectNoLeak();

const CHATTER_BYTES = 64 * 1024;

function refusal(refuse: Refuse, sys: Syscalls = realSyscalls): Refusal {
  return new Refusal(refuse, (farewell) => bytes(farewell), sys);
}

/** A client that has said `chatter` already when it is accepted, and the descriptor to refuse it with. */
function clientOver(over: "tcp" | "unix", chatter: number): [client: number, server: number] {
  const [client, server] = over === "unix" ? socketPair() : queued(chatter);
  if (over === "unix" && chatter > 0) expect(send(client, bytes(chatter), MSG.nosignal)).toBe(chatter);
  return [client, disown(server)];
}

/** Over TCP, it says so while it waits in the backlog. */
function queued(chatter: number): [client: number, server: number] {
  const listener = tcpListener();
  const client = connectTo(listener);
  if (chatter > 0) expect(send(client, bytes(chatter), MSG.nosignal)).toBe(chatter);
  return [client, own(accept4(listener, SOCK.nonblock | SOCK.cloexec))];
}

/** All that `client` receives, and how it ends: `0` for an orderly end of stream, or the errno's name. */
function received(client: number): [said: string, end: number | string] {
  let said = "";
  const buffer = bytes(4096);
  for (;;) {
    ready(client);
    const count = recv(client, buffer);
    if (count <= 0) return [said, outcome(count)];
    said += text(buffer, count);
  }
}

/** Refuses, then closes, as every caller does. */
function refuse(server: number, how: Refusal): void {
  how.tell(server);
  expect(outcome(close(server))).toBe(0);
}

const SAID = [["nothing", 0], ["a word", 5], ["64 KiB", CHATTER_BYTES]] as const;

describe.each(["tcp", "unix"] as const)("Refusal.tell() over %s", (over) => {
  test.each(SAID)(`"fin" after the client said %s is an orderly end`, (_, chatter) => {
    const [client, server] = clientOver(over, chatter);
    refuse(server, refusal("fin"));
    expect(received(client)).toEqual(["", 0]);
  });

  test.each(SAID)("a farewell is read completely by a client that said %s", (_, chatter) => {
    const farewell = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
    const [client, server] = clientOver(over, chatter);
    refuse(server, refusal(farewell));
    expect(received(client)).toEqual([farewell, 0]);
  });

  test("a farewell of 16 KiB is read completely", () => {
    const farewell = "0123456789abcdef".repeat(1024);
    const [client, server] = clientOver(over, CHATTER_BYTES);
    refuse(server, refusal(farewell));
    expect(received(client)).toEqual([farewell, 0]);
  });

  test("a farewell in bytes is that of the moment it was given", () => {
    const farewell = bytes("too busy");
    const [client, server] = clientOver(over, 0);
    const how = refusal(farewell);
    farewell.fill(0);
    refuse(server, how);
    expect(received(client)).toEqual(["too busy", 0]);
  });

  test.each(["", new Uint8Array(0)])("an empty farewell %o is an orderly end", (farewell) => {
    const [client, server] = clientOver(over, 5);
    refuse(server, refusal(farewell));
    expect(received(client)).toEqual(["", 0]);
  });

  test.each(["fin", "rst", "farewell"])("%s: a client that has gone already needs no telling", (how) => {
    const [client, server] = clientOver(over, 5);
    if (over === "tcp") reset(client);
    else close(disown(client));
    refuse(server, refusal(how));
  });

  test.each(["fin", "farewell"])("%s: a client that has ended its stream is ended in order", (how) => {
    const [client, server] = clientOver(over, 5);
    shutdown(client, SHUT.wr);
    refuse(server, refusal(how));
    expect(received(client)).toEqual([how === "fin" ? "" : "farewell", 0]);
  });

  test("leaves the descriptor to its caller, and makes none", () => {
    const calls: string[] = [];
    const counted = (name: "close" | "open" | "dup3" | "socket") => ({
      [name]: (...args: never[]) => {
        calls.push(name);
        return (realSyscalls[name] as (...args: never[]) => number)(...args);
      },
    });
    const sys = kernelWith({ ...counted("close"), ...counted("open"), ...counted("dup3"), ...counted("socket") });
    for (const how of ["fin", "rst", "farewell"]) {
      const [, server] = clientOver(over, 5);
      refusal(how, sys).tell(server);
      expect(outcome(close(server))).toBe(0);
    }
    expect(calls).toEqual([]);
  });
});

describe("Refusal.tell()", () => {
  test.each(SAID)(`"rst" is a reset over TCP, after the client said %s`, (_, chatter) => {
    const [client, server] = clientOver("tcp", chatter);
    refuse(server, refusal("rst"));
    expect(received(client)).toEqual(["", "-ECONNRESET"]);
  });

  test(`"rst" over a Unix socket is a plain close`, () => {
    const [client, server] = clientOver("unix", 0);
    refuse(server, refusal("rst"));
    expect(received(client)).toEqual(["", 0]);
  });

  test("throws away a megabyte at most, in one call", () => {
    const [client, server] = clientOver("unix", 5);
    let calls = 0;
    let offered = 0;
    const sys = kernelWith({
      recv(fd, target, flags) {
        calls++;
        offered = target.byteLength;
        return realSyscalls.recv(fd, target, flags);
      },
    });
    refuse(server, refusal("fin", sys));
    expect([calls, offered]).toEqual([1, 1024 * 1024]);
    expect(received(client)).toEqual(["", 0]);
  });

  test("never waits: no call without MSG_DONTWAIT, and no linger above 0 seconds", () => {
    const flags: number[] = [];
    const lingers: number[][] = [];
    const sys = kernelWith({
      recv: (fd, target, flag = 0) => (flags.push(flag), realSyscalls.recv(fd, target, flag)),
      send: (fd, chunk, flag = 0) => (flags.push(flag), realSyscalls.send(fd, chunk, flag)),
      setsockopt: (fd, level, name, value) => (
        lingers.push([...new Int32Array(value.slice().buffer)]), realSyscalls.setsockopt(fd, level, name, value)
      ),
    });
    for (const how of ["fin", "rst", "farewell"]) {
      const [, server] = clientOver("tcp", 5);
      refuse(server, refusal(how, sys));
    }
    expect(flags).toHaveLength(3);
    for (const flag of flags) expect(flag & MSG.dontwait).toBe(MSG.dontwait);
    expect(lingers).toEqual([[1, 0]]);
  });
});

test("Refusal refuses a farewell that might be cut short", () => {
  expect(() => refusal("x".repeat(16 * 1024))).not.toThrow();
  expect(() => refusal("x".repeat(16 * 1024 + 1))).toThrow(
    "Cannot use a farewell of 16385 bytes: at most 16384 are sure to be sent whole",
  );
});
