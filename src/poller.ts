import { EPOLL, EPOLL_CTL } from "../ffi/constants.ts";
import { ERRNO, expectValue, SystemError } from "../ffi/errno.ts";
import { type EpollEventLayout, epollEventLayout } from "../ffi/layout.ts";
import { realSyscalls, type Syscalls } from "../ffi/syscalls.ts";
import { Interest } from "./interest.ts";
import { EVENTS_PER_WAIT, REARM_BUDGET } from "./limits.ts";
import { SlotTable, type Token } from "./token.ts";

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

/** One registration: what is re-armed, and who is told. */
interface Registration {
  readonly fd: number;
  readonly source: Source;
  interest: number;
  token: Token | undefined;
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
  readonly #registrations: SlotTable<Registration> = new SlotTable();
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
    return this.#registrations.size;
  }

  /** How many sources are edge-triggered. */
  get edges(): number {
    return this.#edges;
  }

  /**
   * Watches `fd` for `interest` (`Interest` bits).
   *
   * @returns The token, or `-errno`: `-ENOSPC` (fs.epoll.max_user_watches), `-ENOMEM`, `-EEXIST` if the descriptor is
   * watched already, `-EPERM` for a regular file.
   * @throws {RangeError} If the poller is closed, or `fd` is not a non-negative integer.
   */
  add(fd: number, interest: number, source: Source): Token | number {
    this.#assertOpen();
    const registration: Registration = { fd, source, interest, token: undefined };
    const token = registration.token = this.#registrations.add(registration);
    let result = -1;
    try {
      result = this.#control(EPOLL_CTL.add, fd, interest, token);
    } finally {
      if (result < 0) this.#registrations.remove(token); // also for what throws: a number that is no descriptor's
    }
    if (result < 0) return result;
    if (interest & Interest.edge) this.#edges++;
    return token;
  }

  /**
   * Changes what `token` waits for, and reports anew what is ready already, also under edge triggering.
   *
   * @throws {SystemError} If the kernel refuses.
   * @throws {RangeError} If the token was removed, or the poller is closed.
   */
  modify(token: Token, interest: number): void {
    this.#assertOpen();
    const registration = this.#get(token);
    const { fd } = registration;
    let operation: number = EPOLL_CTL.mod;
    if ((registration.interest | interest) & Interest.exclusive) {
      // The kernel modifies no exclusive registration (EINVAL): epoll_ctl(2).
      this.#sys.epollCtl(this.#fd, EPOLL_CTL.del, fd, null);
      operation = EPOLL_CTL.add;
    }
    expectValue(this.#control(operation, fd, interest, token), "change what is waited for", "epoll_ctl");
    if (registration.interest & Interest.edge) this.#edges--;
    if (interest & Interest.edge) this.#edges++;
    registration.interest = interest;
  }

  /**
   * Stops watching; once, and before the descriptor is closed.
   *
   * @throws {RangeError} If the token was removed.
   */
  remove(token: Token): void {
    const { fd, interest } = this.#get(token);
    this.#registrations.remove(token);
    if (interest & Interest.edge) this.#edges--;
    if (this.#fd === -1) return; // with the epoll instance went what it watched; the number is somebody else's
    // A descriptor that was closed behind our back has left the epoll set by itself.
    this.#sys.epollCtl(this.#fd, EPOLL_CTL.del, fd, null);
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
      const registration = this.#registrations.get(this.#events[at + slot]!, this.#events[at + generation]!);
      if (registration === undefined) continue; // removed earlier in this batch
      if (registration.source.isListener === true) {
        this.#listenerEvents[this.#listenerCount++] = at;
        continue;
      }
      try {
        registration.source.onReady(this.#events[at + events]!);
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
      const registration = this.#registrations.get(this.#events[at + slot]!, this.#events[at + generation]!);
      try {
        registration?.source.onReady(this.#events[at + events]!);
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
    const end = Math.min(this.#rearmSlot + REARM_BUDGET, this.#registrations.slots);
    for (let slot = this.#rearmSlot; slot < end; slot++) {
      const registration = this.#registrations.at(slot);
      if (registration?.token === undefined) continue;
      const { token, interest } = registration;
      // A oneshot source that has fired stays silent until its owner modifies it.
      if (!(interest & Interest.edge) || interest & Interest.oneshot) continue;
      this.#rearmSlot = slot + 1;
      this.modify(token, interest);
    }
    this.#rearmSlot = end === this.#registrations.slots ? 0 : end;
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

  #get({ slot, generation }: Token): Registration {
    const registration = this.#registrations.get(slot, generation);
    if (registration === undefined) throw new RangeError("Cannot use a token: its source was removed");
    return registration;
  }

  #control(operation: number, fd: number, interest: number, token: Token): number {
    this.#event[this.#layout.events] = interest;
    this.#event[this.#layout.slot] = token.slot;
    this.#event[this.#layout.generation] = token.generation;
    return this.#sys.epollCtl(this.#fd, operation, fd, this.#event);
  }
}
