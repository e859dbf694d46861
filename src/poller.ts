import { EPOLL, EPOLL_CTL } from "../ffi/constants.ts";
import { ERRNO, expectValue, SystemError } from "../ffi/errno.ts";
import { type EpollEventLayout, epollEventLayout } from "../ffi/layout.ts";
import { realSyscalls, type Syscalls } from "../ffi/syscalls.ts";
import { Interest } from "./interest.ts";
import { EVENTS_PER_WAIT, REARM_BUDGET } from "./limits.ts";
import { FIRST_SLOTS, SlotTable, type Token, withRoomFor } from "./token.ts";

/** Anything that is registered with a {@linkcode Poller}. */
export interface Source {
  /**
   * Listeners are told last in a batch, so that the closes of connections make room before anything is accepted.
   * Absent means no.
   */
  readonly isListener?: boolean;
  /**
   * The kernel reported `readiness` (`Readiness` bits). Called for this registration only, never for an earlier one of
   * the same descriptor number. May add, modify and remove any source. What another source did in the same batch may
   * have made it untrue: the next call on the descriptor tells, or `-EAGAIN` that there is nothing.
   */
  onReady(readiness: number): void;
}

/**
 * One epoll instance: wait for sources, then tell them. epoll(7).
 *
 * Does not own the descriptors it watches. Before closing one, remove it: the number is reused at once, and an epoll
 * registration outlives the number if the file was duplicated. Events of a removed registration find nobody, even if
 * its slot or its descriptor number is in use again within the same batch.
 */
export class Poller {
  readonly #sys: Syscalls;
  readonly #layout: EpollEventLayout = epollEventLayout();
  readonly #sources: SlotTable<Source> = new SlotTable();
  /** The descriptors of the sources, and what is waited for, by slot: arrays of words, not an object for each source. */
  #fds: Uint32Array = new Uint32Array(FIRST_SLOTS);
  #interests: Uint32Array = new Uint32Array(FIRST_SLOTS);
  readonly #events: Uint32Array = new Uint32Array(new ArrayBuffer(4 * this.#layout.words * EVENTS_PER_WAIT));
  readonly #event: Uint32Array = new Uint32Array(new ArrayBuffer(4 * this.#layout.words));
  /** Events of the last wait. */
  #count = 0;
  /** Offsets, in words, of those events of the batch that are for listeners. */
  readonly #listenerEvents: Uint32Array = new Uint32Array(EVENTS_PER_WAIT);
  #listenerCount = 0;
  #edges = 0;
  #rearmSlot = 0;
  #fd: number;

  /**
   * Opens an epoll instance. `sys` stands in for the kernel, in tests.
   *
   * @throws {SystemError} If the kernel refuses, as with a full descriptor table.
   */
  constructor(sys: Syscalls = realSyscalls) {
    this.#sys = sys;
    this.#fd = expectValue(sys.epollCreate1(EPOLL.cloexec), "make an event loop", "epoll_create1");
  }

  /** The epoll descriptor, owned; -1 once closed. Itself pollable: readable while there are events. */
  get fd(): number {
    return this.#fd;
  }

  /** How many sources there are. */
  get size(): number {
    return this.#sources.size;
  }

  /** How many sources are edge-triggered. */
  get edges(): number {
    return this.#edges;
  }

  /**
   * Watches `fd` for `interest` (`Interest` bits).
   *
   * @param token Is written to, if given: who has many sources may spare an object for each.
   * @returns The token, or `-errno`: `-ENOSPC` (fs.epoll.max_user_watches), `-ENOMEM`, `-EEXIST` if the descriptor is
   * watched already, `-EPERM` for a regular file.
   * @throws {RangeError} If the poller is closed, or `fd` is not a non-negative integer.
   */
  add(fd: number, interest: number, source: Source, token?: { slot: number; generation: number }): Token | number {
    this.#assertOpen();
    const added = this.#sources.add(source, token);
    let result = -1;
    try {
      result = this.#control(EPOLL_CTL.add, fd, interest, added);
    } finally {
      if (result < 0) this.#sources.remove(added); // also for what throws: a number that is no descriptor's
    }
    if (result < 0) return result;
    const { slot } = added;
    this.#fds = withRoomFor(slot, this.#fds);
    this.#interests = withRoomFor(slot, this.#interests);
    this.#fds[slot] = fd;
    this.#interests[slot] = interest;
    if (interest & Interest.edge) this.#edges++;
    return added;
  }

