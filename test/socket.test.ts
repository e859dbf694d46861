/** src/socket.ts: listeners, against the kernel. */
import { existsSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { AF, EFD, F, O, POLL, SOCK, SOL, TCP } from "../ffi/constants.ts";
import { SystemError } from "../ffi/errno.ts";
import { decodeInt, encodeInt, encodeSockaddr } from "../ffi/layout.ts";
import { realSyscalls as sys } from "../ffi/syscalls.ts";
import { type Address, encodeAddress } from "../src/address.ts";
import {
  adoptListener,
  isListening,
  listenOn,
  localAddress,
  remoteAddress,
  shutdownWrite,
  socketError,
} from "../src/socket.ts";
import { closeNow, expectNoLeak, outcome, own } from "./support/descriptors.ts";
import { newPath } from "./support/folders.ts";
import { failure, kernelWith } from "./support/kernel.ts";
import {
  bytes,
  connectTo,
  ready,
  reset,
  socketPair,
  tcpListener,
  tcpPair,
  tcpSocket,
  udpSocket,
} from "./support/sockets.ts";

expectNoLeak();

const OPTIONS = { backlog: 16, reusePort: false };
const IPV4: Address = { transport: "tcp", hostname: "127.0.0.1", port: 0 };

const unix = (path: string): Address => ({ transport: "unix", path });

/** A listener, closed when the test ends. */
function listener(address: Address, options = OPTIONS): number {
  return own(listenOn(address, options));
}

/** A connection to `address`: the client's end and the listener's. */
function connection(fd: number): [client: number, server: number] {
  const fields = encodeAddress("connect to", localAddress(fd));
  const family = { inet: AF.inet, inet6: AF.inet6, unix: AF.unix }[fields.family];
  const client = own(sys.socket(family, SOCK.stream | SOCK.cloexec, 0));
  expect(outcome(sys.connect(client, encodeSockaddr(fields)))).toBe(0);
  return [client, own(sys.accept4(fd, SOCK.nonblock | SOCK.cloexec))];
}

function option(fd: number, level: number, name: number): number {
  const value = encodeInt(-1);
  expect(outcome(sys.getsockopt(fd, level, name, value))).toBe(4);
  return decodeInt(value);
}

function thrownBy(task: () => unknown): SystemError {
  try {
    task();
  } catch (error) {
    expect(error).toBeInstanceOf(SystemError);
    return error as SystemError;
  }
  throw new Error("Cannot return an error: nothing was thrown");
}

describe("listenOn()", () => {
  test.each(["127.0.0.1", "::1"])("listenOn() listens on a port of %s that the kernel chose", (hostname) => {
    const fd = listener({ transport: "tcp", hostname, port: 0 });
    const address = localAddress(fd);
    expect(address).toMatchObject({ transport: "tcp", hostname });
    expect((address as { port: number }).port).toBeGreaterThan(0);
    const [client, server] = connection(fd);
    expect(remoteAddress(client)).toEqual(address);
    expect(remoteAddress(server)).toEqual(localAddress(client));
  });

  test("listenOn() listens on a Unix path and on an abstract name", () => {
    for (const path of [newPath(), `\0${newPath()}`]) {
      const fd = listener(unix(path));
      expect(localAddress(fd)).toEqual(unix(path));
      const [client, server] = connection(fd);
      expect(remoteAddress(client)).toEqual(unix(path));
      expect(remoteAddress(server)).toEqual(unix(""));
    }
  });

  test("listenOn() makes listeners that do not block, and that children do not inherit", () => {
    for (const address of [IPV4, unix(newPath())]) {
      const fd = listener(address);
      expect(sys.fcntl(fd, F.getfl) & O.nonblock).toBe(O.nonblock);
      expect(sys.fcntl(fd, F.getfd)).toBe(F.fdCloexec);
      expect(outcome(sys.accept4(fd, 0))).toBe("-EAGAIN");
    }
  });

  test("listenOn() has TCP_NODELAY inherited by what it accepts", () => {
    for (const hostname of ["127.0.0.1", "::1"]) {
      const [, server] = connection(listener({ transport: "tcp", hostname, port: 0 }));
      expect(option(server, SOL.tcp, TCP.nodelay)).toBe(1);
    }
  });

  test("listenOn() says in words that an address is in use, and code is EADDRINUSE", () => {
    const { port } = localAddress(listener(IPV4)) as { port: number };
    const error = thrownBy(() => listenOn({ ...IPV4, port } as Address, OPTIONS));
    expect(error.message).toBe(
      `Cannot listen on "tcp://127.0.0.1:${port}": bind(2) returned EADDRINUSE (address already in use)`,
    );
    expect(error.code).toBe("EADDRINUSE");
  });

  test("listenOn() throws EADDRNOTAVAIL for an address of another machine", () => {
    expect(thrownBy(() => listenOn({ ...IPV4, hostname: "192.0.2.1" } as Address, OPTIONS)).code).toBe("EADDRNOTAVAIL");
  });

  test("listenOn() says the same of IPv6: an address in use, and one of another machine", () => {
    const any: Address = { transport: "tcp", hostname: "::", port: 0 };
    const { port } = localAddress(listener(any)) as { port: number };
    expect(thrownBy(() => listenOn({ ...any, port }, OPTIONS)).code).toBe("EADDRINUSE");
    expect(thrownBy(() => listenOn({ ...any, hostname: "2001:db8::1" }, OPTIONS)).code).toBe("EADDRNOTAVAIL");
  });

  test("listenOn() throws ENOENT for a path in a folder that there is not", () => {
    expect(thrownBy(() => listenOn(unix("/there/is/no/such/folder/x.sock"), OPTIONS)).code).toBe("ENOENT");
  });

  test("listenOn() with reusePort lets several listeners share a port, without it none", () => {
    const shared = { backlog: 16, reusePort: true };
    const { port } = localAddress(listener(IPV4, shared)) as { port: number };
    const address = { ...IPV4, port } as Address;
    expect(localAddress(listener(address, shared))).toEqual(address);
    expect(thrownBy(() => listenOn(address, OPTIONS)).code).toBe("EADDRINUSE");
  });

  test("listenOn() takes a port again whose last connection is in TIME_WAIT", () => {
    const fd = listener(IPV4);
    const address = localAddress(fd);
    const [client, server] = connection(fd);
    closeNow(server); // who closes first waits
    ready(client, POLL.in);
    closeNow(client);
    closeNow(fd);
    expect(localAddress(listener(address))).toEqual(address);
  });

  test("listenOn() replaces a Unix socket file that nobody listens on any more", () => {
    const path = newPath();
    closeNow(listener(unix(path)));
    expect(existsSync(path)).toBe(true);
    connection(listener(unix(path)));
  });

  test("listenOn() does not replace a Unix socket file in use, not even with a full backlog", () => {
    const path = newPath();
    const fd = listener(unix(path), { backlog: 1, reusePort: false });
    for (const round of ["empty", "full"]) {
      const error = thrownBy(() => listenOn(unix(path), OPTIONS));
      expect(error.code, round).toBe("EADDRINUSE");
      expect(error.message).toContain(`"unix://${path}"`);
      for (let i = 0; i < 3; i++) {
        const client = own(sys.socket(AF.unix, SOCK.stream | SOCK.nonblock | SOCK.cloexec, 0));
        sys.connect(client, encodeSockaddr(encodeAddress("connect to", unix(path))));
      }
    }
    own(sys.accept4(fd, SOCK.cloexec)); // it listens still
  });

  test("listenOn() does not replace an abstract name in use", () => {
    const name = unix(`\0${newPath()}`);
    const fd = listener(name);
    expect(thrownBy(() => listenOn(name, OPTIONS)).code).toBe("EADDRINUSE");
    connection(fd);
  });

  // connect(2) refuses a connection to any file, socket or not, so a mistyped path cost the user the file behind it.
  test("listenOn() leaves a file alone that is no socket", () => {
    const path = newPath("notes.txt");
    writeFileSync(path, "precious");
    expect(thrownBy(() => listenOn(unix(path), OPTIONS)).code).toBe("EADDRINUSE");
    expect(readFileSync(path, "utf8")).toBe("precious");
    const link = newPath("link");
    symlinkSync(path, link);
    expect(thrownBy(() => listenOn(unix(link), OPTIONS)).code).toBe("EADDRINUSE");
    expect(readFileSync(link, "utf8")).toBe("precious");
  });

  test("listenOn() does not replace a Unix socket file where the kernel does not say that nobody listens", () => {
    const path = newPath();
    closeNow(listener(unix(path)));
    for (const code of ["EAGAIN", "EACCES", "EPROTOTYPE"] as const) {
      const kernel = kernelWith({ connect: () => failure(code) });
      expect(thrownBy(() => listenOn(unix(path), OPTIONS, kernel)).code, code).toBe("EADDRINUSE");
    }
    expect(existsSync(path)).toBe(true);
  });

  test("listenOn() throws RangeError for a path that is too long, TypeError for a name", () => {
    expect(() => listenOn(unix("/".padEnd(108, "x")), OPTIONS)).toThrow(RangeError);
    expect(() => listenOn({ ...IPV4, hostname: "example.com" } as Address, OPTIONS)).toThrow(TypeError);
  });

  test.each(["setsockopt", "bind", "listen"] as const)(
    "listenOn() leaves no descriptor behind when %s() fails",
    (call) => {
      const kernel = kernelWith({ [call]: () => failure("ENOBUFS") });
      const error = thrownBy(() => listenOn(IPV4, OPTIONS, kernel));
      expect([error.code, error.syscall]).toEqual(["ENOBUFS", call]);
    },
  );

  test("listenOn() throws EMFILE where there is no descriptor", () => {
    const error = thrownBy(() => listenOn(IPV4, OPTIONS, kernelWith({ socket: () => failure("EMFILE") })));
    expect(error.message).toBe(
      'Cannot listen on "tcp://127.0.0.1:0": socket(2) returned EMFILE (too many open files)',
    );
  });
});

describe("adoptListener()", () => {
  test("adoptListener() makes a listener non-blocking, and not inherited by children", () => {
    const fd = tcpSocket(0);
    expect(outcome(sys.listen(fd, 1))).toBe(0);
    adoptListener(fd);
    expect(sys.fcntl(fd, F.getfl) & O.nonblock).toBe(O.nonblock);
    expect(sys.fcntl(fd, F.getfd)).toBe(F.fdCloexec);
  });

  test("adoptListener() has what a TCP listener accepts send at once: TCP_NODELAY", () => {
    const fd = tcpListener();
    adoptListener(fd);
    connectTo(fd);
    const accepted = own(sys.accept4(fd, SOCK.cloexec));
    const value = encodeInt(0);
    expect(sys.getsockopt(accepted, SOL.tcp, TCP.nodelay, value)).toBe(4);
    expect(decodeInt(value)).toBe(1);
    const unix = own(listenOn({ transport: "unix", path: "\0spillway-nodelay" }, { backlog: 1, reusePort: false }));
    expect(() => adoptListener(unix)).not.toThrow();
  });

  test("adoptListener() throws EINVAL for a socket that does not listen", () => {
    for (const fd of [tcpSocket(), udpSocket(), socketPair()[0]]) {
      const error = thrownBy(() => adoptListener(fd));
      expect(error.code).toBe("EINVAL");
      expect(error.message).toContain(`Cannot listen on descriptor ${fd}`);
    }
  });

  test("adoptListener() throws ENOTSOCK for a descriptor that is no socket", () => {
    expect(thrownBy(() => adoptListener(own(sys.eventfd(0, EFD.cloexec)))).code).toBe("ENOTSOCK");
  });

  test("adoptListener() throws EBADF for a descriptor that is closed", () => {
    const fd = tcpListener();
    closeNow(fd);
    expect(thrownBy(() => adoptListener(fd)).code).toBe("EBADF");
  });
});

describe("isListening()", () => {
  test("isListening() tells a listener from other sockets", () => {
    expect(isListening(tcpListener(), "ask")).toBe(true);
    expect(isListening(tcpSocket(), "ask")).toBe(false);
  });
});

describe("remoteAddress()", () => {
  test("remoteAddress() is undefined once the peer has gone", () => {
    const [client, server] = tcpPair();
    reset(client);
    ready(server, POLL.err);
    expect(socketError(server, sys)).toBe(104);
    expect(remoteAddress(server)).toBeUndefined();
  });

  test("remoteAddress() throws for a descriptor that is no socket", () => {
    expect(thrownBy(() => remoteAddress(own(sys.eventfd(0, EFD.cloexec)))).code).toBe("ENOTSOCK");
  });
});

describe("socketError()", () => {
  test("socketError() clears what it returns", () => {
    const [client, server] = tcpPair();
    expect(socketError(server, sys)).toBe(0);
    reset(client);
    ready(server, POLL.err);
    expect(outcome(-socketError(server, sys))).toBe("-ECONNRESET");
    expect(socketError(server, sys)).toBe(0);
  });
});

describe("shutdownWrite()", () => {
  test("shutdownWrite() ends our stream and leaves the peer's; a peer that has gone is no failure", () => {
    const [a, b] = socketPair();
    shutdownWrite(a, sys);
    expect(sys.recv(b, bytes(1))).toBe(0);
    expect(sys.send(b, bytes("x"))).toBe(1);
    expect(sys.recv(a, bytes(1))).toBe(1);
    shutdownWrite(tcpSocket(), sys);
  });
});
