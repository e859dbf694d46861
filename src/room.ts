import type { Syscalls } from "../ffi/syscalls.ts";
import { assert } from "./assert.ts";
import { defaultHeadroom, descriptorLimit, freeDescriptors, lowestFree } from "./descriptors.ts";
import type { OverloadCause } from "./episode.ts";
import type { EventLoop } from "./loop.ts";
import type { Situation } from "./overload.ts";

/**
 * How much room there is: below the mark, which is the descriptor limit less the headroom, and below `maxConnections`.
 */
export class Room {
  /** Descriptors left free for the runtime. */
  readonly headroom: number;
  readonly #loop: EventLoop;
  readonly #sys: Syscalls;
  readonly #maxConnections: number;
  /** As of the last look at the limit. */
  #mark: number;
  #connections = 0;

  /**
   * @param headroom `undefined` for a quarter of what is free now, 2 to 32.
   * @throws {RangeError} If the limit leaves room for no client.
   */
  constructor(loop: EventLoop, headroom: number | undefined, maxConnections: number) {
    this.#loop = loop;
    this.#sys = loop.sys;
    this.#maxConnections = maxConnections;
    const limit = descriptorLimit(this.#sys);
    const free = freeDescriptors(this.#sys, limit) - loop.descriptorsToCome - loop.settlingDescriptors;
    this.headroom = headroom ?? defaultHeadroom(free);
    this.#mark = limit - this.headroom;
    if (free > this.headroom) return;
    throw new RangeError(
      `Cannot accept connections: of ${limit} descriptors ${
        limit - free
      } are taken or about to be, and ${this.headroom} kept free ` +
        `for the runtime, which leaves none for a client; raise the limit (ulimit -n) or lower headroom`,
    );
  }

  /** Connections there are. */
  get connections(): number {
    return this.#connections;
  }

  /** The smallest descriptor that no client gets. */
  get mark(): number {
    return this.#mark;
  }

  /** What there is too little of for another client. */
  get lack(): OverloadCause {
    return this.#connections >= this.#maxConnections ? "maxConnections" : "headroom";
  }

  /** A client is served. */
  enter(): void {
    this.#connections++;
  }

  /** A connection has been closed. */
  leave(): void {
    this.#connections--;
    assert(this.#connections >= 0, "a connection is released once");
  }

  /** The limit may have been changed, from outside or inside. Also done wherever somebody is turned away on its account. */
  lookAtLimit(): void {
    this.#mark = descriptorLimit(this.#sys) - this.headroom;
  }

  /**
   * How the client that was given `fd` finds us. The kernel hands out the lowest free number, so number k proves that
   * all below it are in use. The limit is read again before anybody is turned away on its account: it may have been
   * raised.
   */
  situationOf(fd: number): Situation {
    if (this.#connections >= this.#maxConnections) return "beyond";
    const settling = this.#loop.settlingDescriptors;
    if (fd >= this.#mark - settling - 1) {
      this.lookAtLimit();
      if (fd >= this.#mark - settling) return "beyond";
      if (fd === this.#mark - settling - 1) return "last";
    }
    return this.#connections === this.#maxConnections - 1 ? "last" : "room";
  }

  /** Whether the next client would be served without reaching into the headroom. `anyFd` is a descriptor of ours. */
  isLeft(anyFd: number): boolean {
    if (this.#connections >= this.#maxConnections) return false;
    const free = lowestFree(this.#sys, anyFd);
    if (free < 0) return false;
    this.lookAtLimit();
    return free < this.#mark - this.#loop.settlingDescriptors;
  }
}
