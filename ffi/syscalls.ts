/**
 * libc's socket and epoll functions, typed: each returns its value or `-errno`.
 *
 * What happens every day (EAGAIN, EPIPE, EMFILE) is a value here, not an exception. A descriptor is a non-negative
 * integer, asserted at every call; pointers are typed arrays, which the kernel reads or fills during the call and which
 * are not retained after it. Nothing here closes a descriptor but {@linkcode close}.
 *
 * ```ts
 * import { AF, close, errnoName, SOCK, socket } from "@spillway/epoll/syscalls";
 *
 * const fd = socket(AF.inet, SOCK.stream | SOCK.cloexec, 0);
 * if (fd < 0) throw new Error(errnoName(-fd));
 * close(fd);
 * ```
 *
 * @module
 */
import type { Functions, StreamCalls } from "./backend.ts";
import { isDoubtful, PLAUSIBLE } from "./doubt.ts";
import { ERRNO } from "./errno.ts";
import { host } from "./host.ts";
import {
  decodeRlimit,
  encodeRlimit,
  epollEventLayout,
  type IoVector,
  type MessageHeader,
  type PollSet,
  type Rlimit,
  RLIMIT_BYTES,
} from "./layout.ts";
import { backend } from "./mod.ts";
import { LIBC } from "./symbols.ts";
export { AF, EFD, EPOLL, EPOLL_CTL, F, IPV6, MSG, O, POLL, RLIMIT, SHUT, SO, SOCK, SOL, TCP } from "./constants.ts";
export { ERRNO, type ErrnoName, errnoName, SystemError } from "./errno.ts";
export { UnavailableError, type UnavailableReason } from "./host.ts";
export {
  decodeInt,
  decodeRlimit,
  decodeSockaddr,
  decodeTcpInfo,
  encodeInt,
  encodeLinger,
  encodeRlimit,
  encodeSockaddr,
  EPOLL_EVENT,
  type EpollEventLayout,
  epollEventLayout,
  type Inet6Fields,
  type InetFields,
  IOV_MAX,
  IoVector,
  MessageHeader,
  PollSet,
  type Rlimit,
  RLIMIT_BYTES,
  SOCKADDR_MAX_BYTES,
  type SockaddrFields,
  TCP_INFO_BYTES,
  UNIX_PATH_MAX_BYTES,
  type UnixFields,
} from "./layout.ts";

let bound: Functions<typeof LIBC> | undefined;
let stream: StreamCalls | undefined;
// The calling thread's errno: each thread evaluates this module for itself.
let errnoView: Int32Array = new Int32Array(1);
let eventWords = 0; // of one struct epoll_event

function libc(): Functions<typeof LIBC> {
  return bound ?? bindLibc();
}

function streamCalls(): StreamCalls {
  return stream ??= backend().streamCalls?.(libc()) ?? libc();
}

function bindLibc(): Functions<typeof LIBC> {
  const { open, int32At } = backend();
  const functions = open(LIBC);
  errnoView = int32At(functions.__errno_location(), 1);
  eventWords = epollEventLayout().words;
  return bound = functions;
}

/** Stands for an errno that was overwritten by 0: `-0` would pass for success. No kernel returns it. */
const LOST_ERRNO = 4095;

/** Reads errno in the same expression as the call: any other call, even an allocation, may change it. */
function checked(result: number): number {
  return result === -1 ? -(errnoView[0]! || LOST_ERRNO) : result;
}

const MAX_TRANSFER_BYTES = 0x7fff_f000; // the kernel moves no more in one call: read(2), NOTES

function lengthOf(view: Uint8Array): number {
  return Math.min(view.byteLength, MAX_TRANSFER_BYTES);
}

/** Sending nothing is legal, but not what the owner of a detached buffer meant; and only Node refuses it by itself. */
function assertAttached(source: Uint8Array, call: string): void {
  if (source.byteLength === 0 && (source.buffer as ArrayBuffer).detached) {
    throw new TypeError(`Cannot call ${call}(2) with a detached buffer: its bytes are gone`);
  }
}

/** Bun turns `undefined` into 0, and 0 is somebody's descriptor. */
function assertFd(fd: number, call: string): void {
  if ((fd | 0) !== fd || fd < 0) {
    throw new RangeError(`Cannot call ${call}(2) on descriptor ${fd}: it must be a non-negative integer`);
  }
}

