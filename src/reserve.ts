import { F, O } from "../ffi/constants.ts";
import { SystemError } from "../ffi/errno.ts";
import type { Syscalls } from "../ffi/syscalls.ts";

/** Opens a descriptor that holds a number and nothing else. */
function openIdle(sys: Syscalls): number {
  const fd = sys.open("/dev/null", O.rdonly | O.cloexec);
  return fd >= 0 ? fd : sys.open("/", O.rdonly | O.cloexec);
}

/**
 * Idle descriptors to give up when the table is full: each buys one accept4(2). A keeper beside them stays open, to
 * retake a slot from: dup3(2) onto the accepted client closes it and holds its number, in one step.
 *
 * Between `release` and `retake` another thread of the process may take the number. A missing reserve is a state, not
 * an accident: `refill` when a descriptor may have become free.
 */
export class Reserve {
  /** How many descriptors it holds when complete, the keeper apart. */
  readonly size: number;
  readonly #sys: Syscalls;
  readonly #fds: number[] = [];
  #keeperFd = -1;
  /** Why the last refill stopped. */
  #errno = 0;

  /**
   * Opens `size` descriptors and the keeper. Early, so that their numbers are low: the limit is on numbers, and one
   * that is lowered later must not put them out of reach.
   *
   * @throws {SystemError} If the table is full already.
   */
  constructor(size: number, sys: Syscalls) {
    this.size = size;
    this.#sys = sys;
    if (size === 0) return;
    this.#keeperFd = openIdle(sys);
    if (this.#keeperFd >= 0 && this.refill()) return;
    const errno = this.#keeperFd < 0 ? -this.#keeperFd : this.#errno;
    this.close();
    throw new SystemError(`open ${size + 1} reserve descriptors`, "open", errno);
  }

  /** How many are not there now. */
  get missing(): number {
    return this.size - this.#fds.length;
  }

  /** Frees one slot of the table. Returns false where there is none to give. */
  release(): boolean {
    const fd = this.#fds.pop();
    if (fd === undefined) return false;
    this.#sys.close(fd);
    return true;
  }

  /** Closes `clientFd` and holds its slot. */
  retake(clientFd: number): void {
    const fd = this.#sys.dup3(this.#keeperFd, clientFd, O.cloexec);
    if (fd >= 0) {
      this.#fds.push(fd);
      return;
    }
    this.#sys.close(clientFd);
    this.refill();
  }

  /**
   * Opens what is missing: with files of their own, or else sharing the keeper's. Opens nothing once closed. Returns
   * whether it is complete.
   */
  refill(): boolean {
    if (this.#keeperFd < 0) return this.missing === 0;
    while (this.#fds.length < this.size) {
      let fd = openIdle(this.#sys);
      if (fd < 0) fd = this.#sys.fcntl(this.#keeperFd, F.dupfdCloexec, 0);
      if (fd < 0) {
        this.#errno = -fd;
        return false;
      }
      this.#fds.push(fd);
    }
    return true;
  }

  /** Gives everything back. Safe twice. */
  close(): void {
    for (const fd of this.#fds.splice(0)) this.#sys.close(fd);
    if (this.#keeperFd >= 0) this.#sys.close(this.#keeperFd);
    this.#keeperFd = -1;
  }
}
