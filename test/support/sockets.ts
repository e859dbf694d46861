/** Sockets for tests: on loopback or in pairs, non-blocking, closed when the test ends. */
import { AF, POLL, SO, SOCK, SOL } from "../../ffi/constants.ts";
import { ERRNO, expectValue } from "../../ffi/errno.ts";
import {
  decodeSockaddr,
  encodeLinger,
  encodeSockaddr,
  IoVector,
  MessageHeader,
  PollSet,
  SOCKADDR_MAX_BYTES,
  type SockaddrFields,
} from "../../ffi/layout.ts";
import * as sys from "../../ffi/syscalls.ts";
import { closeNow, own } from "./descriptors.ts";

const READY_MS = 20_000;
const FLAGS = SOCK.nonblock | SOCK.cloexec;

/** 127.0.0.1 with `port`; 0 lets the kernel choose. */
export function loopback(port: number = 0): Uint8Array<ArrayBuffer> {
  return encodeSockaddr({ family: "inet", address: new Uint8Array([127, 0, 0, 1]), port });
}

/** Two connected Unix sockets. */
export function socketPair(type: number = SOCK.stream): [number, number] {
  const pair = new Int32Array(new ArrayBuffer(8));
  expectValue(sys.socketpair(AF.unix, type | FLAGS, 0, pair), "make a pair", "socketpair");
  return [own(pair[0]!), own(pair[1]!)];
}

/** A socket of IPv4. */
export function tcpSocket(flags: number = FLAGS): number {
  return own(sys.socket(AF.inet, SOCK.stream | flags, 0));
}

/** A UDP socket on a free port of loopback. */
export function udpSocket(): number {
  const fd = own(sys.socket(AF.inet, SOCK.dgram | FLAGS, 0));
  expectValue(sys.bind(fd, loopback()), "bind to loopback", "bind");
  return fd;
}

/** A TCP listener on a free port of loopback. */
export function tcpListener(backlog: number = 16): number {
  const fd = tcpSocket();
  expectValue(sys.bind(fd, loopback()), "bind to loopback", "bind");
  expectValue(sys.listen(fd, backlog), "listen", "listen");
  return fd;
}

/** A socket's own address. */
export function addressOf(fd: number): SockaddrFields {
  const sockaddr = new Uint8Array(new ArrayBuffer(SOCKADDR_MAX_BYTES));
  return decodeSockaddr(sockaddr, expectValue(sys.getsockname(fd, sockaddr), "read an address", "getsockname"));
}

/** A client whose connection waits in the queue of `listener`. */
export function connectTo(listener: number): number {
  const fd = tcpSocket(SOCK.cloexec);
  expectValue(sys.connect(fd, encodeSockaddr(addressOf(listener))), "connect", "connect");
  return fd;
}

/** A client and the server's end of one TCP connection. */
export function tcpPair(): [client: number, server: number] {
  const listener = tcpListener();
  const client = connectTo(listener);
  return [client, own(sys.accept4(listener, FLAGS))];
}

/** Ends a TCP connection with a reset instead of an orderly close. */
export function reset(fd: number): void {
  const now = encodeLinger(true, 0);
  expectValue(sys.setsockopt(fd, SOL.socket, SO.linger, now), "ask for a reset", "setsockopt");
  closeNow(fd);
}

/** Waits for `events` of `fd`, so that a test does not race with loopback. */
export function ready(fd: number, events: number = POLL.in): void {
  const set = new PollSet(1);
  set.set(0, fd, events);
  expectValue(sys.poll(set, 1, READY_MS) || -ERRNO.ETIMEDOUT[0], `see descriptor ${fd} become ready`, "poll");
}

/** Memory that may be handed to C. */
export function bytes(text: string | number): Uint8Array<ArrayBuffer> {
  if (typeof text === "number") return new Uint8Array(new ArrayBuffer(text));
  return new TextEncoder().encode(text);
}

/** The first `count` bytes as text. */
export function text(from: Uint8Array, count: number = from.byteLength): string {
  return new TextDecoder().decode(from.subarray(0, count));
}

/** All of `parts`, one after the other. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = bytes(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.byteLength;
  }
  return all;
}

/** `size_t cmsg_len; int cmsg_level; int cmsg_type`: cmsg(3). */
export const CMSGHDR_BYTES = 16;
/** unix(7). */
export const SCM_RIGHTS = 1;

/** A message of `word` that carries `fd`. */
export function messageWith(word: string, fd: number): MessageHeader {
  const vector = new IoVector(1);
  vector.push(bytes(word));
  const message = new MessageHeader(vector, 0, 24);
  message.prepare();
  const view = new DataView(message.control.buffer);
  view.setBigUint64(0, BigInt(CMSGHDR_BYTES + 4), true);
  view.setInt32(8, SOL.socket, true);
  view.setInt32(12, SCM_RIGHTS, true);
  view.setInt32(CMSGHDR_BYTES, fd, true);
  return message;
}