/** recv(2) into nothing returns 0, which reads as end of stream: a detached buffer must not look like one. */
function assertRoom(target: Uint8Array, call: string): void {
  if (target.byteLength === 0) {
    throw new RangeError(`Cannot call ${call}(2) with an empty buffer: 0 means end of stream`);
  }
}

/** C takes its caller's word for how many bytes there are: it would send what lies behind the array. */
function assertLength(length: number, source: Uint8Array, call: string): void {
  if ((length >>> 0) !== length || length > source.byteLength) {
    throw new RangeError(`Cannot call ${call}(2) with ${length} of ${source.byteLength} bytes`);
  }
}

/** C takes its caller's word for how many elements there are: it would read or fill what lies behind the array. */
function assertElements(available: number, needed: number, call: string): void {
  if (!(available >= needed)) {
    throw new RangeError(`Cannot call ${call}(2) on ${available} elements: it needs ${needed}`);
  }
}

/**
 * The outcome of a transfer repeated because its errno was doubtful. The failed call consumed the socket's pending
 * error, so what now looks like a clean end of stream is a reset.
 */
function afterDoubt(result: number): number {
  return result === 0 || result === -ERRNO.EPIPE[0] ? -ERRNO.ECONNRESET[0] : result;
}

const socklen = new Uint32Array(new ArrayBuffer(4)); // the value-result socklen_t of one call at a time

/**
 * Makes a socket: socket(2).
 *
 * @param domain `AF`. @param type `SOCK`, with its flags or-ed in. @param protocol 0 for the only one there is.
 * @returns A descriptor that the caller owns, or `-errno`.
 */
export function socket(domain: number, type: number, protocol: number): number {
  const c = libc();
  const fd = checked(c.socket(domain, type, protocol));
  return isDoubtful(fd, PLAUSIBLE.socket) ? checked(c.socket(domain, type, protocol)) : fd;
}

/**
 * Makes two connected sockets: socketpair(2).
 *
 * @param pair Filled with two descriptors that the caller owns; after a failure its content means nothing.
 * @returns 0 or `-errno`.
 */
export function socketpair(domain: number, type: number, protocol: number, pair: Int32Array): number {
  assertElements(pair.length, 2, "socketpair");
  return checked(libc().socketpair(domain, type, protocol, pair));
}

/**
 * Gives a socket its address: bind(2).
 *
 * @param sockaddr From `encodeSockaddr`.
 * @returns 0 or `-errno`; `-EADDRINUSE`, `-EACCES` and `-EADDRNOTAVAIL` are the caller's to explain.
 */
export function bind(fd: number, sockaddr: Uint8Array): number {
  assertFd(fd, "bind");
  const c = libc();
  const result = checked(c.bind(fd, sockaddr, sockaddr.byteLength));
  return isDoubtful(result, PLAUSIBLE.bind) ? checked(c.bind(fd, sockaddr, sockaddr.byteLength)) : result;
}

/**
 * Makes a socket listen, or changes the backlog of one that does: listen(2).
 *
 * @param backlog Finished handshakes the kernel queues; capped by net.core.somaxconn.
 * @returns 0 or `-errno`.
 */
export function listen(fd: number, backlog: number): number {
  assertFd(fd, "listen");
  return checked(libc().listen(fd, backlog));
}

/**
 * Takes the next finished connection from a listener: accept4(2).
 *
 * @param flags `SOCK.nonblock | SOCK.cloexec`, or 0.
 * @param sockaddr Filled with the peer's address, if given: 16 bytes for IPv4, 28 for IPv6. For a Unix peer, whose
 * address may have any length, ask {@linkcode getpeername}.
 * @returns A descriptor that the caller owns, or `-errno`. EMFILE and ENFILE are decided before the queue is looked
 * at, so they do not mean that somebody waits; and the errno of a connection that died in the queue is passed through.
 */
export function accept4(fd: number, flags: number, sockaddr: Uint8Array | null = null): number {
  assertFd(fd, "accept4");
  const c = libc();
  if (sockaddr !== null) socklen[0] = sockaddr.byteLength;
  const addrlen = sockaddr === null ? null : socklen;
  const accepted = checked(c.accept4(fd, sockaddr, addrlen, flags));
  return isDoubtful(accepted, PLAUSIBLE.accept4) ? checked(c.accept4(fd, sockaddr, addrlen, flags)) : accepted;
}

