import { AF } from "./constants.ts";
import { backend, cpu } from "./mod.ts";

// Both CPUs are little-endian. Every array whose address reaches C is made over an ArrayBuffer of its own: Bun moves
// an array of up to 1,000 bytes made by `new Uint8Array(n)` the first time its buffer is asked for.
function allocate(bytes: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(bytes));
}

/** Offsets of one `struct epoll_event` in 32-bit words; its 64 bits of user data are a slot and its generation. */
export interface EpollEventLayout {
  /** Size of the struct. */
  readonly words: number;
  /** Where the event mask is. */
  readonly events: number;
  /** Where the low half of the user data is. */
  readonly slot: number;
  /** Where the high half of the user data is. */
  readonly generation: number;
}

/**
 * `struct epoll_event` by CPU. Packed on x86-64 only (EPOLL_PACKED): 12 bytes there, 16 elsewhere.
 * Source: linux/eventpoll.h.
 */
export const EPOLL_EVENT: Readonly<Record<"x64" | "arm64", EpollEventLayout>> = {
  x64: { words: 3, events: 0, slot: 1, generation: 2 },
  arm64: { words: 4, events: 0, slot: 2, generation: 3 },
};

/** {@linkcode EPOLL_EVENT} of the CPU this runs on. */
export function epollEventLayout(): EpollEventLayout {
  return EPOLL_EVENT[cpu()];
}

/** An IPv4 endpoint: `struct sockaddr_in`, ip(7). */
export interface InetFields {
  /** Tells the three kinds apart. */
  readonly family: "inet";
  /** 4 bytes in network order. */
  readonly address: Uint8Array;
  /** 0 to 65535. */
  readonly port: number;
}

/** An IPv6 endpoint: `struct sockaddr_in6`, ipv6(7). */
export interface Inet6Fields {
  /** Tells the three kinds apart. */
  readonly family: "inet6";
  /** 16 bytes in network order. */
  readonly address: Uint8Array;
  /** 0 to 65535. */
  readonly port: number;
  /** Interface index of a link-local address, else 0. */
  readonly scopeId: number;
}

/** A Unix domain endpoint: `struct sockaddr_un`, unix(7). */
export interface UnixFields {
  /** Tells the three kinds apart. */
  readonly family: "unix";
  /** The path without its terminating NUL; empty for an unnamed socket; begins with NUL for an abstract one. */
  readonly path: Uint8Array;
}

/** What a `struct sockaddr` says. */
export type SockaddrFields = InetFields | Inet6Fields | UnixFields;

/** Bytes of the largest `struct sockaddr` that this module reads: `sockaddr_un`. Source: linux/un.h. */
export const SOCKADDR_MAX_BYTES = 110;

/** Longest path of a Unix socket, without the terminating NUL: `sun_path` is 108 bytes. Source: linux/un.h. */
export const UNIX_PATH_MAX_BYTES = 107;

const SOCKADDR_IN_BYTES = 16;
const SOCKADDR_IN6_BYTES = 28;

/**
 * Writes a `struct sockaddr`: 16 bytes for IPv4, 28 for IPv6, and as many as the path needs for a Unix socket.
 *
 * Family in host order, port and address in network order. Source: ip(7), ipv6(7) and unix(7), "Address format". A Unix
 * path that is too long is the kernel's to refuse: {@linkcode UNIX_PATH_MAX_BYTES}.
 *
 * @throws {RangeError} If the port is not 0 to 65535, or the address not 4 or 16 bytes, as the family has it.
 */
