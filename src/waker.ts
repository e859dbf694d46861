import { EFD, F } from "../ffi/constants.ts";
import { ERRNO, expectValue, SystemError } from "../ffi/errno.ts";
import { realSyscalls, type Syscalls } from "../ffi/syscalls.ts";
import { Interest } from "./interest.ts";
import type { Poller, Source } from "./poller.ts";
import type { Token } from "./token.ts";

/** What each wake adds to the counter of eventfd(2): 1, as a 64-bit number. */
function one(): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(8));
  bytes[0] = 1;
  return bytes;
}

/** Adds 1. EAGAIN means that the counter is at its maximum: a wake is pending already. */
function signal(sys: Syscalls, fd: number, increment: Uint8Array): void {
  const result = sys.write(fd, increment);
  if (result < 0 && result !== -ERRNO.EAGAIN[0]) throw new SystemError("wake an event loop", "write", -result);
}

/**
 * Ends a loop's wait from anywhere: eventfd(2). Made by `EventLoop.createWaker`, on the loop's thread; wakes that come
 * before the loop looks are one.
 */
export class Waker implements Source {
  readonly #sys: Syscalls;
  readonly #poller: Poller;
  readonly #onWake: () => void;
  readonly #token: Token;
  readonly #increment: Uint8Array = one();
  readonly #counter: Uint8Array = new Uint8Array(new ArrayBuffer(8));
  #fd: number;

  /** Registers with `poller`; `onWake` is called on its thread. */
  constructor(poller: Poller, onWake: () => void, sys: Syscalls = realSyscalls) {
    this.#sys = sys;
    this.#poller = poller;
    this.#onWake = onWake;
    this.#fd = expectValue(sys.eventfd(0, EFD.nonblock | EFD.cloexec), "make a waker", "eventfd");
    try {
      const token = poller.add(this.#fd, Interest.readable, this);
      if (typeof token === "number") throw new SystemError("watch a waker", "epoll_ctl", -token);
      this.#token = token;
    } catch (error) {
      sys.close(this.#fd);
      throw error;
    }
  }

  /** The eventfd, owned; -1 once closed. */
  get fd(): number {
    return this.#fd;
  }

  /** Has `onWake` called in the loop's next turn, even if the loop is waiting. No-op once closed. */
  wake(): void {
    if (this.#fd !== -1) signal(this.#sys, this.#fd, this.#increment);
  }

  /**
   * A descriptor for another thread of this process to make a {@linkcode RemoteWaker} of. A duplicate, which that thread
   * owns: a wake that comes after this waker was closed must not reach whoever has its number by then.
   */
  remote(): number {
    if (this.#fd === -1) throw new RangeError("Cannot hand out a closed waker");
    return expectValue(this.#sys.fcntl(this.#fd, F.dupfdCloexec, 0), "hand out a waker", "fcntl");
  }

  /** Takes the wakes that came, then calls `onWake` once. */
  onReady(): void {
    this.#sys.read(this.#fd, this.#counter);
    this.#onWake();
  }

  /** Releases the descriptor. Safe twice. */
  close(): void {
    if (this.#fd === -1) return;
    this.#poller.remove(this.#token);
    this.#sys.close(this.#fd);
    this.#fd = -1;
  }
}

/** Wakes the loop of another thread. Owns the descriptor that `Waker.remote` returned. */
export class RemoteWaker {
  readonly #sys: Syscalls;
  readonly #increment: Uint8Array = one();
  #fd: number;

  /**
   * `fd` came from {@linkcode Waker.remote}, and becomes this object's to close.
   *
   * @throws {RangeError} If `fd` cannot be a descriptor, such as one that was lost on its way.
   */
  constructor(fd: number, sys: Syscalls = realSyscalls) {
    if (!Number.isInteger(fd) || fd < 0) {
      throw new RangeError(`Cannot wake through descriptor ${fd}: it must be a non-negative integer`);
    }
    this.#sys = sys;
    this.#fd = fd;
  }

  /** Has the waker's `onWake` called on its own thread. No-op once closed, and once the waker is. */
  wake(): void {
    if (this.#fd !== -1) signal(this.#sys, this.#fd, this.#increment);
  }

  /** Releases the descriptor. Safe twice. */
  close(): void {
    if (this.#fd === -1) return;
    this.#sys.close(this.#fd);
    this.#fd = -1;
  }
}