/**
 * Connects a socket: connect(2). Never repeated: a second call is another attempt.
 *
 * @returns 0, or `-errno`; `-EINPROGRESS` on a non-blocking socket means that `SO_ERROR` will tell once it is writable.
 */
export function connect(fd: number, sockaddr: Uint8Array): number {
  assertFd(fd, "connect");
  return checked(libc().connect(fd, sockaddr, sockaddr.byteLength));
}

/**
 * Reads a socket's own address: getsockname(2).
 *
 * @param sockaddr Filled; `SOCKADDR_MAX_BYTES` fit any.
 * @returns Bytes of the whole address, which may exceed the buffer, or `-errno`.
 */
export function getsockname(fd: number, sockaddr: Uint8Array): number {
  assertFd(fd, "getsockname");
  socklen[0] = sockaddr.byteLength;
  const result = checked(libc().getsockname(fd, sockaddr, socklen));
  return result < 0 ? result : socklen[0]!;
}

/**
 * Reads the peer's address: getpeername(2).
 *
 * @param sockaddr Filled; `SOCKADDR_MAX_BYTES` fit any.
 * @returns Bytes of the whole address, which may exceed the buffer, or `-errno`; `-ENOTCONN` once the peer is gone.
 */
export function getpeername(fd: number, sockaddr: Uint8Array): number {
  assertFd(fd, "getpeername");
  socklen[0] = sockaddr.byteLength;
  const result = checked(libc().getpeername(fd, sockaddr, socklen));
  return result < 0 ? result : socklen[0]!;
}

/**
 * Sets an option: setsockopt(2).
 *
 * @param value From `encodeInt`, `encodeLinger`, or any other struct the option takes.
 * @returns 0 or `-errno`.
 */
export function setsockopt(fd: number, level: number, name: number, value: Uint8Array): number {
  assertFd(fd, "setsockopt");
  const c = libc();
  const result = checked(c.setsockopt(fd, level, name, value, value.byteLength));
  return isDoubtful(result, PLAUSIBLE.setsockopt)
    ? checked(c.setsockopt(fd, level, name, value, value.byteLength))
    : result;
}

/**
 * Reads an option: getsockopt(2). Reading `SO.error` clears it, so this is never repeated.
 *
 * @param value Filled.
 * @returns Bytes filled, or `-errno`.
 */
export function getsockopt(fd: number, level: number, name: number, value: Uint8Array): number {
  assertFd(fd, "getsockopt");
  socklen[0] = value.byteLength;
  const result = checked(libc().getsockopt(fd, level, name, value, socklen));
  return result < 0 ? result : socklen[0]!;
}

/**
 * Ends one or both directions of a connection: shutdown(2). The descriptor stays open.
 *
 * @param how `SHUT`.
 * @returns 0 or `-errno`; `-ENOTCONN` if the peer has gone already.
 */
export function shutdown(fd: number, how: number): number {
  assertFd(fd, "shutdown");
  return checked(libc().shutdown(fd, how));
}

/**
 * Releases a descriptor: close(2). Never repeated, not even on EINTR: the number is free either way, and may already be
 * somebody else's.
 *
 * @returns 0 or `-errno`.
 */
export function close(fd: number): number {
  assertFd(fd, "close");
  return checked(libc().close(fd));
}

/**
 * Receives into `target`: recv(2).
 *
 * @param fd A connected socket.
 * @param target Where the bytes go; not empty.
 * @param flags `MSG`.
 * @param isStream The caller knows that this is a stream socket: Node has a faster call then, which reads from anything.
 * @returns Bytes received, 0 at end of stream, or `-errno`; `-EAGAIN` is "not ready", not failure. With `MSG.trunc` on
 * TCP the bytes are thrown away and only counted.
 */
export function recv(fd: number, target: Uint8Array, flags: number = 0, isStream: boolean = false): number {
  assertFd(fd, "recv");
  assertRoom(target, "recv");
  const c = isStream ? streamCalls() : libc();
  const received = checked(c.recv(fd, target, lengthOf(target), flags));
  return isDoubtful(received, PLAUSIBLE.recv)
    ? afterDoubt(checked(c.recv(fd, target, lengthOf(target), flags)))
    : received;
}

