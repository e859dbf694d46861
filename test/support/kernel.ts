/** Kernels that fail where a test wants them to: the real one, some of its calls replaced. */
import { ERRNO, type ErrnoName } from "../../ffi/errno.ts";
import { realSyscalls, type Syscalls } from "../../ffi/syscalls.ts";

/** The real kernel but for `calls`. */
export function kernelWith(calls: Partial<Syscalls>): Syscalls {
  return { ...realSyscalls, ...calls };
}

/** What a system call returns that fails with `name`. */
export function failure(name: ErrnoName): number {
  return -ERRNO[name][0];
}
