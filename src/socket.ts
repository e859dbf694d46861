import { AF, F, O, SHUT, SO, SOCK, SOL, TCP } from "../ffi/constants.ts";
import { ERRNO, expectValue, SystemError } from "../ffi/errno.ts";
import {
  decodeInt,
  decodeSockaddr,
  decodeTcpInfo,
  encodeInt,
  encodeLinger,
  encodeSockaddr,
  SOCKADDR_MAX_BYTES,
  TCP_INFO_BYTES,
} from "../ffi/layout.ts";
import { realSyscalls, type Syscalls } from "../ffi/syscalls.ts";
import { type Address, decodeAddress, encodeAddress, formatAddress } from "./address.ts";

const FAMILY = { inet: AF.inet, inet6: AF.inet6, unix: AF.unix } as const;

/** A non-blocking stream socket, the caller's, or `-errno`. */
export function streamSocket(family: keyof typeof FAMILY, sys: Syscalls): number {
  return sys.socket(FAMILY[family], SOCK.stream | SOCK.nonblock | SOCK.cloexec, 0);
}

/** Has a TCP socket send small chunks without waiting for the acknowledgement of those before: TCP_NODELAY, tcp(7). */
export function sendAtOnce(fd: number, action: string, sys: Syscalls): void {
  setOption(sys, fd, SOL.tcp, TCP.nodelay, 1, action);
}

/** How {@linkcode listenOn} makes its socket. */
export interface ListenOptions {
  /** Finished handshakes that the kernel queues; net.core.somaxconn caps it. */
  readonly backlog: number;
  /** Whether other sockets may listen on the same address, the kernel spreading connections: SO_REUSEPORT, socket(7). */
  readonly reusePort: boolean;
}

/**
 * Makes a non-blocking listener. What it accepts has TCP_NODELAY, which Linux copies from the listener.
 *
 * A Unix socket file that nobody listens on any more is replaced; one in use is not.
 *
 * @returns A descriptor that the caller owns.
 * @throws {TypeError | RangeError} If the address cannot be one.
 * @throws {SystemError} If the kernel refuses: EADDRINUSE, EACCES, EADDRNOTAVAIL, EMFILE.
 */
export function listenOn(address: Address, options: ListenOptions, sys: Syscalls = realSyscalls): number {
  const fields = encodeAddress("listen on", address);
  const sockaddr = encodeSockaddr(fields);
  const action = `listen on ${JSON.stringify(formatAddress(address))}`;
  const fd = expectValue(streamSocket(fields.family, sys), action, "socket");
  try {
    if (fields.family !== "unix") {
      setOption(sys, fd, SOL.socket, SO.reuseaddr, 1, action);
      sendAtOnce(fd, action, sys);
      if (options.reusePort) setOption(sys, fd, SOL.socket, SO.reuseport, 1, action);
    }
    let bound = sys.bind(fd, sockaddr);
    if (bound === -ERRNO.EADDRINUSE[0] && address.transport === "unix" && isAbandoned(sys, address.path, sockaddr)) {
      sys.unlink(address.path);
      bound = sys.bind(fd, sockaddr);
    }
    expectValue(bound, action, "bind");
    expectValue(sys.listen(fd, options.backlog), action, "listen");
    return fd;
  } catch (error) {
    sys.close(fd);
    throw error;
  }
}

/**
 * Makes a listener that came from elsewhere, such as socket activation, fit for a loop: non-blocking, not inherited by
 * children, and with TCP_NODELAY for what it accepts. All but the second belong to the open file, so other holders of it
 * see them too.
 *
 * @throws {SystemError} If the descriptor is closed, no socket, or does not listen (EINVAL).
 */
export function adoptListener(fd: number, sys: Syscalls = realSyscalls): void {
  const action = `listen on descriptor ${fd}`;
  if (!isListening(fd, action, sys)) throw new SystemError(action, "getsockopt", ERRNO.EINVAL[0]);
  const flags = expectValue(sys.fcntl(fd, F.getfl), action, "fcntl");
  expectValue(sys.fcntl(fd, F.setfl, flags | O.nonblock), action, "fcntl");
  expectValue(sys.fcntl(fd, F.setfd, F.fdCloexec), action, "fcntl");
  if (localAddress(fd, sys).transport === "tcp") sendAtOnce(fd, action, sys);
}