export function encodeSockaddr(fields: SockaddrFields): Uint8Array<ArrayBuffer> {
  switch (fields.family) {
    case "inet": {
      assertEndpoint(fields, 4);
      const sockaddr = allocate(SOCKADDR_IN_BYTES);
      const view = new DataView(sockaddr.buffer);
      view.setUint16(0, AF.inet, true);
      view.setUint16(2, fields.port);
      sockaddr.set(fields.address, 4);
      return sockaddr;
    }
    case "inet6": {
      assertEndpoint(fields, 16);
      const sockaddr = allocate(SOCKADDR_IN6_BYTES);
      const view = new DataView(sockaddr.buffer);
      view.setUint16(0, AF.inet6, true);
      view.setUint16(2, fields.port);
      sockaddr.set(fields.address, 8);
      view.setUint32(24, fields.scopeId, true);
      return sockaddr;
    }
    case "unix": {
      // An abstract name is counted by the length alone; a path carries its NUL.
      const isAbstract = fields.path[0] === 0;
      const sockaddr = allocate(2 + fields.path.byteLength + (isAbstract ? 0 : 1));
      new DataView(sockaddr.buffer).setUint16(0, AF.unix, true);
      sockaddr.set(fields.path, 2);
      return sockaddr;
    }
  }
}

/** A number that does not fit would be cut to another port, and a short address filled up with zeros. */
function assertEndpoint({ port, address }: InetFields | Inet6Fields, addressBytes: number): void {
  if (!(Number.isInteger(port) && port >= 0 && port <= 65_535)) {
    throw new RangeError(`Cannot encode port ${port}: it must be 0 to 65535`);
  }
  if (address.byteLength !== addressBytes) {
    throw new RangeError(`Cannot encode an address of ${address.byteLength} bytes: it must be ${addressBytes}`);
  }
}

/**
 * Reads a `struct sockaddr`. The result shares no memory with it.
 *
 * @param sockaddr What the kernel filled in.
 * @param length How many bytes of it the kernel says it filled. It gives none for a connected stream (recvmsg(2)), nor
 * for a peer without a name.
 * @throws {RangeError} If the family is none of the three, or the address not whole.
 */
export function decodeSockaddr(sockaddr: Uint8Array, length: number): SockaddrFields {
  const view = new DataView(sockaddr.buffer, sockaddr.byteOffset, sockaddr.byteLength);
  assertFilled(length, 2); // what lies behind is left from an earlier call
  const family = view.getUint16(0, true);
  switch (family) {
    case AF.inet:
      assertFilled(length, SOCKADDR_IN_BYTES);
      return { family: "inet", address: sockaddr.slice(4, 8), port: view.getUint16(2) };
    case AF.inet6:
      assertFilled(length, SOCKADDR_IN6_BYTES);
      return {
        family: "inet6",
        address: sockaddr.slice(8, 24),
        port: view.getUint16(2),
        scopeId: view.getUint32(24, true),
      };
    case AF.unix: {
      const isAbstract = length > 2 && sockaddr[2] === 0;
      const nul = sockaddr.indexOf(0, 2);
      const end = isAbstract || nul === -1 || nul > length ? length : nul;
      return { family: "unix", path: sockaddr.slice(2, Math.max(2, end)) };
    }
    default:
      throw new RangeError(`Cannot decode a socket address: family ${family} is none of AF_UNIX, AF_INET, AF_INET6`);
  }
}

function assertFilled(length: number, needed: number): void {
  if (length < needed) {
    throw new RangeError(`Cannot decode a socket address: the kernel filled ${length} bytes of at least ${needed}`);
  }
}

/** `struct linger`. Only 0 seconds never blocks: a longer linger stops the loop inside close(2). Source: socket(7). */
export function encodeLinger(isOn: boolean, seconds: number): Uint8Array<ArrayBuffer> {
  const linger = allocate(8);
  new Int32Array(linger.buffer).set([isOn ? 1 : 0, seconds]);
  return linger;
}

/** An `int` option value of setsockopt(2). */
export function encodeInt(value: number): Uint8Array<ArrayBuffer> {
  const bytes = allocate(4);
  new Int32Array(bytes.buffer)[0] = value;
  return bytes;
}

/** An `int` option value of getsockopt(2). */
export function decodeInt(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true);
}

