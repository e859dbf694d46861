/** errno as data and in words, and what is done about one that cannot be. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { describe, expect, test } from "vitest";
import { isDoubtful, PLAUSIBLE } from "../ffi/doubt.ts";
import { ERRNO, type ErrnoName, errnoName, expectValue, SystemError } from "../ffi/errno.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { newPath } from "./support/folders.ts";
import { needsProgram } from "./support/programs.ts";
import { scriptOutput } from "./support/scripts.ts";
import { injection } from "./support/trace.ts";

expectNoLeak();

describe("SystemError", () => {
  test("SystemError says what was attempted, which call failed, and why", () => {
    const error = new SystemError('listen on "127.0.0.1:80"', "bind", ERRNO.EACCES[0]);
    expect(error.message).toBe('Cannot listen on "127.0.0.1:80": bind(2) returned EACCES (permission denied)');
    expect(error).toMatchObject({ name: "SystemError", code: "EACCES", errno: 13, syscall: "bind" });
    expect(error).toBeInstanceOf(Error);
  });

  test("SystemError has a code for an errno that nobody knows", () => {
    const error = new SystemError("read", "read", 200);
    expect(error.message).toBe("Cannot read: read(2) returned E200 (unknown)");
    expect(error).toMatchObject({ code: "E200", errno: 200 });
  });

  test("expectValue() returns a value, 0 included, and throws SystemError for -errno", () => {
    expect(expectValue(0, "read", "read")).toBe(0);
    expect(expectValue(7, "read", "read")).toBe(7);
    expect(() => expectValue(-ERRNO.EMFILE[0], "open a file", "open")).toThrow(
      "Cannot open a file: open(2) returned EMFILE (too many open files)",
    );
  });
});

describe("ERRNO", () => {
  test("errnoName() is the inverse of ERRNO, with one name a number", () => {
    for (const [name, [errno]] of Object.entries(ERRNO)) expect(errnoName(errno)).toBe(name);
    expect(errnoName(4095)).toBe("E4095");
  });
});

describe("isDoubtful()", () => {
  const doubts = (call: keyof typeof PLAUSIBLE, name: ErrnoName) => isDoubtful(-ERRNO[name][0], PLAUSIBLE[call]);

  test.each(
    [
      ["accept4", ["EAGAIN", "EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "ECONNABORTED", "EINTR", "EPROTO", "EPERM"]],
      ["recv", ["EAGAIN", "ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENOTCONN", "ENOTSOCK", "EBADF", "ECONNREFUSED"]],
      ["send", ["EAGAIN", "EPIPE", "ECONNRESET", "EMSGSIZE", "ENOBUFS", "EDESTADDRREQ"]],
      ["bind", ["EADDRINUSE", "EACCES", "EADDRNOTAVAIL", "EINVAL"]],
      ["socket", ["EMFILE", "ENFILE", "EAFNOSUPPORT"]],
      ["epollCtl", ["EEXIST", "ENOENT", "ENOSPC", "EPERM", "EBADF"]],
      ["epollWait", ["EINTR", "EBADF", "EINVAL"]],
      ["open", ["ENOENT", "EMFILE", "EACCES"]],
      ["dup3", ["EBADF", "EMFILE", "EINVAL"]],
    ] satisfies [keyof typeof PLAUSIBLE, ErrnoName[]][],
  )("%s can return %o", (call, names) => {
    expect(names.filter((name) => doubts(call, name))).toEqual([]);
  });

  test.each(Object.keys(PLAUSIBLE) as (keyof typeof PLAUSIBLE)[])("%s cannot return ENOTEMPTY, 0 or 4095", (call) => {
    expect(doubts(call, "ENOTEMPTY")).toBe(true);
    expect(isDoubtful(-4095, PLAUSIBLE[call])).toBe(true);
    expect(isDoubtful(0, PLAUSIBLE[call])).toBe(false);
    expect(isDoubtful(1, PLAUSIBLE[call])).toBe(false);
  });

  test("recv, send, accept4 and epoll_wait cannot return ENOENT", () => {
    for (const call of ["recv", "send", "accept4", "epollWait"] as const) expect(doubts(call, "ENOENT")).toBe(true);
  });
});

describe.skipIf(needsProgram("strace"))("an errno that the call cannot have (strace)", () => {
  interface Injection {
    /** In strace's syntax, such as `"recvfrom:error=ENOENT:when=1"`. */
    readonly inject: string;
    /** Whether only calls on the path that the fixture opens are meant: for calls that the runtime makes too. */
    readonly onPath?: boolean;
  }

  /** Makes `call` in a process of its own; returns its outcome, and how often the kernel saw it. */
  async function underInjection(call: string, { inject, onPath = false }: Injection) {
    const [log, path] = [newPath("log"), newPath("fifo")];
    execFileSync("mkfifo", [path]);
    const name = inject.slice(0, inject.indexOf(":"));
    const under = ["strace", ...injection(log, inject)];
    if (onPath) under.push("-P", path);
    const { fd, outcome } = await scriptOutput("doubt.ts", { args: [call, path], under }) as {
      fd: number;
      outcome: number | string;
    };
    const lines = readFileSync(log, "utf8").split("\n");
    const pattern = new RegExp(`^\\d+ +${name}\\(${onPath ? "" : `${fd},`}`);
    return { outcome, calls: lines.filter((line) => pattern.test(line)).length };
  }

  test.each([
    ["recv data", "recvfrom", 3],
    ["recv idle", "recvfrom", "-EAGAIN"],
    ["recvmsg data", "recvmsg", 3],
    ["send", "sendto", 3],
    ["sendmsg", "sendmsg", 3],
    ["accept4 idle", "accept4", "-EAGAIN"],
    ["bind", "bind", 0],
    ["setsockopt", "setsockopt", 0],
  ])("%s: the call is repeated once and the repeat's outcome returned", async (call, name, outcome) => {
    expect(await underInjection(call, { inject: `${name}:error=ENOTEMPTY:when=1` })).toEqual({ outcome, calls: 2 });
  });

  test("accept4: the repeat's descriptor is returned", async () => {
    const { outcome, calls } = await underInjection("accept4 awaited", { inject: "accept4:error=ENOENT:when=1" });
    expect(calls).toBe(2);
    expect(outcome).toBeGreaterThan(2);
  });

  test.each([
    ["open", "openat", 1],
    ["dup3", "dup3", 1],
    ["epoll_ctl", "epoll_ctl", 0],
  ])("%s: the call is repeated once and succeeds", async (call, name, least) => {
    const inject = `${name}:error=ENOTEMPTY:when=1`;
    const { outcome, calls } = await underInjection(call, { inject, onPath: true });
    expect(calls).toBe(2);
    expect(outcome).toBeGreaterThanOrEqual(least);
  });

  test.each([
    ["recv end", "recvfrom"],
    ["recvmsg end", "recvmsg"],
    ["send closed", "sendto"],
    ["sendmsg closed", "sendmsg"],
  ])("%s: 0 or -EPIPE on the repeat is a reset, since the first call took the error", async (call, name) => {
    const inject = `${name}:error=ENOENT:when=1`;
    expect(await underInjection(call, { inject })).toEqual({ outcome: "-ECONNRESET", calls: 2 });
  });

  test("recv: an errno that comes twice is believed, and there is no third call", async () => {
    const inject = "recvfrom:error=ENOENT:when=1..3";
    expect(await underInjection("recv data", { inject })).toEqual({ outcome: "-ENOENT", calls: 2 });
  });

  test("recv: a plausible errno is believed at once", async () => {
    const inject = "recvfrom:error=EAGAIN:when=1";
    expect(await underInjection("recv data", { inject })).toEqual({ outcome: "-EAGAIN", calls: 1 });
  });

  test.each([
    ["connect", "connect", false],
    ["SO_ERROR", "getsockopt", true],
    ["shutdown", "shutdown", false],
    ["close", "close", true],
    ["read", "read", true],
    ["write", "write", true],
    ["unlink", process.arch === "x64" ? "unlink" : "unlinkat", true],
  ])("%s: never repeated, whatever its errno", async (call, name, onPath) => {
    const inject = `${name}:error=ENOTEMPTY:when=1`;
    expect(await underInjection(call, { inject, onPath })).toEqual({ outcome: "-ENOTEMPTY", calls: 1 });
  });
});
