import { POLL, RLIMIT } from "../ffi/constants.ts";
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
