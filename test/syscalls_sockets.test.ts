/** The socket calls of ffi/syscalls.ts, against the kernel. Every call has a test of success and one of failure. */
import { describe, expect, test } from "vitest";
import { AF, F, O, POLL, SHUT, SO, SOCK, SOL, TCP } from "../ffi/constants.ts";
import { decodeInt, decodeSockaddr, encodeInt, encodeSockaddr, SOCKADDR_MAX_BYTES } from "../ffi/layout.ts";
import {
  accept4,
  bind,
  close,
  connect,
  eventfd,
  fcntl,
  getpeername,
  getsockname,
  getsockopt,
  listen,
  recv,
  send,
  setsockopt,
  shutdown,
  socket,
  socketpair,
} from "../ffi/syscalls.ts";
import { expectNoLeak, outcome, own, withLimit } from "./support/descriptors.ts";
import {
  addressOf,
  bytes,
  connectTo,
  loopback,
  ready,
  reset,
  socketPair,
  tcpListener,
  tcpPair,
  tcpSocket,
  text,
  udpSocket,
} from "./support/sockets.ts";

expectNoLeak();

const NONBLOCK_CLOEXEC = SOCK.nonblock | SOCK.cloexec;

describe("socket()", () => {
  test("socket() returns a descriptor with the flags it was asked for", () => {
    const fd = own(socket(AF.inet, SOCK.stream | NONBLOCK_CLOEXEC, 0));
    expect(fcntl(fd, F.getfl) & O.nonblock).toBe(O.nonblock);
    expect(fcntl(fd, F.getfd)).toBe(F.fdCloexec);
  });

  test("socket() returns -EAFNOSUPPORT for a family that there is not", () => {
    expect(outcome(socket(99, SOCK.stream, 0))).toBe("-EAFNOSUPPORT");
  });

  test("socket() returns -EMFILE when the table is full", () => {
    withLimit(0, () => expect(outcome(socket(AF.inet, SOCK.stream, 0))).toBe("-EMFILE"));
  });
});

describe("socketpair()", () => {
  test("socketpair() fills in two connected sockets", () => {
    const [a, b] = socketPair();
    expect(send(a, bytes("over"))).toBe(4);
    const target = bytes(8);
    expect(text(target, recv(b, target))).toBe("over");
  });

  test("socketpair() returns -EOPNOTSUPP for IPv4, and the numbers it filled in are not open", () => {
    const pair = new Int32Array(2);
    expect(outcome(socketpair(AF.inet, SOCK.stream, 0, pair))).toBe("-EOPNOTSUPP");
  });

  test("socketpair() throws RangeError for a pair without room for two", () => {
    expect(() => socketpair(AF.unix, SOCK.stream, 0, new Int32Array(1))).toThrow(RangeError);
  });
});

describe("bind()", () => {
  test("bind() gives a socket the address it was handed", () => {
    const fd = tcpSocket();
    expect(bind(fd, loopback())).toBe(0);
    expect(addressOf(fd)).toMatchObject({ family: "inet", address: new Uint8Array([127, 0, 0, 1]) });
  });

  test("bind() returns -EADDRINUSE for the port of a listener", () => {
    const taken = encodeSockaddr(addressOf(tcpListener()));
    expect(outcome(bind(tcpSocket(), taken))).toBe("-EADDRINUSE");
  });

  test("bind() returns -EINVAL for a socket that has an address", () => {
    const fd = tcpListener();
    expect(outcome(bind(fd, loopback()))).toBe("-EINVAL");
  });
});

describe("listen()", () => {
  test("listen() makes a socket accept connections", () => {
    const fd = tcpSocket();
    expect(bind(fd, loopback())).toBe(0);
    expect(listen(fd, 1)).toBe(0);
    const value = bytes(4);
    expect(getsockopt(fd, SOL.socket, SO.acceptconn, value)).toBe(4);
    expect(decodeInt(value)).toBe(1);
  });

  test("listen() returns -EOPNOTSUPP for a datagram socket", () => {
    expect(outcome(listen(udpSocket(), 1))).toBe("-EOPNOTSUPP");
  });
});

