/** Numbers and layouts of ffi/ against the C compiler's headers. Skipped where there is no compiler, in CI too. */
import { execFileSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, expect, test } from "vitest";
import * as constants from "../ffi/constants.ts";
import { ERRNO } from "../ffi/errno.ts";
import { EPOLL_EVENT, IOV_MAX, RLIMIT_BYTES, SOCKADDR_MAX_BYTES, UNIX_PATH_MAX_BYTES } from "../ffi/layout.ts";
import { temporaryFolder } from "./support/folders.ts";
import { hasProgram } from "./support/programs.ts";

const HEADERS = [
  "errno.h",
  "fcntl.h",
  "limits.h",
  "netinet/in.h",
  "netinet/tcp.h",
  "poll.h",
  "stddef.h",
  "stdio.h",
  "sys/epoll.h",
  "sys/eventfd.h",
  "sys/resource.h",
  "sys/socket.h",
  "sys/uio.h",
  "sys/un.h",
];

/** What a constant is called in C, where that is not its table, `_`, and its own name. */
const C_NAMES: Record<string, string> = {
  "SOL.ip": "IPPROTO_IP",
  "SOL.tcp": "IPPROTO_TCP",
  "SOL.udp": "IPPROTO_UDP",
  "SOL.ipv6": "IPPROTO_IPV6",
  "EPOLL.cloexec": "EPOLL_CLOEXEC",
  "F.fdCloexec": "FD_CLOEXEC",
};
/** Tables whose names follow without `_`, such as EPOLLIN. */
const WITHOUT_UNDERSCORE = ["EPOLL", "POLL"];

/** By C expression, the value that this module has for it. */
function expectations(): Record<string, number> {
  const expected: Record<string, number> = {};
  for (const [table, values] of Object.entries(constants)) {
    for (const [key, value] of Object.entries(values)) {
      const upper = key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
      const separator = WITHOUT_UNDERSCORE.includes(table) ? "" : "_";
      expected[C_NAMES[`${table}.${key}`] ?? `${table}${separator}${upper}`] = value >>> 0;
    }
  }
  for (const [name, [errno]] of Object.entries(ERRNO)) expected[name] = errno;
  return { ...expected, ...layouts() };
}

function layouts(): Record<string, number> {
  const event = EPOLL_EVENT[process.arch as "x64" | "arm64"];
  return {
    "sizeof(struct epoll_event)": 4 * event.words,
    "offsetof(struct epoll_event, events)": 4 * event.events,
    "offsetof(struct epoll_event, data)": 4 * event.slot,
    "sizeof(struct sockaddr_in)": 16,
    "offsetof(struct sockaddr_in, sin_port)": 2,
    "offsetof(struct sockaddr_in, sin_addr)": 4,
    "sizeof(struct sockaddr_in6)": 28,
    "offsetof(struct sockaddr_in6, sin6_addr)": 8,
    "offsetof(struct sockaddr_in6, sin6_scope_id)": 24,
    "sizeof(struct sockaddr_un)": SOCKADDR_MAX_BYTES,
    "offsetof(struct sockaddr_un, sun_path)": 2,
    "sizeof(((struct sockaddr_un *)0)->sun_path) - 1": UNIX_PATH_MAX_BYTES,
    "sizeof(struct linger)": 8,
    "offsetof(struct linger, l_linger)": 4,
    "sizeof(struct rlimit)": RLIMIT_BYTES,
    "sizeof(((struct rlimit *)0)->rlim_cur)": 8,
    "offsetof(struct rlimit, rlim_max)": 8,
    "offsetof(struct tcp_info, tcpi_state)": 0,
    "offsetof(struct tcp_info, tcpi_unacked)": 24,
    "offsetof(struct tcp_info, tcpi_sacked)": 28,
    "offsetof(struct tcp_info, tcpi_rtt)": 68,
    "sizeof(struct pollfd)": 8,
    "offsetof(struct pollfd, events)": 4,
    "offsetof(struct pollfd, revents)": 6,
    "sizeof(struct iovec)": 16,
    "offsetof(struct iovec, iov_len)": 8,
    IOV_MAX,
    "sizeof(struct msghdr)": 56,
    "offsetof(struct msghdr, msg_namelen)": 8,
    "offsetof(struct msghdr, msg_iov)": 16,
    "offsetof(struct msghdr, msg_iovlen)": 24,
    "offsetof(struct msghdr, msg_control)": 32,
    "offsetof(struct msghdr, msg_controllen)": 40,
    "offsetof(struct msghdr, msg_flags)": 48,
    "sizeof(int)": 4,
    "sizeof(socklen_t)": 4,
  };
}

const hasCompiler = hasProgram("gcc") &&
  HEADERS.every((header) =>
    header === "stddef.h" || ["/usr/include", `/usr/include/${process.arch === "x64" ? "x86_64" : "aarch64"}-linux-gnu`]
      .some((folder) => existsSync(join(folder, header)))
  );

describe.skipIf(!hasCompiler)("C headers", () => {
  const inFolder = temporaryFolder();

  const includes = ["#define _GNU_SOURCE", ...HEADERS.map((header) => `#include <${header}>`)].join("\n");

  test("constants.ts, errno.ts and layout.ts have the numbers of the C headers", () => {
    const expected = expectations();
    const lines = Object.keys(expected).map((name) =>
      `printf("%s\\t%u\\n", ${JSON.stringify(name)}, (unsigned)(${name}));`
    );
    const source = inFolder("numbers.c");
    writeFileSync(source, `${includes}\nint main(void) {\n${lines.join("\n")}\n}\n`);
    execFileSync("gcc", ["-w", "-o", inFolder("numbers"), source]);
    const printed = execFileSync(inFolder("numbers"), { encoding: "utf8" }).trim().split("\n");
    const found = Object.fromEntries(
      printed.map((line) => line.split("\t")).map(([name, value]) => [name, Number(value)]),
    );
    expect(expected).toEqual(found);
  });

  test("errno.ts knows every errno of errno.h", () => {
    const source = inFolder("errno.c");
    writeFileSync(source, "#include <errno.h>\n");
    const macros = execFileSync("gcc", ["-dM", "-E", source], { encoding: "utf8" });
    const names = [...macros.matchAll(/^#define (E[A-Z0-9]+) \d+$/gm)].map(([, name]) => name!);
    expect(names.length).toBeGreaterThan(100);
    expect(names.filter((name) => !(name in ERRNO))).toEqual([]);
  });
});
