import { ERRNO, type ErrnoName } from "./errno.ts";

// errno is read right after the call, yet not always right: the runtime's own work between the two can overwrite it
// (one wrong value in 27 million failing calls was seen on Deno 2.9). A value that the call cannot plausibly return is
// therefore doubted and the call repeated once, where that is harmless. A wrong value that looks plausible passes: so
// nothing irreversible may hang on an errno alone.

/** For one function: which errno it can plausibly return. */
export class Plausible {
  readonly #names: readonly ErrnoName[];
  /** Indexed by errno; made when the function first fails. */
  #table: Uint8Array | undefined;

  /** For a function that fails with these. */
  constructor(...names: readonly ErrnoName[]) {
    this.#names = names;
  }

  /** Whether it can fail with this one. */
  has(errno: number): boolean {
    return (this.#table ??= this.#tabulate())[errno] === 1;
  }

  #tabulate(): Uint8Array {
    const table = new Uint8Array(256);
    for (const name of this.#names) table[ERRNO[name][0]] = 1;
    return table;
  }
}

/** Whether `result` is a failure that a function with these errnos cannot have. */
export function isDoubtful(result: number, plausible: Plausible): boolean {
  return result < 0 && !plausible.has(-result);
}

// accept(2): "Linux accept() passes already-pending network errors on the new socket as an error code".
const NETWORK: ErrnoName[] = [
  "ENETDOWN",
  "EPROTO",
  "ENOPROTOOPT",
  "EHOSTDOWN",
  "ENONET",
  "EHOSTUNREACH",
  "EOPNOTSUPP",
  "ENETUNREACH",
  "ENETRESET",
  "ECONNABORTED",
  "ECONNREFUSED",
  "ECONNRESET",
  "ETIMEDOUT",
  "EACCES", // ICMPv6: prohibited by an administrator
];
const SOCKET: ErrnoName[] = ["EBADF", "ENOTSOCK", "EINVAL", "EFAULT", "EINTR", "ENOBUFS", "ENOMEM"];
const FILES: ErrnoName[] = ["EMFILE", "ENFILE", "ENOMEM"];

/** By function, from section 2 of the manual and, for sockets, section 7. */
export const PLAUSIBLE = {
  socket: new Plausible(
    ...FILES,
    "EACCES",
    "EPERM",
    "EAFNOSUPPORT",
    "EINVAL",
    "ENOBUFS",
    "EPROTONOSUPPORT",
    "ESOCKTNOSUPPORT",
  ),
  bind: new Plausible(
    ...SOCKET,
    "EACCES",
    "EPERM",
    "EADDRINUSE",
    "EADDRNOTAVAIL",
    "EAFNOSUPPORT",
    "ELOOP",
    "ENAMETOOLONG",
    "ENOENT",
    "ENOTDIR",
    "EROFS",
    "ENODEV",
    "ENOSPC",
  ),
  accept4: new Plausible(...SOCKET, ...FILES, ...NETWORK, "EAGAIN", "EPERM"),
  setsockopt: new Plausible(
    ...SOCKET,
    "ENOPROTOOPT",
    "EDOM",
    "EPERM",
    "EACCES",
    "EISCONN",
    "ENOTCONN",
    "ENODEV",
    "EADDRINUSE",
    "EADDRNOTAVAIL",
    "EOPNOTSUPP",
    "EBUSY",
    "ENOENT",
  ),
  recv: new Plausible(...SOCKET, ...NETWORK, "EAGAIN", "ENOTCONN", "EPIPE", "EMSGSIZE"),
  send: new Plausible(
    ...SOCKET,
    ...NETWORK,
    "EAGAIN",
    "ENOTCONN",
    "EPIPE",
    "EMSGSIZE",
    "ETOOMANYREFS",
    "EPERM",
    "EALREADY",
    "EDESTADDRREQ",
    "EISCONN",
    "EADDRNOTAVAIL",
  ),
  epollCreate1: new Plausible(...FILES, "EINVAL"),
  epollCtl: new Plausible("EBADF", "EEXIST", "EINVAL", "ELOOP", "ENOENT", "ENOMEM", "ENOSPC", "EPERM"),
  epollWait: new Plausible("EBADF", "EFAULT", "EINTR", "EINVAL"),
  dup3: new Plausible("EBADF", "EBUSY", "EINTR", "EINVAL", "EMFILE", "ENOMEM"),
  open: new Plausible(
    ...FILES,
    "EACCES",
    "EPERM",
    "ENOENT",
    "ENOTDIR",
    "EISDIR",
    "ELOOP",
    "ENAMETOOLONG",
    "ENXIO",
    "ENODEV",
    "EROFS",
    "EEXIST",
    "EBUSY",
    "EINTR",
    "EINVAL",
    "EOVERFLOW",
    "ETXTBSY",
    "EFAULT",
  ),
} as const;