describe("accept4()", () => {
  test("accept4() returns the next connection with the flags it was asked for", () => {
    const listener = tcpListener();
    connectTo(listener);
    const fd = own(accept4(listener, NONBLOCK_CLOEXEC));
    expect(fcntl(fd, F.getfl) & O.nonblock).toBe(O.nonblock);
    expect(fcntl(fd, F.getfd)).toBe(1);
  });

  test("accept4() fills in the peer's address", () => {
    const listener = tcpListener();
    const client = connectTo(listener);
    const sockaddr = bytes(SOCKADDR_MAX_BYTES);
    own(accept4(listener, NONBLOCK_CLOEXEC, sockaddr));
    expect(decodeSockaddr(sockaddr, 16)).toEqual(addressOf(client));
  });

  test("accept4() returns -EAGAIN when nobody waits", () => {
    expect(outcome(accept4(tcpListener(), NONBLOCK_CLOEXEC))).toBe("-EAGAIN");
  });

  test("accept4() returns -EINVAL for a socket that does not listen", () => {
    expect(outcome(accept4(tcpSocket(), NONBLOCK_CLOEXEC))).toBe("-EINVAL");
  });

  test("accept4() returns -EMFILE for a full table, whether somebody waits or not", () => {
    const listener = tcpListener();
    withLimit(0, () => expect(outcome(accept4(listener, NONBLOCK_CLOEXEC))).toBe("-EMFILE"));
    connectTo(listener);
    withLimit(0, () => expect(outcome(accept4(listener, NONBLOCK_CLOEXEC))).toBe("-EMFILE"));
    own(accept4(listener, NONBLOCK_CLOEXEC));
  });
});

describe("connect()", () => {
  test("connect() returns 0 once a blocking socket is connected", () => {
    const address = encodeSockaddr(addressOf(tcpListener()));
    expect(connect(tcpSocket(SOCK.cloexec), address)).toBe(0);
  });

  test("connect() returns -EINPROGRESS on a non-blocking socket, and SO_ERROR tells how it went", () => {
    const client = tcpSocket();
    expect(outcome(connect(client, encodeSockaddr(addressOf(tcpListener()))))).toBe("-EINPROGRESS");
    ready(client, POLL.out);
    const value = encodeInt(-1);
    expect(getsockopt(client, SOL.socket, SO.error, value)).toBe(4);
    expect(decodeInt(value)).toBe(0);
  });

  test("connect() returns -ECONNREFUSED where nobody listens", () => {
    const bound = tcpSocket();
    expect(bind(bound, loopback())).toBe(0);
    expect(outcome(connect(tcpSocket(SOCK.cloexec), encodeSockaddr(addressOf(bound))))).toBe("-ECONNREFUSED");
  });

  test("connect() returns -ENOENT for the path of no socket", () => {
    const path = bytes("/nonexistent/spillway.sock");
    const fd = own(socket(AF.unix, SOCK.stream | SOCK.cloexec, 0));
    expect(outcome(connect(fd, encodeSockaddr({ family: "unix", path })))).toBe("-ENOENT");
  });
});

describe("getsockname()", () => {
  test("getsockname() returns the length of the address it fills in", () => {
    const sockaddr = bytes(SOCKADDR_MAX_BYTES);
    expect(getsockname(tcpListener(), sockaddr)).toBe(16);
    expect(decodeSockaddr(sockaddr, 16).family).toBe("inet");
  });

  test("getsockname() returns the whole length where the buffer is shorter", () => {
    const sockaddr = bytes(4);
    expect(getsockname(tcpListener(), sockaddr)).toBe(16);
    expect([...sockaddr.subarray(0, 2)]).toEqual([AF.inet, 0]);
  });

  test("getsockname() returns -ENOTSOCK for a descriptor that is no socket", () => {
    const fd = own(eventfd(0, 0));
    expect(outcome(getsockname(fd, bytes(SOCKADDR_MAX_BYTES)))).toBe("-ENOTSOCK");
  });
});