/**
 * Sends from `source`: send(2).
 *
 * @param fd A connected socket.
 * @param flags `MSG`; `MSG.nosignal` keeps a closed peer from raising SIGPIPE.
 * @param length How many of the bytes, from the first one; all of them by default. Spares a view for each call.
 * @param isStream The caller knows that this is a stream socket: Node has a faster call then, which writes to anything.
 * @returns Bytes the kernel took, which may be fewer than offered, or `-errno`; `-EAGAIN` is "full", not failure.
 */
export function send(
  fd: number,
  source: Uint8Array,
  flags: number = 0,
  length: number = lengthOf(source),
  isStream: boolean = false,
): number {
  assertFd(fd, "send");
  assertAttached(source, "send");
  assertLength(length, source, "send");
  const c = isStream ? streamCalls() : libc();
  const sent = checked(c.send(fd, source, length, flags));
  return isDoubtful(sent, PLAUSIBLE.send) ? afterDoubt(checked(c.send(fd, source, length, flags))) : sent;
}

/**
 * Receives one message into the chunks of `message`: recvmsg(2). `message.prepare()` was called before.
 *
 * @returns Bytes received, 0 at end of stream, or `-errno`. Received descriptors are the caller's, who must look for
 * `MSG.ctrunc`: on a full table the kernel drops them without an error.
 */
export function recvmsg(fd: number, message: MessageHeader, flags: number = 0): number {
  assertFd(fd, "recvmsg");
  assertElements(message.vector.count, 1, "recvmsg");
  const c = libc();
  const received = checked(c.recvmsg(fd, message.bytes, flags));
  return isDoubtful(received, PLAUSIBLE.recv) ? afterDoubt(checked(c.recvmsg(fd, message.bytes, flags))) : received;
}

/**
 * Sends the chunks of `message` as one: sendmsg(2). `message.prepare()` was called before.
 *
 * @returns Bytes the kernel took, or `-errno`.
 */
export function sendmsg(fd: number, message: MessageHeader, flags: number = 0): number {
  assertFd(fd, "sendmsg");
  const c = libc();
  const sent = checked(c.sendmsg(fd, message.bytes, flags));
  return isDoubtful(sent, PLAUSIBLE.send) ? afterDoubt(checked(c.sendmsg(fd, message.bytes, flags))) : sent;
}

/**
 * Writes several chunks in order: writev(2). On a socket whose peer is gone it raises SIGPIPE, which Deno, Bun and Node
 * ignore; {@linkcode sendmsg} with `MSG.nosignal` does not.
 *
 * @returns Bytes written, or `-errno`.
 */
export function writev(fd: number, vector: IoVector): number {
  assertFd(fd, "writev");
  return checked(libc().writev(fd, vector.bytes, vector.count));
}

/**
 * Reads from any descriptor: read(2). Not repeated in doubt, since it may be no socket.
 *
 * @param target Where the bytes go; not empty.
 * @returns Bytes read, 0 at the end, or `-errno`.
 */
export function read(fd: number, target: Uint8Array): number {
  assertFd(fd, "read");
  assertRoom(target, "read");
  return checked(libc().read(fd, target, lengthOf(target)));
}

/**
 * Writes to any descriptor: write(2). Not repeated in doubt, since it may be no socket.
 *
 * @returns Bytes written, or `-errno`.
 */
export function write(fd: number, source: Uint8Array): number {
  assertFd(fd, "write");
  assertAttached(source, "write");
  return checked(libc().write(fd, source, lengthOf(source)));
}

/**
 * Makes an epoll instance: epoll_create1(2).
 *
 * @param flags `EPOLL.cloexec` or 0.
 * @returns A descriptor that the caller owns, or `-errno`.
 */
export function epollCreate1(flags: number): number {
  const c = libc();
  const fd = checked(c.epoll_create1(flags));
  return isDoubtful(fd, PLAUSIBLE.epollCreate1) ? checked(c.epoll_create1(flags)) : fd;
}

/**
 * Adds, changes or removes a registration: epoll_ctl(2).
 *
 * @param operation `EPOLL_CTL`.
 * @param event One `struct epoll_event` in the layout of this CPU: `epollEventLayout`. Ignored by `EPOLL_CTL.del`.
 * @returns 0 or `-errno`; `-ENOSPC` is fs.epoll.max_user_watches.
 */