/** A soft and a hard limit; `Infinity` stands for RLIM_INFINITY. Source: getrlimit(2). */
export interface Rlimit {
  /** What the kernel enforces. */
  readonly soft: number;
  /** How far `soft` may be raised without privilege. */
  readonly hard: number;
}

/** Bytes of `struct rlimit`: two 64-bit numbers. */
export const RLIMIT_BYTES = 16;

const RLIM_INFINITY = 0xffff_ffff_ffff_ffffn;

/**
 * Writes a `struct rlimit`.
 *
 * @throws {RangeError} If a limit is neither a non-negative integer nor `Infinity`.
 */
export function encodeRlimit({ soft, hard }: Rlimit): Uint8Array<ArrayBuffer> {
  const rlimit = allocate(RLIMIT_BYTES);
  new BigUint64Array(rlimit.buffer).set([encodeLimit(soft), encodeLimit(hard)]);
  return rlimit;
}

/** Refuses -1, which as 64 bits would be no limit at all. */
function encodeLimit(limit: number): bigint {
  if (limit === Infinity) return RLIM_INFINITY;
  if (Number.isInteger(limit) && limit >= 0) return BigInt(limit);
  throw new RangeError(`Cannot encode a limit of ${limit}: it must be a non-negative integer or Infinity`);
}

/** Reads a `struct rlimit`. */
export function decodeRlimit(rlimit: Uint8Array): Rlimit {
  const view = new DataView(rlimit.buffer, rlimit.byteOffset, RLIMIT_BYTES);
  const [soft, hard] = [view.getBigUint64(0, true), view.getBigUint64(8, true)];
  return {
    soft: soft === RLIM_INFINITY ? Infinity : Number(soft),
    hard: hard === RLIM_INFINITY ? Infinity : Number(hard),
  };
}

/** Bytes of `struct tcp_info` up to the last field that {@linkcode decodeTcpInfo} reads. Source: linux/tcp.h. */
export const TCP_INFO_BYTES = 104;

/** Reads what this module uses of a `struct tcp_info`. */
export function decodeTcpInfo(tcpInfo: Uint8Array): {
  /** `tcpi_state`: 1 is established, 10 is listening. */
  state: number;
  /** `tcpi_unacked`: segments in flight; on a listener, connections waiting to be accepted. */
  unacked: number;
  /** `tcpi_sacked`: on a listener, the backlog in force. */
  sacked: number;
  /** `tcpi_rtt`: smoothed round trip in microseconds. */
  rttMicros: number;
} {
  const view = new DataView(tcpInfo.buffer, tcpInfo.byteOffset, TCP_INFO_BYTES);
  return {
    state: view.getUint8(0),
    unacked: view.getUint32(24, true),
    sacked: view.getUint32(28, true),
    rttMicros: view.getUint32(68, true),
  };
}

/** An array of `struct pollfd`: 8 bytes each. Source: poll(2). */
export class PollSet {
  /** How many entries there are. */
  readonly capacity: number;
  /** What poll(2) is handed. Never resized. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;

  /** For up to `capacity` descriptors. */
  constructor(capacity: number) {
    this.capacity = capacity;
    this.bytes = allocate(8 * capacity);
    this.#view = new DataView(this.bytes.buffer);
  }

  /** Entry `index` asks for `events` of `fd`. */
  set(index: number, fd: number, events: number): void {
    this.#view.setInt32(8 * index, fd, true);
    this.#view.setUint16(8 * index + 4, events, true);
    this.#view.setUint16(8 * index + 6, 0, true);
  }

  /** What poll(2) reported for entry `index`. */
  revents(index: number): number {
    return this.#view.getUint16(8 * index + 6, true);
  }
}

/** Most entries of one {@linkcode IoVector}: IOV_MAX. Source: linux/uio.h. */
export const IOV_MAX = 1024;

/**
 * An array of `struct iovec`: 16 bytes each, address and length. Source: readv(2).
 *
 * Holds the chunks it points to, so they stay alive; it does not copy them. A chunk must be neither resized nor
 * detached before the call that uses the vector.
 */