describe("getpeername()", () => {
  test("getpeername() fills in the other end's address", () => {
    const [client, server] = tcpPair();
    const sockaddr = bytes(SOCKADDR_MAX_BYTES);
    expect(getpeername(server, sockaddr)).toBe(16);
    expect(decodeSockaddr(sockaddr, 16)).toEqual(addressOf(client));
  });

  test("getpeername() returns -ENOTCONN for a socket without a peer", () => {
    expect(outcome(getpeername(tcpListener(), bytes(SOCKADDR_MAX_BYTES)))).toBe("-ENOTCONN");
  });
});

describe("setsockopt()", () => {
  test("setsockopt() sets what getsockopt() then reads", () => {
    const fd = tcpSocket();
    expect(setsockopt(fd, SOL.tcp, TCP.nodelay, encodeInt(1))).toBe(0);
    const value = bytes(4);
    expect(getsockopt(fd, SOL.tcp, TCP.nodelay, value)).toBe(4);
    expect(decodeInt(value)).toBe(1);
  });

  test("setsockopt() returns -ENOPROTOOPT for an option that there is not", () => {
    expect(outcome(setsockopt(tcpSocket(), SOL.socket, 9_999, encodeInt(1)))).toBe("-ENOPROTOOPT");
  });

  test("setsockopt() returns -EINVAL for a value that is too short", () => {
    expect(outcome(setsockopt(tcpSocket(), SOL.socket, SO.reuseaddr, bytes(2)))).toBe("-EINVAL");
  });
});

describe("getsockopt()", () => {
  test("getsockopt() returns how many bytes it filled in", () => {
    const value = bytes(16);
    expect(getsockopt(tcpSocket(), SOL.socket, SO.type, value)).toBe(4);
    expect(decodeInt(value)).toBe(SOCK.stream);
  });

  test("getsockopt() of SO_ERROR clears the error it returns", () => {
    const [client, server] = tcpPair();
    reset(client);
    ready(server, POLL.err);
    const value = bytes(4);
    expect(getsockopt(server, SOL.socket, SO.error, value)).toBe(4);
    expect(outcome(-decodeInt(value))).toBe("-ECONNRESET");
    expect(getsockopt(server, SOL.socket, SO.error, value)).toBe(4);
    expect(decodeInt(value)).toBe(0);
  });

  test("getsockopt() returns -ENOPROTOOPT for an option that there is not", () => {
    expect(outcome(getsockopt(tcpSocket(), SOL.socket, 9_999, bytes(4)))).toBe("-ENOPROTOOPT");
  });
});

describe("shutdown()", () => {
  test("shutdown() ends one direction and leaves the other open", () => {
    const [a, b] = socketPair();
    expect(shutdown(a, SHUT.wr)).toBe(0);
    expect(recv(b, bytes(8))).toBe(0);
    expect(send(b, bytes("still"))).toBe(5);
    expect(recv(a, bytes(8))).toBe(5);
  });

  test("shutdown() returns -ENOTCONN for a socket that was never connected", () => {
    expect(outcome(shutdown(tcpSocket(), SHUT.wr))).toBe("-ENOTCONN");
  });
});

describe("close()", () => {
  test("close() releases the descriptor, and its number is free for the next", () => {
    const fd = socket(AF.inet, SOCK.stream | SOCK.cloexec, 0);
    expect(close(fd)).toBe(0);
    expect(outcome(fcntl(fd, F.getfd))).toBe("-EBADF");
  });

  test("close() returns -EBADF for a number that means nothing", () => {
    expect(outcome(close(0x7fff_ffff))).toBe("-EBADF");
  });
});