  /**
   * Changes what `token` waits for, and reports anew what is ready already, also under edge triggering.
   *
   * @throws {SystemError} If the kernel refuses.
   * @throws {RangeError} If the token was removed, or the poller is closed.
   */
  modify(token: Token, interest: number): void {
    this.#assertOpen();
    const slot = this.#slotOf(token);
    const fd = this.#fds[slot]!;
    const before = this.#interests[slot]!;
    let operation: number = EPOLL_CTL.mod;
    if ((before | interest) & Interest.exclusive) {
      // The kernel modifies no exclusive registration (EINVAL): epoll_ctl(2).
      this.#sys.epollCtl(this.#fd, EPOLL_CTL.del, fd, null);
      operation = EPOLL_CTL.add;
    }
    expectValue(this.#control(operation, fd, interest, token), "change what is waited for", "epoll_ctl");
    if (before & Interest.edge) this.#edges--;
    if (interest & Interest.edge) this.#edges++;
    this.#interests[slot] = interest;
  }

  /**
   * Stops watching; once, and before the descriptor is closed.
   *
   * @throws {RangeError} If the token was removed.
   */
  remove(token: Token): void {
    const slot = this.#slotOf(token);
    this.#sources.remove(token);
    if (this.#interests[slot]! & Interest.edge) this.#edges--;
    if (this.#fd === -1) return; // with the epoll instance went what it watched; the number is somebody else's
    // A descriptor that was closed behind our back has left the epoll set by itself.
    this.#sys.epollCtl(this.#fd, EPOLL_CTL.del, this.#fds[slot]!, null);
  }

  /**
   * Waits until something is ready: epoll_wait(2). Blocks the thread for up to `timeoutMs` (-1: for ever). A signal
   * ends the wait.
   *
   * @returns How many events there are to dispatch.
   * @throws {RangeError} If the poller is closed.
   */
  wait(timeoutMs: number): number {
    this.#assertOpen();
    const count = this.#sys.epollWait(this.#fd, this.#events, EVENTS_PER_WAIT, timeoutMs);
    if (count >= 0) return this.#count = count;
    this.#count = 0;
    if (count !== -ERRNO.EINTR[0]) throw new SystemError("wait for events", "epoll_wait", -count);
    return 0;
  }

  /**
   * Tells the sources of the last wait, listeners excepted. What one throws is handed to `onError`, and the rest of the
   * batch is told: an edge is not reported twice. `onError` must not throw.
   */
  dispatch(onError: (error: unknown) => void): void {
    const { words, events, slot, generation } = this.#layout;
    this.#listenerCount = 0;
    for (let i = 0, at = 0; i < this.#count; i++, at += words) {
      const source = this.#sources.get(this.#events[at + slot]!, this.#events[at + generation]!);
      if (source === undefined) continue; // removed earlier in this batch
      if (source.isListener === true) {
        this.#listenerEvents[this.#listenerCount++] = at;
        continue;
      }
      try {
        source.onReady(this.#events[at + events]!);
      } catch (error) {
        onError(error);
      }
    }
  }

  /** Tells the listeners of the last wait. As {@linkcode Poller.dispatch}, which comes before. */
  dispatchListeners(onError: (error: unknown) => void): void {
    const { events, slot, generation } = this.#layout;
    for (let i = 0; i < this.#listenerCount; i++) {
      const at = this.#listenerEvents[i]!;
      const source = this.#sources.get(this.#events[at + slot]!, this.#events[at + generation]!);
      try {
        source?.onReady(this.#events[at + events]!);
      } catch (error) {
        onError(error);
      }
    }
    this.#listenerCount = 0;
    this.#count = 0;
  }

  /**
   * Re-arms edge-triggered sources, a budget's worth a call: what is ready is reported again. errno can be misread, and
   * a source that took a failure for "not ready" would be silent for ever.
   *
   * @returns Whether there are more of them in this round.
   * @throws {SystemError} If the kernel refuses one, as for a descriptor that was closed without `remove`. The next call
   * goes on behind it.
   */
  rearm(): boolean {
    const end = Math.min(this.#rearmSlot + REARM_BUDGET, this.#sources.slots);
    for (let slot = this.#rearmSlot; slot < end; slot++) {
      if (this.#sources.at(slot) === undefined) continue;
      const interest = this.#interests[slot]!;
      // A oneshot source that has fired stays silent until its owner modifies it.
      if (!(interest & Interest.edge) || interest & Interest.oneshot) continue;
      this.#rearmSlot = slot + 1;
      this.modify({ slot, generation: this.#sources.generationAt(slot) }, interest);
    }
    this.#rearmSlot = end === this.#sources.slots ? 0 : end;
    return this.#rearmSlot !== 0;
  }

  /** Closes the epoll descriptor. That wakes nobody who waits for it. Safe twice; sources may be removed after it. */
  close(): void {
    if (this.#fd === -1) return;
    const fd = this.#fd;
    this.#fd = -1;
    this.#sys.close(fd);
  }

  /** A closed descriptor's number may be that of another epoll instance by now. */
  #assertOpen(): void {
    if (this.#fd === -1) throw new RangeError("Cannot use a poller: it is closed");
  }

  #slotOf({ slot, generation }: Token): number {
    if (this.#sources.get(slot, generation) === undefined) {
      throw new RangeError("Cannot use a token: its source was removed");
    }
    return slot;
  }

  #control(operation: number, fd: number, interest: number, token: Token): number {
    this.#event[this.#layout.events] = interest;
    this.#event[this.#layout.slot] = token.slot;
    this.#event[this.#layout.generation] = token.generation;
    return this.#sys.epollCtl(this.#fd, operation, fd, this.#event);
  }
}
