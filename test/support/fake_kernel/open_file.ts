/** What descriptors refer to: `struct file` of the kernel. Duplicated descriptors share one. */
import { EPOLL, O } from "../../../ffi/constants.ts";

/** Somebody in the wait queue of a file: an epoll registration, or a client that reads. */
export interface Watch {
  /** Comes after those who are not, and may be passed over: EPOLLEXCLUSIVE, epoll_ctl(2). */
  readonly isExclusive: boolean;
  /** `key` says what has changed, as readiness bits; 0 is anything. Returns whether that ended somebody's wait. */
  notify(key: number): boolean;
}

export type FileKind = "idle" | "eventfd" | "epoll" | "socket" | "stream";

export abstract class OpenFile {
  abstract readonly kind: FileKind;
  /** What it was opened as, for messages. */
  readonly name: string;
  /** How many descriptors refer to it. */
  descriptors = 0;
  /** What F_GETFL says; shared by all its descriptors. */
  statusFlags: number;
  /** Its wait queue. */
  readonly watches = new Set<Watch>();

  constructor(name: string, statusFlags: number) {
    this.name = name;
    this.statusFlags = statusFlags;
  }

  /** What poll(2) says, everything asked for. */
  abstract get readiness(): number;

  /** Whether epoll takes it: not a regular file, nor /dev/null, nor a directory. */
  get canPoll(): boolean {
    return true;
  }

  get isNonblocking(): boolean {
    return (this.statusFlags & O.nonblock) !== 0;
  }

  /** The last descriptor was closed. */
  release(): void {}

  /** Something has changed. Newest first, the exclusive ones last and oldest first, until one of them was waiting. */
  wake(key: number): void {
    const watches = [...this.watches];
    for (const watch of watches.filter(({ isExclusive }) => !isExclusive).reverse()) watch.notify(key);
    for (const watch of watches) if (watch.isExclusive && watch.notify(key)) return;
  }
}

/** /dev/null or a directory: holds a descriptor, and nothing else. */
export class IdleFile extends OpenFile {
  readonly kind = "idle";

  get readiness(): number {
    return EPOLL.in | EPOLL.out;
  }

  override get canPoll(): boolean {
    return false;
  }
}

/** What write(2) does not take, and the count never reaches: eventfd(2). */
export const COUNTER_MAX = 0xffff_ffff_ffff_ffffn;

/** eventfd(2). */
export class EventCounter extends OpenFile {
  readonly kind = "eventfd";
  readonly #isSemaphore: boolean;
  #count: bigint;

  constructor(initial: number, isSemaphore: boolean, statusFlags: number) {
    super("eventfd", statusFlags);
    this.#count = BigInt(initial);
    this.#isSemaphore = isSemaphore;
  }

  get readiness(): number {
    return (this.#count > 0n ? EPOLL.in : 0) | (this.#count < COUNTER_MAX - 1n ? EPOLL.out : 0);
  }

  /** Takes the count, or 1 of it. Returns `undefined` where there is none. */
  take(): bigint | undefined {
    if (this.#count === 0n) return undefined;
    const taken = this.#isSemaphore ? 1n : this.#count;
    this.#count -= taken;
    this.wake(EPOLL.out);
    return taken;
  }

  /** Returns false where that is more than it can count. */
  add(count: bigint): boolean {
    if (count >= COUNTER_MAX - this.#count) return false;
    this.#count += count;
    this.wake(EPOLL.in);
    return true;
  }
}
