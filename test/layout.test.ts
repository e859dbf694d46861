/** The struct codecs of ffi/layout.ts, against the kernel, and against the C compiler where there is one. */
import { existsSync } from "node:fs";
import process from "node:process";
import { describe, expect, test } from "vitest";
import { AF, EFD, EPOLL, EPOLL_CTL, F, MSG, POLL, RLIMIT, SO, SOCK, SOL, TCP } from "../ffi/constants.ts";
import {
  decodeInt,
  decodeRlimit,
  decodeSockaddr,
  decodeTcpInfo,
  encodeInt,
  encodeLinger,
  encodeRlimit,
  encodeSockaddr,
  EPOLL_EVENT,
  epollEventLayout,
  IOV_MAX,
  IoVector,
  MessageHeader,
  PollSet,
  SOCKADDR_MAX_BYTES,
  type SockaddrFields,
  TCP_INFO_BYTES,
  UNIX_PATH_MAX_BYTES,
} from "../ffi/layout.ts";
import * as sys from "../ffi/syscalls.ts";
import { closeNow, expectNoLeak, outcome, own } from "./support/descriptors.ts";
import { newPath } from "./support/folders.ts";
import {
  addressOf,
  bytes,
  CMSGHDR_BYTES,
  connectTo,
  messageWith,
  ready,
  SCM_RIGHTS,
  socketPair,
  tcpListener,
  tcpPair,
  text,
  udpSocket,
} from "./support/sockets.ts";

expectNoLeak();

function roundTrip(fields: SockaddrFields): SockaddrFields {
  const sockaddr = encodeSockaddr(fields);
  return decodeSockaddr(sockaddr, sockaddr.byteLength);
}

describe("EPOLL_EVENT", () => {
  test("EPOLL_EVENT is packed to 12 bytes on x86-64 and aligned to 16 on aarch64", () => {
    expect(EPOLL_EVENT.x64).toEqual({ words: 3, events: 0, slot: 1, generation: 2 });
    expect(EPOLL_EVENT.arm64).toEqual({ words: 4, events: 0, slot: 2, generation: 3 });
  });

  test("epollEventLayout() is where the kernel of this CPU writes mask and data", () => {
    const layout = epollEventLayout();
    expect(layout).toBe(EPOLL_EVENT[process.arch as "x64" | "arm64"]);
    const epollFd = own(sys.epollCreate1(EPOLL.cloexec));
    const fds = [0, 1].map(() => own(sys.eventfd(1, EFD.cloexec)));
    fds.forEach((fd, i) => {
      const event = new Uint32Array(new ArrayBuffer(4 * layout.words));
      event[layout.events] = EPOLL.in | EPOLL.et;
      event[layout.slot] = 0x1111_1111 * (i + 1);
      event[layout.generation] = 0x8888_8888 + i;
      expect(sys.epollCtl(epollFd, EPOLL_CTL.add, fd, event)).toBe(0);
    });
    const guard = 0xdead_beef;
    const events = new Uint32Array(new ArrayBuffer(4 * (2 * layout.words + 1))).fill(guard);
    expect(sys.epollWait(epollFd, events, 2, 0)).toBe(2);
    for (const i of [0, 1]) {
      const at = i * layout.words;
      expect(events[at + layout.events]).toBe(EPOLL.in);
      expect(events[at + layout.slot]).toBe(0x1111_1111 * (i + 1));
      expect(events[at + layout.generation]).toBe(0x8888_8888 + i);
    }
    expect(events[2 * layout.words]).toBe(guard);
  });
});