export function epollCtl(epollFd: number, operation: number, fd: number, event: Uint32Array | null): number {
  assertFd(epollFd, "epoll_ctl");
  assertFd(fd, "epoll_ctl");
  const c = libc();
  if (event !== null) assertElements(event.length, eventWords, "epoll_ctl");
  const result = checked(c.epoll_ctl(epollFd, operation, fd, event));
  return isDoubtful(result, PLAUSIBLE.epollCtl) ? checked(c.epoll_ctl(epollFd, operation, fd, event)) : result;
}

/**
 * Waits for events: epoll_wait(2). Blocks the thread, and with it the runtime.
 *
 * @param events Filled with up to `maxEvents` times `struct epoll_event`.
 * @param timeoutMs 0 returns at once, -1 waits for ever.
 * @returns How many events there are, or `-errno`; `-EINTR` is a signal, not failure.
 */
export function epollWait(epollFd: number, events: Uint32Array, maxEvents: number, timeoutMs: number): number {
  assertFd(epollFd, "epoll_wait");
  const c = libc();
  assertElements(events.length, eventWords * maxEvents, "epoll_wait");
  const count = checked(c.epoll_wait(epollFd, events, maxEvents, timeoutMs));
  return isDoubtful(count, PLAUSIBLE.epollWait) ? checked(c.epoll_wait(epollFd, events, maxEvents, timeoutMs)) : count;
}

/**
 * Makes an event counter: eventfd(2).
 *
 * @param initial What it counts from. @param flags `EFD`.
 * @returns A descriptor that the caller owns, or `-errno`.
 */
export function eventfd(initial: number, flags: number): number {
  return checked(libc().eventfd(initial, flags));
}

/**
 * Does one of many things to a descriptor: fcntl(2), for commands whose argument is an int.
 *
 * @param command `F`. @param argument What the command takes; 0 where it takes nothing.
 * @returns What the command returns, or `-errno`.
 */
export function fcntl(fd: number, command: number, argument: number = 0): number {
  assertFd(fd, "fcntl");
  return checked(libc().fcntl(fd, command, argument));
}

/**
 * Makes `newFd` mean what `oldFd` means, closing what it meant before, in one step: dup3(2).
 *
 * @param flags `O.cloexec` or 0.
 * @returns `newFd`, or `-errno`; `-EINVAL` if the two are equal.
 */
export function dup3(oldFd: number, newFd: number, flags: number): number {
  assertFd(oldFd, "dup3");
  assertFd(newFd, "dup3");
  const c = libc();
  const fd = checked(c.dup3(oldFd, newFd, flags));
  return isDoubtful(fd, PLAUSIBLE.dup3) ? checked(c.dup3(oldFd, newFd, flags)) : fd;
}

/** A path as C wants it. */
function cString(path: string): Uint8Array {
  if (path.includes("\0")) throw new TypeError(`Cannot use the path ${JSON.stringify(path)}: it contains a NUL`);
  const text = host().encode(path);
  const bytes = new Uint8Array(new ArrayBuffer(text.byteLength + 1));
  bytes.set(text);
  return bytes;
}

/**
 * Opens a file: open(2).
 *
 * @param flags `O`. @param mode Permissions of a file that this creates.
 * @returns A descriptor that the caller owns, or `-errno`.
 */
export function open(path: string, flags: number, mode: number = 0): number {
  const c = libc();
  const pathname = cString(path);
  const fd = checked(c.open(pathname, flags, mode));
  return isDoubtful(fd, PLAUSIBLE.open) ? checked(c.open(pathname, flags, mode)) : fd;
}

/**
 * Removes a name from the file system, such as that of a Unix socket: unlink(2).
 *
 * @returns 0 or `-errno`.
 */
export function unlink(path: string): number {
  return checked(libc().unlink(cString(path)));
}

/**
 * Waits for events on a few descriptors: poll(2). Blocks the thread, and with it the runtime, unless `timeoutMs` is 0.
 *
 * @param set Whose `revents` are filled. @param count How many of its entries count.
 * @returns How many descriptors have events, or `-errno`.
 */
export function poll(set: PollSet, count: number, timeoutMs: number): number {
  assertElements(set.capacity, count, "poll");
  return checked(libc().poll(set.bytes, count, timeoutMs));
}

/**
 * Makes a pipe: pipe2(2).
 *
 * @param pair Filled with the read end and the write end, both the caller's. @param flags `O`.
 * @returns 0 or `-errno`.
 */
