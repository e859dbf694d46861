import { ERRNO, type ErrnoName } from "./errno.ts";

// errno is read right after the call, yet not always right: the runtime's own work between the two can overwrite it
// (one wrong value in 27 million failing calls was seen on Deno 2.9). A value that the call cannot plausibly return is
// therefore doubted and the call repeated once, where that is harmless. A wrong value that looks plausible passes: so
// nothing irreversible may hang on an errno alone.

/** For one function: which errno it can plausibly return, as a table indexed by number. */
export type Plausible = Uint8Array;

function plausible(...names: ErrnoName[]): Plausible {
  const table = new Uint8Array(256);
  for (const name of names) table[ERRNO[name][0]] = 1;
  return table;
}

/** Whether `result` is a failure that a function with these errnos cannot have. */
export function isDoubtful(result: number, table: Plausible): boolean {
  return result < 0 && table[-result] !== 1;
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
  socket: plausible(
    ...FILES,
    "EACCES",
    "EPERM",
    "EAFNOSUPPORT",
    "EINVAL",
    "ENOBUFS",
    "EPROTONOSUPPORT",
    "ESOCKTNOSUPPORT",
  ),
  bind: plausible(
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
  accept4: plausible(...SOCKET, ...FILES, ...NETWORK, "EAGAIN", "EPERM"),
  setsockopt: plausible(
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
  recv: plausible(...SOCKET, ...NETWORK, "EAGAIN", "ENOTCONN", "EPIPE", "EMSGSIZE"),
  send: plausible(
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
  epollCreate1: plausible(...FILES, "EINVAL"),
  epollCtl: plausible("EBADF", "EEXIST", "EINVAL", "ELOOP", "ENOENT", "ENOMEM", "ENOSPC", "EPERM"),
  epollWait: plausible("EBADF", "EFAULT", "EINTR", "EINVAL"),
  dup3: plausible("EBADF", "EBUSY", "EINTR", "EINVAL", "EMFILE", "ENOMEM"),
  open: plausible(
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
