/** What holds for every call of ffi/syscalls.ts: arguments are checked before the call, and each call is tested. */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { EFD, EPOLL_CTL, F, MSG, O, POLL, SHUT, SO, SOCK, SOL } from "../ffi/constants.ts";
import { epollEventLayout, IoVector, MessageHeader, PollSet } from "../ffi/layout.ts";
import { realSyscalls } from "../ffi/syscalls.ts";
import { expectNoLeak, own } from "./support/descriptors.ts";
import { bytes, loopback, socketPair } from "./support/sockets.ts";

expectNoLeak();

const sys = realSyscalls;

/** By call, one with `fd` in the place of each of its descriptors. `good` is a descriptor that is open. */
const CALLS_ON_A_DESCRIPTOR: Record<string, (fd: number, good: number) => unknown> = {
  bind: (fd) => sys.bind(fd, loopback()),
  listen: (fd) => sys.listen(fd, 1),
  accept4: (fd) => sys.accept4(fd, SOCK.cloexec),
  connect: (fd) => sys.connect(fd, loopback()),
  getsockname: (fd) => sys.getsockname(fd, bytes(16)),
  getpeername: (fd) => sys.getpeername(fd, bytes(16)),
  setsockopt: (fd) => sys.setsockopt(fd, SOL.socket, SO.reuseaddr, bytes(4)),
  getsockopt: (fd) => sys.getsockopt(fd, SOL.socket, SO.type, bytes(4)),
  shutdown: (fd) => sys.shutdown(fd, SHUT.wr),
  close: (fd) => sys.close(fd),
  recv: (fd) => sys.recv(fd, bytes(1), MSG.dontwait),
  send: (fd) => sys.send(fd, bytes(1), MSG.dontwait),
  recvmsg: (fd) => sys.recvmsg(fd, message(), MSG.dontwait),
  sendmsg: (fd) => sys.sendmsg(fd, message(), MSG.dontwait),
  writev: (fd) => sys.writev(fd, message().vector),
  read: (fd) => sys.read(fd, bytes(1)),
  write: (fd) => sys.write(fd, bytes(1)),
  epollCtl: (fd, good) => sys.epollCtl(fd, EPOLL_CTL.del, good, null),
  "epollCtl, the descriptor to watch,": (fd, good) => sys.epollCtl(good, EPOLL_CTL.del, fd, null),
  epollWait: (fd) => sys.epollWait(fd, new Uint32Array(epollEventLayout().words), 1, 0),
  fcntl: (fd) => sys.fcntl(fd, F.getfd),
  dup3: (fd, good) => sys.dup3(fd, good, O.cloexec),
  "dup3, the number to take,": (fd, good) => sys.dup3(good, fd, O.cloexec),
};

/** Calls that take no descriptor. */
const CALLS_ON_NONE = [
  "socket",
  "socketpair",
  "epollCreate1",
  "eventfd",
  "open",
  "unlink",
  "poll",
  "pipe2",
  "getrlimit",
  "setrlimit",
];

const BAD_DESCRIPTORS = [undefined, null, NaN, -1, 1.5, 2 ** 31, 2 ** 32, 2 ** 32 + 1, Infinity, "1"];

function message(): MessageHeader {
  const vector = new IoVector(1);
  vector.push(bytes(1));
  const header = new MessageHeader(vector);
  header.prepare();
  return header;
}

/** A view whose memory was given away, as `postMessage` or a byte stream's `enqueue` do. */
function detached(): Uint8Array<ArrayBuffer> {
  const view = bytes(8);
  structuredClone(view.buffer, { transfer: [view.buffer] });
  return view;
}

describe("a descriptor that is no non-negative integer", () => {
  test.each(Object.entries(CALLS_ON_A_DESCRIPTOR))("%s throws RangeError before the call", (_, call) => {
    const [good] = socketPair();
    for (const fd of BAD_DESCRIPTORS) {
      expect(() => call(fd as number, good), `descriptor ${fd}`).toThrow(RangeError);
    }
  });

  test("close(undefined) does not close descriptor 0", () => {
    const before = sys.fcntl(0, F.getfd);
    expect(() => sys.close(undefined as unknown as number)).toThrow(
      "Cannot call close(2) on descriptor undefined: it must be a non-negative integer",
    );
    expect(sys.fcntl(0, F.getfd)).toBe(before);
  });
});

describe("memory that is not there", () => {
  test.each(["recv", "read"] as const)("%s throws RangeError for an empty and for a detached buffer", (name) => {
    const [a, b] = socketPair();
    sys.send(b, bytes("x"));
    expect(() => sys[name](a, bytes(0))).toThrow(RangeError);
    expect(() => sys[name](a, detached())).toThrow(RangeError);
    expect(sys[name](a, bytes(8))).toBe(1);
  });

  test.each(["send", "write"] as const)("%s throws TypeError for a detached buffer, and takes an empty one", (name) => {
    const [a] = socketPair();
    expect(() => sys[name](a, detached())).toThrow(TypeError);
    expect(sys[name](a, bytes(0))).toBe(0);
  });

  test.each(["open", "unlink"] as const)("%s throws TypeError for a path with a NUL, which would end it", (name) => {
    expect(() => sys[name]("/dev/null\0.txt", O.rdonly)).toThrow(
      'Cannot use the path "/dev/null\\u0000.txt": it contains a NUL',
    );
  });
});

describe("realSyscalls", () => {
  const names = readdirSync(new URL(".", import.meta.url))
    .filter((file) => /^syscalls_\w+\.test\.ts$/.test(file))
    .map((file) => readFileSync(new URL(file, import.meta.url), "utf8"))
    .flatMap((source) => [...source.matchAll(/\btest\("((\w+)\(\) .*?)",/g)])
    .map(([, name, call]) => ({ name: name!, call: call! }));

  test.each(Object.keys(sys))("%s has a test of success and one of failure by errno", (key) => {
    const tests = names.filter(({ call }) => call === key).map(({ name }) => name);
    const failures = tests.filter((name) => /-E[A-Z0-9]+\b/.test(name));
    expect(failures.length, `tests named "${key}() … -E…"`).toBeGreaterThanOrEqual(1);
    expect(tests.length, `tests named "${key}() …"`).toBeGreaterThanOrEqual(2);
  });

  test("each call is checked for descriptors or takes none", () => {
    const checked = Object.keys(CALLS_ON_A_DESCRIPTOR).map((name) => name.split(",")[0]!);
    expect([...new Set([...checked, ...CALLS_ON_NONE])].sort()).toEqual(Object.keys(sys).sort());
  });

  test("each call is the function that is exported under its name", async () => {
    const module: Record<string, unknown> = await import("../ffi/syscalls.ts");
    for (const [name, call] of Object.entries(sys)) expect(call).toBe(module[name]);
  });
});

test("poll() and eventfd() work with descriptor numbers above 255", () => {
  const fd = own(sys.eventfd(1, EFD.cloexec));
  const high = own(sys.fcntl(fd, F.dupfdCloexec, 300));
  const set = new PollSet(1);
  set.set(0, high, POLL.in);
  expect(sys.poll(set, 1, 0)).toBe(1);
});