/** Whether `fd` is a listening socket: SO_ACCEPTCONN, socket(7). */
export function isListening(fd: number, action: string, sys: Syscalls = realSyscalls): boolean {
  const value = encodeInt(0);
  expectValue(sys.getsockopt(fd, SOL.socket, SO.acceptconn, value), action, "getsockopt");
  return decodeInt(value) === 1;
}

/** Whether `fd` is a Unix socket: SO_DOMAIN, socket(7). */
export function isUnix(fd: number, sys: Syscalls): boolean {
  const value = encodeInt(0);
  return sys.getsockopt(fd, SOL.socket, SO.domain, value) > 0 && decodeInt(value) === AF.unix;
}

/** The address that `fd` is bound to. */
export function localAddress(fd: number, sys: Syscalls = realSyscalls): Address {
  const sockaddr = new Uint8Array(new ArrayBuffer(SOCKADDR_MAX_BYTES));
  const length = expectValue(sys.getsockname(fd, sockaddr), "read a socket's address", "getsockname");
  return decodeAddress(decodeSockaddr(sockaddr, length));
}

/** The address of the other end of `fd`, or `undefined` if it has gone. */
export function remoteAddress(fd: number, sys: Syscalls = realSyscalls): Address | undefined {
  const sockaddr = new Uint8Array(new ArrayBuffer(SOCKADDR_MAX_BYTES));
  const length = sys.getpeername(fd, sockaddr);
  if (length === -ERRNO.ENOTCONN[0]) return undefined;
  return decodeAddress(decodeSockaddr(sockaddr, expectValue(length, "read a peer's address", "getpeername")));
}

/** The errno that is pending on `fd`, 0 for none; reading clears it: SO_ERROR, socket(7). */
export function socketError(fd: number, sys: Syscalls): number {
  const value = encodeInt(0);
  expectValue(sys.getsockopt(fd, SOL.socket, SO.error, value), "read a socket's error", "getsockopt");
  return decodeInt(value);
}

/** Ends what we send; the peer reads end of stream after it. A peer that has gone (ENOTCONN) needs no telling. */
export function shutdownWrite(fd: number, sys: Syscalls): void {
  sys.shutdown(fd, SHUT.wr);
}

/** Has close(2) reset a TCP connection instead of ending it: SO_LINGER, socket(7). On a Unix socket it does nothing. */
export function resetOnClose(fd: number, sys: Syscalls): void {
  // Only ever 0 seconds: a longer linger blocks close(2) on a non-blocking socket too.
  sys.setsockopt(fd, SOL.socket, SO.linger, RESET_ON_CLOSE);
}

const RESET_ON_CLOSE = encodeLinger(true, 0);

/** `TCP_FIN_WAIT2`, `TCP_TIME_WAIT` and `TCP_CLOSE`: the peer has acknowledged our end of stream. linux/tcp_states.h. */
const ACKNOWLEDGED = [5, 6, 7];

/**
 * Whether everything that was sent on `fd`, and the end of the stream after it, has reached the peer's kernel. On a Unix
 * socket that is so once it is sent.
 */
export function isDelivered(fd: number, sys: Syscalls): boolean {
  const info = new Uint8Array(new ArrayBuffer(TCP_INFO_BYTES));
  if (sys.getsockopt(fd, SOL.tcp, TCP.info, info) < 0) return true;
  return ACKNOWLEDGED.includes(decodeTcpInfo(info).state);
}

function setOption(sys: Syscalls, fd: number, level: number, name: number, value: number, action: string): void {
  expectValue(sys.setsockopt(fd, level, name, encodeInt(value)), action, "setsockopt");
}

/**
 * Whether a file is a Unix socket left over from a process that is gone. connect(2) is refused by any file that nobody
 * accepts behind, so it must be a socket first: only that cannot be opened with ENXIO.
 */
function isAbandoned(sys: Syscalls, path: string, sockaddr: Uint8Array): boolean {
  if (path.startsWith("\0")) return false; // an abstract name goes with its socket
  const opened = sys.open(path, O.rdonly | O.nonblock | O.cloexec);
  if (opened >= 0) sys.close(opened);
  if (opened !== -ERRNO.ENXIO[0]) return false;
  const fd = streamSocket("unix", sys);
  if (fd < 0) return false;
  const result = sys.connect(fd, sockaddr);
  sys.close(fd);
  return result === -ERRNO.ECONNREFUSED[0];
}
