import { F, O } from "../ffi/constants.ts";
import { ERRNO, SystemError } from "../ffi/errno.ts";
import type { Syscalls } from "../ffi/syscalls.ts";
import { assert } from "./assert.ts";
import { descriptorLimit } from "./descriptors.ts";

/** Most descriptors of one reserve: what the memory that several threads share has room for. */
export const RESERVE_MAX: number = 64;

/** Words of the memory that a {@linkcode Reserve} keeps its state in. */
export const RESERVE_WORDS: number = 4 + RESERVE_MAX;

const USERS = 0;
const SIZE = 1;
const COUNT = 2;
const KEEPER = 3;
const FDS = 4;

/** Set in a stored descriptor whose file is the keeper's. */
const IS_DUPLICATE = 1 << 30;

/** Opens a descriptor that holds a number and nothing else. */
function openIdle(sys: Syscalls): number {
  const fd = sys.open("/dev/null", O.rdonly | O.cloexec);
  return fd >= 0 ? fd : sys.open("/", O.rdonly | O.cloexec);
}

/**
 * Idle descriptors to give up when the table is full: each buys one accept4(2). A keeper beside them stays open, to
 * retake a slot from: dup3(2) onto the accepted client closes it and holds its number, in one step.
 *
 * Between `release` and `retake` another thread of the process may take the number, and this one may for a moment: an
 * engine may look at a file of /proc between any two calls. A missing reserve is a state, not an accident: `refill` when
 * a descriptor may have become free.
 *
 * A slot that was retaken shares the keeper's file. That is fine against EMFILE, which is about numbers, and no help
 * against ENFILE, which is about files: `restore` gives each a file of its own again.
 *
 * Loops of several threads share one reserve through its memory. Then every call but the constructor and `close` is
 * made under the lock of their coordinator.
 */
export class Reserve {
  readonly #sys: Syscalls;
  readonly #words: Int32Array;
  #isClosed = false;

  /**
   * Opens `size` descriptors and the keeper, unless `words` say that another loop has. Early, so that their numbers are
   * low: the limit is on numbers, and one that is lowered later must not put them out of reach.
   *
   * @param words {@linkcode RESERVE_WORDS}, zero at first, shared by those who share the reserve.
   * @throws {SystemError} If the table is full already.
   */
  constructor(size: number, sys: Syscalls, words: Int32Array = new Int32Array(RESERVE_WORDS)) {
    assert(size <= RESERVE_MAX, "a reserve has room for what it is to hold");
    this.#sys = sys;
    this.#words = words;
    if (words[USERS]!++ > 0) return;
    words[SIZE] = size;
    words[COUNT] = 0;
    words[KEEPER] = -1;
    if (size === 0) return;
    const keeperFd = openIdle(sys);
    if (keeperFd >= 0) {
      words[KEEPER] = keeperFd;
      const errno = this.#fill();
      if (errno === 0) return;
      this.close();
      throw new SystemError(`open ${size + 1} reserve descriptors`, "open", errno);
    }
    this.close();
    throw new SystemError(`open ${size + 1} reserve descriptors`, "open", -keeperFd);
  }

  /** How many descriptors it holds when complete, the keeper apart. */
  get size(): number {
    return this.#words[SIZE]!;
  }

  /** How many are not there now. */
  get missing(): number {
    return this.#words[SIZE]! - this.#words[COUNT]!;
  }

  /** Frees one slot of the table. Returns false where there is none to give. */
  release(): boolean {
    const fd = this.#pop();
    if (fd === -1) return false;
    this.#sys.close(fd & ~IS_DUPLICATE);
    return true;
  }

  /** Closes `clientFd` and holds its slot. */
  retake(clientFd: number): void {
    const fd = this.#sys.dup3(this.#words[KEEPER]!, clientFd, O.cloexec);
    if (fd >= 0) return this.#push(fd | IS_DUPLICATE);
    this.#sys.close(clientFd);
    this.refill();
  }

  /**
   * Opens what is missing: with files of their own, or else sharing the keeper's. Opens nothing once closed. Returns
   * whether it is complete.
   */
  refill(): boolean {
    return this.#fill() === 0;
  }

  /**
   * Completes the reserve, and gives each descriptor a file of its own and a number below the limit, which may have been
   * lowered. Returns whether all of it is done.
   */
  restore(): boolean {
    if (this.#isClosed || this.#words[SIZE] === 0) return true;
    if (!this.refill()) return false;
    const limit = descriptorLimit(this.#sys);
    const words = this.#words;
    for (let i = FDS; i < FDS + words[COUNT]!; i++) {
      const fd = words[i]! & ~IS_DUPLICATE;
      if (words[i] === fd && fd < limit) continue;
      const ownFd = openIdle(this.#sys);
      if (ownFd < 0) return false;
      if (ownFd < fd) {
        this.#sys.close(fd);
        words[i] = ownFd;
        continue;
      }
      const moved = this.#sys.dup3(ownFd, fd, O.cloexec); // the number stays: it is low
      this.#sys.close(ownFd);
      if (moved < 0) return false;
      words[i] = fd;
    }
    return true;
  }

  /** Gives everything back, if nobody else shares it. Safe twice. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const words = this.#words;
    if (--words[USERS]! > 0) return;
    for (let fd = this.#pop(); fd !== -1; fd = this.#pop()) this.#sys.close(fd & ~IS_DUPLICATE);
    if (words[KEEPER]! >= 0) this.#sys.close(words[KEEPER]!);
    words[KEEPER] = -1;
    words[SIZE] = 0;
  }

  /** @returns 0 where it is complete now, else the errno that says why not. */
  #fill(): number {
    if (this.#isClosed) return ERRNO.EBADF[0];
    while (this.missing > 0) {
      let fd = openIdle(this.#sys);
      if (fd < 0) {
        fd = this.#sys.fcntl(this.#words[KEEPER]!, F.dupfdCloexec, 0);
        if (fd < 0) return -fd;
        fd |= IS_DUPLICATE;
      }
      this.#push(fd);
    }
    return 0;
  }

  #push(fd: number): void {
    // Only if a lock was taken over while its owner slept, and both went on.
    if (this.missing <= 0) return void this.#sys.close(fd & ~IS_DUPLICATE);
    this.#words[FDS + this.#words[COUNT]!++] = fd;
  }

  #pop(): number {
    return this.#words[COUNT] === 0 ? -1 : this.#words[FDS + --this.#words[COUNT]!]!;
  }
}
