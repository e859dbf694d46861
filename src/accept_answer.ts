import { ERRNO, type ErrnoName } from "../ffi/errno.ts";

/** What a failure of accept4(2) means. */
export type AcceptAnswer = "empty" | "peer gone" | "table full" | "no memory" | "not a listener";

const ERRNOS: Readonly<Record<AcceptAnswer, readonly ErrnoName[]>> = {
  "empty": ["EAGAIN"],
  "table full": ["EMFILE", "ENFILE"],
  "no memory": ["ENOBUFS", "ENOMEM"],
  "not a listener": ["EBADF", "EINVAL", "ENOTSOCK", "EOPNOTSUPP", "EFAULT"],
  // accept(2) passes the pending network error of the connection through.
  "peer gone": [
    "EINTR",
    "ECONNABORTED",
    "EPROTO",
    "ENOPROTOOPT",
    "ENETDOWN",
    "EHOSTDOWN",
    "ENONET",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "ETIMEDOUT",
    "ECONNRESET",
    "EPERM",
  ],
};

let answerByErrno: ReadonlyMap<number, AcceptAnswer> | undefined;

/**
 * What the positive `errno` of a failed accept4(2) means. An unknown one is taken for a connection that is gone: the
 * next call tells, and the accept budget bounds how many there are.
 */
export function answerOf(errno: number): AcceptAnswer {
  answerByErrno ??= new Map(
    Object.entries(ERRNOS).flatMap(([answer, names]) => names.map((name) => [ERRNO[name][0], answer as AcceptAnswer])),
  );
  return answerByErrno.get(errno) ?? "peer gone";
}