export class IoVector {
  /** What writev(2) and `msghdr` are handed. Never resized. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #chunks: Uint8Array[] = [];

  /** For up to `capacity` chunks, at most {@linkcode IOV_MAX}. */
  constructor(capacity: number) {
    if (!(capacity >= 1 && capacity <= IOV_MAX)) {
      throw new RangeError(`Cannot make an IoVector of ${capacity} entries: it must be 1 to ${IOV_MAX}`);
    }
    this.bytes = allocate(16 * capacity);
    this.#view = new DataView(this.bytes.buffer);
  }

  /** Chunks added since the last `clear`. */
  get count(): number {
    return this.#chunks.length;
  }

  /**
   * Adds a chunk. Returns false where there is no room.
   *
   * @throws {RangeError} If `chunk` is empty or detached.
   */
  push(chunk: Uint8Array): boolean {
    if (chunk.byteLength === 0) throw new RangeError("Cannot add an empty chunk to an IoVector: it has no address");
    const at = 16 * this.#chunks.length;
    if (at === this.bytes.byteLength) return false;
    void chunk.buffer; // Bun moves a small array the first time this is asked for, so before its address is taken
    this.#view.setBigUint64(at, backend().addressOf(chunk), true);
    this.#view.setBigUint64(at + 8, BigInt(chunk.byteLength), true);
    this.#chunks.push(chunk);
    return true;
  }

  /** Forgets every chunk. */
  clear(): void {
    this.#chunks.length = 0;
  }
}

/** Bytes of `struct msghdr` on a 64-bit CPU. Source: recvmsg(2), bits/socket.h. */
const MSGHDR_BYTES = 56;

/**
 * A `struct msghdr` over an {@linkcode IoVector}, with room for a peer address and control data if asked for. Owns all
 * of its memory but the vector's chunks.
 */
export class MessageHeader {
  /** What recvmsg(2) and sendmsg(2) are handed. Never resized. */
  readonly bytes: Uint8Array<ArrayBuffer> = allocate(MSGHDR_BYTES);
  /** `msg_iov`. */
  readonly vector: IoVector;
  /** `msg_name`. */
  readonly name: Uint8Array<ArrayBuffer>;
  /** `msg_control`. */
  readonly control: Uint8Array<ArrayBuffer>;
  readonly #view: DataView = new DataView(this.bytes.buffer);

  /** `nameBytes` and `controlBytes` are the sizes of the two areas; 0 leaves one out. */
  constructor(vector: IoVector, nameBytes: number = 0, controlBytes: number = 0) {
    this.vector = vector;
    this.name = allocate(nameBytes);
    this.control = allocate(controlBytes);
  }

  /** Writes the struct from the vector's present count; lengths the kernel changed are set anew. Call before each use. */
  prepare(nameLength: number = this.name.byteLength, controlLength: number = this.control.byteLength): void {
    const address = (area: Uint8Array) => area.byteLength === 0 ? 0n : backend().addressOf(area);
    this.#view.setBigUint64(0, address(this.name), true);
    this.#view.setUint32(8, nameLength, true);
    this.#view.setBigUint64(16, backend().addressOf(this.vector.bytes), true);
    this.#view.setBigUint64(24, BigInt(this.vector.count), true);
    this.#view.setBigUint64(32, address(this.control), true);
    this.#view.setBigUint64(40, BigInt(controlLength), true);
    this.#view.setInt32(48, 0, true);
  }

  /** `msg_namelen`: what recvmsg(2) wrote of the peer's address. */
  get nameLength(): number {
    return this.#view.getUint32(8, true);
  }

  /** `msg_controllen`: what recvmsg(2) wrote of control data. */
  get controlLength(): number {
    return Number(this.#view.getBigUint64(40, true));
  }

  /** `msg_flags`, such as `MSG.trunc` and `MSG.ctrunc`. */
  get flags(): number {
    return this.#view.getInt32(48, true);
  }
}