export function pipe2(pair: Int32Array, flags: number): number {
  assertElements(pair.length, 2, "pipe2");
  return checked(libc().pipe2(pair, flags));
}

const rlimitBytes = new Uint8Array(new ArrayBuffer(RLIMIT_BYTES));

/**
 * Reads a resource limit of this process: getrlimit(2).
 *
 * @param resource `RLIMIT`.
 * @returns Both limits, or `-errno`.
 */
export function getrlimit(resource: number): Rlimit | number {
  const result = checked(libc().getrlimit(resource, rlimitBytes));
  return result < 0 ? result : decodeRlimit(rlimitBytes);
}

/**
 * Changes a resource limit of this process: setrlimit(2).
 *
 * @param resource `RLIMIT`. @param rlimit `soft` at most `hard`; a lowered `hard` cannot be raised without privilege.
 * @returns 0 or `-errno`.
 */
export function setrlimit(resource: number, rlimit: Rlimit): number {
  return checked(libc().setrlimit(resource, encodeRlimit(rlimit)));
}

/** The functions above as one table, so that a fake kernel can stand in for the real one. */
export interface Syscalls {
  /** See {@linkcode socket}. */
  readonly socket: typeof socket;
  /** See {@linkcode socketpair}. */
  readonly socketpair: typeof socketpair;
  /** See {@linkcode bind}. */
  readonly bind: typeof bind;
  /** See {@linkcode listen}. */
  readonly listen: typeof listen;
  /** See {@linkcode accept4}. */
  readonly accept4: typeof accept4;
  /** See {@linkcode connect}. */
  readonly connect: typeof connect;
  /** See {@linkcode getsockname}. */
  readonly getsockname: typeof getsockname;
  /** See {@linkcode getpeername}. */
  readonly getpeername: typeof getpeername;
  /** See {@linkcode setsockopt}. */
  readonly setsockopt: typeof setsockopt;
  /** See {@linkcode getsockopt}. */
  readonly getsockopt: typeof getsockopt;
  /** See {@linkcode shutdown}. */
  readonly shutdown: typeof shutdown;
  /** See {@linkcode close}. */
  readonly close: typeof close;
  /** See {@linkcode recv}. */
  readonly recv: typeof recv;
  /** See {@linkcode send}. */
  readonly send: typeof send;
  /** See {@linkcode recvmsg}. */
  readonly recvmsg: typeof recvmsg;
  /** See {@linkcode sendmsg}. */
  readonly sendmsg: typeof sendmsg;
  /** See {@linkcode writev}. */
  readonly writev: typeof writev;
  /** See {@linkcode read}. */
  readonly read: typeof read;
  /** See {@linkcode write}. */
  readonly write: typeof write;
  /** See {@linkcode epollCreate1}. */
  readonly epollCreate1: typeof epollCreate1;
  /** See {@linkcode epollCtl}. */
  readonly epollCtl: typeof epollCtl;
  /** See {@linkcode epollWait}. */
  readonly epollWait: typeof epollWait;
  /** See {@linkcode eventfd}. */
  readonly eventfd: typeof eventfd;
  /** See {@linkcode fcntl}. */
  readonly fcntl: typeof fcntl;
  /** See {@linkcode dup3}. */
  readonly dup3: typeof dup3;
  /** See {@linkcode open}. */
  readonly open: typeof open;
  /** See {@linkcode unlink}. */
  readonly unlink: typeof unlink;
  /** See {@linkcode poll}. */
  readonly poll: typeof poll;
  /** See {@linkcode pipe2}. */
  readonly pipe2: typeof pipe2;
  /** See {@linkcode getrlimit}. */
  readonly getrlimit: typeof getrlimit;
  /** See {@linkcode setrlimit}. */
  readonly setrlimit: typeof setrlimit;
}

/** The kernel. */
export const realSyscalls: Syscalls = {
  socket,
  socketpair,
  bind,
  listen,
  accept4,
  connect,
  getsockname,
  getpeername,
  setsockopt,
  getsockopt,
  shutdown,
  close,
  recv,
  send,
  recvmsg,
  sendmsg,
  writev,
  read,
  write,
  epollCreate1,
  epollCtl,
  epollWait,
  eventfd,
  fcntl,
  dup3,
  open,
  unlink,
  poll,
  pipe2,
  getrlimit,
  setrlimit,
};
