import { F, O, POLL, RLIMIT } from "../ffi/constants.ts";
import { SystemError } from "../ffi/errno.ts";
import { PollSet } from "../ffi/layout.ts";
import type { Syscalls } from "../ffi/syscalls.ts";
import { HEADROOM_MAX, HEADROOM_MIN } from "./limits.ts";

/** Numbers looked at one by one: with more free ones than these, the default headroom is at its maximum anyway. */
const SCANNED = 1024;

/** The soft RLIMIT_NOFILE: one more than the largest descriptor that the kernel hands out. getrlimit(2). */
export function descriptorLimit(sys: Syscalls): number {
  const limit = sys.getrlimit(RLIMIT.nofile);
  if (typeof limit === "number") throw new SystemError("read the descriptor limit", "getrlimit", -limit);
  return limit.soft;
}

/**
 * How many descriptors may still be opened below `limit`. Exact where the limit is up to 1024; above that, descriptors
 * with larger numbers are taken for free. poll(2) tells the open ones from the others in one call.
 */
export function freeDescriptors(sys: Syscalls, limit: number): number {
  const scanned = Math.min(limit, SCANNED);
  const set = new PollSet(scanned);
  for (let fd = 0; fd < scanned; fd++) set.set(fd, fd, 0);
  const result = sys.poll(set, scanned, 0);
  if (result < 0) throw new SystemError("count free descriptors", "poll", -result);
  let used = 0;
  for (let fd = 0; fd < scanned; fd++) {
    if ((set.revents(fd) & POLL.nval) === 0) used++;
  }
  return limit - used;
}

/** Descriptors left to the runtime by default: a quarter of those that are free, 2 to 32. */
export function defaultHeadroom(free: number): number {
  return Math.min(HEADROOM_MAX, Math.max(HEADROOM_MIN, Math.ceil(free / 4)));
}

/** Reserve descriptors by default: more for larger tables, which have more threads to steal one. */
export function defaultReserve(limit: number): number {
  return Math.min(4, Math.max(1, Math.floor(limit / 32)));
}

/** How far below the limit it is kept by default: nothing where that would be noticed. */
export function defaultSlack(limit: number): number {
  return limit >= 512 ? 16 : 0;
}

/** The lowest free number, which the next descriptor will get, or `-errno`. `fd` is any descriptor of ours. */
export function lowestFree(sys: Syscalls, fd: number): number {
  const free = sys.fcntl(fd, F.dupfdCloexec, 0);
  if (free >= 0) sys.close(free);
  return free;
}

/** Most descriptors that the table is grown for ahead of time: 4 MiB of kernel memory. */
const GROWN = 65_536;

/**
 * Grows the kernel's descriptor table to hold `count` now. Growing it later, at 256, 512, 1024 and so on, stalls a
 * process that has threads for 5 to 25 ms. A refusal does no harm: the table grows as it did before.
 */
export function growTable(sys: Syscalls, count: number): void {
  const idle = sys.open("/dev/null", O.rdonly | O.cloexec);
  if (idle < 0) return;
  const highest = sys.fcntl(idle, F.dupfdCloexec, Math.min(count, GROWN) - 1);
  if (highest >= 0) sys.close(highest);
  sys.close(idle);
}