describe("encodeSockaddr() and decodeSockaddr()", () => {
  test("sockaddr_in: family in host order, port and address in network order", () => {
    const fields = { family: "inet", address: new Uint8Array([127, 0, 0, 1]), port: 0x1f90 } as const;
    expect([...encodeSockaddr(fields)]).toEqual([2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    expect(roundTrip(fields)).toEqual(fields);
  });

  test("sockaddr_in6: the scope is in host order", () => {
    const address = Uint8Array.from({ length: 16 }, (_, i) => 0xf0 + i);
    const fields = { family: "inet6", address, port: 65_535, scopeId: 0x8000_0001 } as const;
    const sockaddr = encodeSockaddr(fields);
    expect(sockaddr.byteLength).toBe(28);
    expect([...sockaddr.subarray(0, 8)]).toEqual([10, 0, 255, 255, 0, 0, 0, 0]);
    expect([...sockaddr.subarray(24)]).toEqual([1, 0, 0, 0x80]);
    expect(roundTrip(fields)).toEqual(fields);
  });

  test("sockaddr_in6 is what the kernel takes and gives, where there is IPv6", () => {
    const address = new Uint8Array(16);
    address[15] = 1;
    const fd = sys.socket(AF.inet6, SOCK.stream | SOCK.cloexec, 0);
    if (fd < 0) return expect(outcome(fd)).toBe("-EAFNOSUPPORT");
    own(fd);
    const bound = sys.bind(fd, encodeSockaddr({ family: "inet6", address, port: 0, scopeId: 0 }));
    if (bound < 0) return expect(outcome(bound)).toBe("-EADDRNOTAVAIL");
    const found = addressOf(fd);
    expect(found).toMatchObject({ family: "inet6", address, scopeId: 0 });
    expect((found as { port: number }).port).toBeGreaterThan(0);
  });

  test("sockaddr_un: a path ends with its NUL, and the kernel gives it back", () => {
    const path = bytes(newPath("é.sock"));
    expect(roundTrip({ family: "unix", path })).toEqual({ family: "unix", path });
    const fd = own(sys.socket(AF.unix, SOCK.stream | SOCK.cloexec, 0));
    expect(sys.bind(fd, encodeSockaddr({ family: "unix", path }))).toBe(0);
    expect(existsSync(text(path))).toBe(true);
    expect(addressOf(fd)).toEqual({ family: "unix", path });
  });

  test("sockaddr_un: the longest path fits, and the kernel refuses one byte more", () => {
    const longest = bytes(newPath("x").padEnd(UNIX_PATH_MAX_BYTES, "x"));
    const fd = own(sys.socket(AF.unix, SOCK.stream | SOCK.cloexec, 0));
    const tooLong = encodeSockaddr({ family: "unix", path: bytes(`${text(longest)}x`) });
    expect(outcome(sys.bind(fd, tooLong))).toBe("-EINVAL");
    expect(sys.bind(fd, encodeSockaddr({ family: "unix", path: longest }))).toBe(0);
    expect(addressOf(fd)).toEqual({ family: "unix", path: longest });
  });

  test("sockaddr_un: an abstract name is counted, may hold NULs, and leaves no file", () => {
    const path = bytes(`\0spillway-${process.pid}\0x\0`);
    const fd = own(sys.socket(AF.unix, SOCK.stream | SOCK.cloexec, 0));
    expect(sys.bind(fd, encodeSockaddr({ family: "unix", path }))).toBe(0);
    expect(addressOf(fd)).toEqual({ family: "unix", path });
  });

  test("sockaddr_un: an unnamed socket has an empty path, whatever an earlier call left in the buffer", () => {
    const [fd] = socketPair();
    const sockaddr = bytes(SOCKADDR_MAX_BYTES).fill(0x78);
    const length = sys.getsockname(fd, sockaddr);
    expect(length).toBe(2);
    expect(decodeSockaddr(sockaddr, length)).toEqual({ family: "unix", path: new Uint8Array(0) });
  });

  test("decodeSockaddr() reads a view at an offset and shares no memory with it", () => {
    const fields = { family: "inet", address: new Uint8Array([10, 1, 2, 3]), port: 7 } as const;
    const memory = bytes(32);
    memory.set(encodeSockaddr(fields), 5);
    const found = decodeSockaddr(memory.subarray(5), 16);
    memory.fill(0);
    expect(found).toEqual(fields);
  });

  test("decodeSockaddr() throws RangeError for another family, and where the kernel gave no address", () => {
    const netlink = new Uint8Array([16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expect(() => decodeSockaddr(netlink, 12)).toThrow(RangeError);
    const stale = encodeSockaddr({ family: "inet", address: new Uint8Array(4), port: 7 });
    expect(() => decodeSockaddr(stale, 0)).toThrow(RangeError);
    expect(() => decodeSockaddr(stale, 15)).toThrow(RangeError);
  });

  test("encodeSockaddr() throws RangeError for a port or an address that would be cut", () => {
    const address = new Uint8Array(4);
    for (const port of [-1, 65_536, 1.5, NaN]) {
      expect(() => encodeSockaddr({ family: "inet", address, port }), `port ${port}`).toThrow(RangeError);
    }
    expect(() => encodeSockaddr({ family: "inet", address: new Uint8Array(16), port: 0 })).toThrow(RangeError);
    expect(() => encodeSockaddr({ family: "inet6", address, port: 0, scopeId: 0 })).toThrow(RangeError);
  });
});

describe("option values", () => {
  test.each([0, 1, -1, 0x7fff_ffff])("decodeInt() reads what encodeInt() wrote: %i", (value) => {
    expect(encodeInt(value).byteLength).toBe(4);
    expect(decodeInt(encodeInt(value))).toBe(value);
  });

  test("encodeLinger() is what SO_LINGER gives back", () => {
    const [, server] = tcpPair();
    for (const [isOn, seconds] of [[true, 0], [true, 7], [false, 7]] as const) {
      expect(sys.setsockopt(server, SOL.socket, SO.linger, encodeLinger(isOn, seconds))).toBe(0);
      const value = bytes(16);
      expect(sys.getsockopt(server, SOL.socket, SO.linger, value)).toBe(8);
      expect(value.slice(0, 8)).toEqual(encodeLinger(isOn, seconds));
    }
  });
});

describe("encodeRlimit() and decodeRlimit()", () => {
  test.each([
    { soft: 0, hard: 0 },
    { soft: 1024, hard: 524_288 },
    { soft: 2 ** 40, hard: Infinity },
    { soft: Infinity, hard: Infinity },
  ])("two 64-bit numbers round trip: %o", (limit) => {
    expect(decodeRlimit(encodeRlimit(limit))).toEqual(limit);
  });

  test("RLIM_INFINITY is all ones", () => {
    expect([...encodeRlimit({ soft: 1, hard: Infinity })]).toEqual([1, 0, 0, 0, 0, 0, 0, 0, ...Array(8).fill(255)]);
  });

  test("encodeRlimit() throws RangeError for what is no count", () => {
    for (const soft of [-1, 1.5, NaN, -Infinity]) {
      expect(() => encodeRlimit({ soft, hard: Infinity }), `${soft}`).toThrow(RangeError);
    }
  });

  test("decodeRlimit() reads what the kernel has as unlimited", () => {
    const RLIMIT_AS = 9; // unlimited unless somebody lowered it
    const found = sys.getrlimit(RLIMIT_AS);
    expect(found).toMatchObject({ hard: expect.any(Number) });
    expect(sys.getrlimit(RLIMIT.nofile)).toMatchObject({ soft: expect.any(Number) });
  });
});

describe("decodeTcpInfo()", () => {
  const infoOf = (fd: number) => {
    const info = bytes(TCP_INFO_BYTES);
    expect(sys.getsockopt(fd, SOL.tcp, TCP.info, info)).toBe(TCP_INFO_BYTES);
    return decodeTcpInfo(info);
  };

  test("decodeTcpInfo() of a listener: unacked is how many clients wait, sacked the backlog", () => {
    const listener = tcpListener(9);
    for (const waiting of [0, 1, 2, 3]) {
      expect(infoOf(listener)).toMatchObject({ state: 10, unacked: waiting, sacked: 9 });
      connectTo(listener);
    }
    own(sys.accept4(listener, SOCK.cloexec));
    expect(infoOf(listener).unacked).toBe(3);
  });

  test("decodeTcpInfo() of a connection: established, with a round trip time", () => {
    const [client, server] = tcpPair();
    sys.send(client, bytes("x"));
    ready(server);
    expect(infoOf(client).state).toBe(1);
    expect(infoOf(client).rttMicros).toBeGreaterThan(0);
  });
});

describe("PollSet", () => {
  test("PollSet keeps events and results of its entries apart", () => {
    const set = new PollSet(2);
    set.set(0, 0x0102_0304, POLL.in | POLL.out);
    set.set(1, -1, POLL.pri);
    expect([...set.bytes]).toEqual([4, 3, 2, 1, 5, 0, 0, 0, 255, 255, 255, 255, 2, 0, 0, 0]);
    set.bytes[6] = POLL.nval;
    expect([set.revents(0), set.revents(1)]).toEqual([POLL.nval, 0]);
    set.set(0, 3, POLL.in);
    expect(set.revents(0)).toBe(0);
  });

  test("PollSet throws RangeError for an entry that it does not have", () => {
    expect(() => new PollSet(1).set(1, 0, 0)).toThrow(RangeError);
  });
});

describe("IoVector", () => {
  test("IoVector holds address and length of each chunk, up to its capacity", () => {
    const vector = new IoVector(2);
    const memory = bytes("abcdef");
    expect([vector.push(memory.subarray(0, 2)), vector.push(memory.subarray(3))]).toEqual([true, true]);
    expect(vector.push(bytes("x"))).toBe(false);
    const words = new BigUint64Array(vector.bytes.buffer);
    expect([words[1], words[3]]).toEqual([2n, 3n]);
    expect(words[2]! - words[0]!).toBe(3n);
    vector.clear();
    expect(vector.count).toBe(0);
    expect(vector.push(bytes("x"))).toBe(true);
  });

  test("IoVector takes IOV_MAX chunks, and writev() writes them all", () => {
    const [a, b] = socketPair();
    const vector = new IoVector(IOV_MAX);
    for (let i = 0; i < IOV_MAX; i++) vector.push(bytes(String(i % 10)));
    expect(sys.writev(a, vector)).toBe(IOV_MAX);
    const target = bytes(2 * IOV_MAX);
    expect(text(target, sys.recv(b, target))).toBe("0123456789".repeat(103).slice(0, IOV_MAX));
  });

  test("IoVector throws RangeError for no entry, and for more than IOV_MAX", () => {
    for (const capacity of [0, IOV_MAX + 1, NaN]) expect(() => new IoVector(capacity)).toThrow(RangeError);
  });

  test("IoVector throws RangeError for an empty chunk, whose address means nothing", () => {
    const vector = new IoVector(1);
    expect(() => vector.push(bytes(0))).toThrow(RangeError);
    expect(vector.count).toBe(0);
  });

  test("IoVector points to a small array even after its first subarray(), which moves it in Bun", () => {
    const [a, b] = socketPair();
    const chunk = new Uint8Array(4).fill(97);
    const vector = new IoVector(1);
    vector.push(chunk);
    chunk.subarray(1).fill(98);
    expect(sys.writev(a, vector)).toBe(4);
    const target = bytes(8);
    expect(text(target, sys.recv(b, target))).toBe("abbb");
  });
});

describe("MessageHeader", () => {
  function messageOf(chunk: Uint8Array, nameBytes: number = 0, controlBytes: number = 0): MessageHeader {
    const vector = new IoVector(1);
    vector.push(chunk);
    const message = new MessageHeader(vector, nameBytes, controlBytes);
    message.prepare();
    return message;
  }

  test("MessageHeader reports the peer's address on UDP, anew for each message", () => {
    const [server, ...clients] = [udpSocket(), udpSocket(), udpSocket()];
    const message = messageOf(bytes(8), SOCKADDR_MAX_BYTES);
    for (const client of clients) {
      expect(sys.connect(client, encodeSockaddr(addressOf(server)))).toBe(0);
      sys.send(client, bytes("hi"));
      ready(server);
      message.prepare();
      expect(sys.recvmsg(server, message)).toBe(2);
      expect(message.nameLength).toBe(16);
      expect(decodeSockaddr(message.name, message.nameLength)).toEqual(addressOf(client));
    }
  });

  test("MessageHeader reports no address for a peer without a name", () => {
    const [a, b] = socketPair(SOCK.dgram);
    sys.send(a, bytes("hi"));
    const message = messageOf(bytes(8), SOCKADDR_MAX_BYTES);
    expect(sys.recvmsg(b, message)).toBe(2);
    expect(message.nameLength).toBe(0);
  });

  test("MessageHeader has MSG_TRUNC set for a datagram that was cut, and only then", () => {
    const [a, b] = socketPair(SOCK.dgram);
    const message = messageOf(bytes(4));
    for (const [sent, isCut] of [["too long", true], ["fits", false]] as const) {
      sys.send(a, bytes(sent));
      message.prepare();
      expect(sys.recvmsg(b, message)).toBe(4);
      expect((message.flags & MSG.trunc) !== 0).toBe(isCut);
    }
  });

  test("MessageHeader carries a descriptor in its control data", () => {
    const [a, b] = socketPair();
    const passed = own(sys.eventfd(7, EFD.cloexec));
    expect(sys.sendmsg(a, messageWith("x", passed))).toBe(1);
    const message = messageOf(bytes(8), 0, 24);
    expect(sys.recvmsg(b, message, MSG.cmsgCloexec)).toBe(1);
    expect(message.flags & MSG.ctrunc).toBe(0);
    expect(message.controlLength).toBeGreaterThanOrEqual(CMSGHDR_BYTES + 4);
    const view = new DataView(message.control.buffer);
    expect([view.getInt32(8, true), view.getInt32(12, true)]).toEqual([SOL.socket, SCM_RIGHTS]);
    const received = own(view.getInt32(CMSGHDR_BYTES, true));
    expect(received).not.toBe(passed);
    expect(sys.fcntl(received, F.getfd)).toBe(F.fdCloexec);
    closeNow(passed);
    expect(sys.read(received, bytes(8))).toBe(8);
  });

  test("MessageHeader has MSG_CTRUNC set where there is no room for a descriptor, and none arrives", () => {
    const [a, b] = socketPair();
    expect(sys.sendmsg(a, messageWith("x", own(sys.eventfd(0, EFD.cloexec))))).toBe(1);
    const message = messageOf(bytes(8));
    expect(sys.recvmsg(b, message)).toBe(1);
    expect(message.flags & MSG.ctrunc).toBe(MSG.ctrunc);
    expect(message.controlLength).toBe(0);
  });

  test("MessageHeader sends fewer chunks after its vector was cleared and filled anew", () => {
    const [a, b] = socketPair();
    const vector = new IoVector(2);
    const message = new MessageHeader(vector);
    for (const words of [["ab", "cd"], ["e"]]) {
      vector.clear();
      for (const word of words) vector.push(bytes(word));
      message.prepare();
      expect(sys.sendmsg(a, message)).toBe(words.join("").length);
    }
    const target = bytes(16);
    expect(text(target, sys.recv(b, target))).toBe("abcde");
  });
});
