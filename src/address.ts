import { type SockaddrFields, UNIX_PATH_MAX_BYTES } from "../ffi/layout.ts";
import { host } from "../ffi/host.ts";
import { shown } from "./options.ts";

/** Where a TCP listener or peer is. */
export interface TcpAddress {
  /** Tells the two kinds apart. */
  readonly transport: "tcp";
  /** An IP address, such as `"127.0.0.1"` or `"::1"`, never a name. */
  readonly hostname: string;
  /** 1 to 65535; 0, when listening, lets the kernel choose. */
  readonly port: number;
}

/** Where a Unix listener or peer is. */
export interface UnixAddress {
  /** Tells the two kinds apart. */
  readonly transport: "unix";
  /** A path; beginning with NUL, an abstract name; empty for an unnamed peer. */
  readonly path: string;
}

/** Where a listener or peer is. */
export type Address = TcpAddress | UnixAddress;

/** `tcp://127.0.0.1:7007`, `tcp://[::1]:7007` or `unix:///run/x.sock`. */
export function formatAddress(address: Address): string {
  if (address.transport === "unix") return `unix://${address.path.replace("\0", "@")}`;
  const { hostname, port } = address;
  return hostname.includes(":") ? `tcp://[${hostname}]:${port}` : `tcp://${hostname}:${port}`;
}

/**
 * What the kernel is told of an address, on or to which `action` is to be done.
 *
 * @throws {TypeError} If the host is not an IP address (`"localhost"` stands for 127.0.0.1), a path is not one, or the
 * port is no number.
 * @throws {RangeError} If a path is too long, or the port is not 0 to 65535.
 */
export function encodeAddress(action: string, address: Address): SockaddrFields {
  if (address.transport === "unix") return encodeUnix(action, address.path);
  const { hostname, port } = address;
  if (typeof port !== "number") {
    throw new TypeError(`Cannot ${action} port ${shown(port)}: it must be a number`);
  }
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new RangeError(`Cannot ${action} port ${port}: it must be 0 to 65535`);
  }
  // RFC 6761 keeps the name for the loopback interface; every other name takes a resolver, which may block.
  const text = hostname === "localhost" ? "127.0.0.1" : hostname;
  const ipv4 = typeof text === "string" ? parseIpv4(text) : undefined;
  if (ipv4 !== undefined) return { family: "inet", address: ipv4, port };
  const ipv6 = typeof text === "string" ? parseIpv6(text) : undefined;
  if (ipv6 !== undefined) return { family: "inet6", address: ipv6.address, port, scopeId: ipv6.scopeId };
  throw new TypeError(`Cannot ${action} ${JSON.stringify(hostname)}: it must be an IPv4 or IPv6 address`);
}

/** Whether `text` is an IPv4 or IPv6 address; of all the ways to write one only those that no two readers read differently. */
export function isIpAddress(text: string): boolean {
  return parseIpv4(text) !== undefined || parseIpv6(text) !== undefined;
}

function encodeUnix(action: string, text: string): SockaddrFields {
  if (typeof text !== "string" || text === "" || (text.indexOf("\0", 1) !== -1 && text[0] !== "\0")) {
    throw new TypeError(
      `Cannot ${action} path ${JSON.stringify(text)}: it must be a path, neither empty nor with a NUL in it`,
    );
  }
  const path = host().encode(text);
  if (path.byteLength > UNIX_PATH_MAX_BYTES) {
    throw new RangeError(`Cannot ${action} a path of ${path.byteLength} bytes: at most ${UNIX_PATH_MAX_BYTES} fit`);
  }
  return { family: "unix", path };
}

/** Text of what the kernel said. */
export function decodeAddress(fields: SockaddrFields): Address {
  switch (fields.family) {
    case "inet":
      return { transport: "tcp", hostname: fields.address.join("."), port: fields.port };
    case "inet6": {
      const scope = fields.scopeId === 0 ? "" : `%${fields.scopeId}`;
      return { transport: "tcp", hostname: formatIpv6(fields.address) + scope, port: fields.port };
    }
    case "unix":
      return { transport: "unix", path: host().decode(fields.path) };
  }
}

/** Four decimal numbers; no octal, no hexadecimal, no short forms: RFC 6943, section 3.1.1. */
function parseIpv4(text: string): Uint8Array | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  if (!parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255)) return undefined;
  return Uint8Array.from(parts, Number);
}

/** RFC 4291, section 2.2, with a numeric zone: RFC 4007, section 11. */
function parseIpv6(text: string): { address: Uint8Array; scopeId: number } | undefined {
  const [, body = "", zone = "0"] = /^([0-9a-fA-F:.]+)(?:%(\d{1,9}))?$/.exec(text) ?? [];
  const halves = body.split("::");
  if (halves.length > 2) return undefined;
  const [head, tail] = halves.map((half, i) => parseGroups(half, i === halves.length - 1));
  if (head === undefined || (halves.length === 2 && tail === undefined)) return undefined;
  const missing = 16 - head.length - (tail?.length ?? 0);
  // "::" stands for at least one group of zeros; without it all eight groups are there.
  if (halves.length === 2 ? missing < 2 : missing !== 0) return undefined;
  const address = new Uint8Array(16);
  address.set(head);
  if (tail !== undefined) address.set(tail, 16 - tail.length);
  return { address, scopeId: Number(zone) };
}

/** Bytes of groups separated by single colons; the last one of the whole address may be an IPv4 address. */
function parseGroups(text: string, isLast: boolean): number[] | undefined {
  if (text === "") return [];
  const bytes: number[] = [];
  const groups = text.split(":");
  for (const [i, group] of groups.entries()) {
    const ipv4 = isLast && i === groups.length - 1 ? parseIpv4(group) : undefined;
    if (ipv4 !== undefined) bytes.push(...ipv4);
    else if (/^[0-9a-fA-F]{1,4}$/.test(group)) bytes.push(parseInt(group, 16) >> 8, parseInt(group, 16) & 0xff);
    else return undefined;
  }
  return bytes.length <= 16 ? bytes : undefined;
}

/** The canonical form: RFC 5952, section 4. */
function formatIpv6(address: Uint8Array): string {
  const groups = Array.from({ length: 8 }, (_, i) => (address[2 * i]! << 8) | address[2 * i + 1]!);
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    return `::ffff:${address.subarray(12).join(".")}`;
  }
  let longest = { start: 0, length: 1 }; // one zero group is written out
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > longest.length) longest = { start, length };
  }
  const hex = (from: number, to: number) => groups.slice(from, to).map((group) => group.toString(16)).join(":");
  if (longest.length === 1) return hex(0, 8);
  return `${hex(0, longest.start)}::${hex(longest.start + longest.length, 8)}`;
}
