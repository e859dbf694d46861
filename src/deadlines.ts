import { TIMER_MAX_MS } from "./limits.ts";
import type { EventLoop } from "./loop.ts";
import type { TimerNode } from "./timers.ts";

/** How long a connection may take, in ms; 0 is for ever. */
export interface TimeoutSettings {
  /** See `ConnectionOptions`. */
  readonly idleTimeoutMs: number;
  /** See `ConnectionOptions`. */
  readonly readTimeoutMs: number;
  /** See `ConnectionOptions`. */
  readonly writeTimeoutMs: number;
  /** See `ConnectionOptions`. */
  readonly handshakeTimeoutMs: number;
  /** See `ConnectionOptions`. */
  readonly slowReaderMs: number;
}

/** Which of the settings has passed. */
export type DeadlineName = keyof TimeoutSettings;

/** Whose deadlines they are. */
export interface Expiring {
  /** When bytes were received, or taken by the kernel, last. */
  readonly busyAtMs: number;
  /**
   * A deadline has passed. Called as a timer of the loop, and again in the next turn if it returns false, as it may while
   * `isPatient`: it is not to be over yet.
   */
  onDeadline(name: DeadlineName, isPatient: boolean): boolean;
}

/** The clock of that deadline does not run. */
const STOPPED = -1;

/**
 * What a connection has to do by when. To note that something happened is to store a number: one timer, set for the
 * deadline that was next when it was set, looks what is due by then and is set again. It is this object itself, as there is
 * one for each connection. Times are in whole ms on the clock of the loop, rounded up.
 */
export class Deadlines implements TimerNode {
  /** For the timers. */
  deadline: number = 0;
  /** For the timers. */
  sequence: number = 0;
  /** For the timers. */
  index: number = -1;
  readonly #loop: EventLoop;
  readonly #settings: TimeoutSettings;
  readonly #owner: Expiring;
  // When the clock of each began; that of being idle is the owner's.
  #handshakeMs: number;
  #messageMs = STOPPED;
  #blockedMs = STOPPED;
  #overMs = STOPPED;
  /** Since when nobody reads: that no message is completed is not the peer's doing then. */
  #heldMs = STOPPED;
  /** When the deadline of this message was put off first. */
  #putOffMs = STOPPED;
  #isClosed = false;

  /** `owner` has just begun. */
  constructor(loop: EventLoop, settings: TimeoutSettings, owner: Expiring) {
    this.#loop = loop;
    this.#settings = settings;
    this.#owner = owner;
    this.#handshakeMs = owner.busyAtMs;
    this.#schedule();
  }

  /** Bytes have arrived: those of a message that has just begun, or more of one that is under way. */
  received(nowMs: number): void {
    this.#handshakeMs = STOPPED;
    if (this.#messageMs === STOPPED) this.#begin(nowMs);
  }

  /** A whole message has been taken. */
  completed(nowMs: number, hasNextBegun: boolean): void {
    if (!hasNextBegun) this.#messageMs = STOPPED;
    else this.#begin(this.#heldMs === STOPPED ? nowMs : this.#heldMs); // what is held is added when it is over
  }

  /** The kernel has taken bytes. */
  sent(nowMs: number): void {
    if (this.#blockedMs !== STOPPED) this.#blockedMs = nowMs;
  }

  /** The kernel takes no more, or has taken everything. */
  blocked(nowMs: number, isBlocked: boolean): void {
    if (isBlocked === (this.#blockedMs !== STOPPED)) return;
    this.#blockedMs = isBlocked ? nowMs : STOPPED;
    if (isBlocked) this.#sooner(nowMs, this.#settings.writeTimeoutMs);
  }

  /** The queue has reached the high-water mark, or fallen to the low one. */
  over(nowMs: number, isOver: boolean): void {
    if (!isOver) this.#overMs = STOPPED;
    else if (this.#overMs === STOPPED) {
      this.#overMs = nowMs;
      this.#sooner(nowMs, this.#settings.slowReaderMs);
    }
  }

  /** Reading is held back, or goes on: meanwhile the clocks of what is to be read stand still. */
  reading(nowMs: number, isReading: boolean): void {
    if (isReading === (this.#heldMs === STOPPED)) return;
    const heldForMs = nowMs - this.#heldMs;
    this.#heldMs = isReading ? STOPPED : nowMs;
    if (!isReading) return;
    if (this.#messageMs !== STOPPED) {
      this.#messageMs += heldForMs;
      if (this.#putOffMs !== STOPPED) this.#putOffMs += heldForMs;
      this.#sooner(this.#messageMs, this.#settings.readTimeoutMs);
    }
    if (this.#handshakeMs === STOPPED) return;
    this.#handshakeMs += heldForMs;
    this.#sooner(this.#handshakeMs, this.#settings.handshakeTimeoutMs);
  }

  /** Nothing expires any more, whatever is noted after this. */
  close(): void {
    this.#isClosed = true;
    this.#loop.unschedule(this);
  }

  /** For the timers: looks what is due. */
  onDue(): void {
    const [name, at] = this.#next();
    const { now } = this.#loop;
    if (at <= now) {
      // A message that never ends always has more to be read: it is put off once more its time, and no longer.
      const isMessage = name === "readTimeoutMs";
      const isPatient = !isMessage || this.#putOffMs === STOPPED || now < this.#putOffMs + this.#settings.readTimeoutMs;
      if (this.#owner.onDeadline(name, isPatient)) return;
      if (isMessage && this.#putOffMs === STOPPED) this.#putOffMs = Math.ceil(now);
    }
    this.#schedule();
  }

  #begin(messageMs: number): void {
    this.#messageMs = messageMs;
    this.#putOffMs = STOPPED;
    this.#sooner(messageMs, this.#settings.readTimeoutMs);
  }

  /** A clock has begun; the timer may be set for later than it needs. */
  #sooner(sinceMs: number, limitMs: number): void {
    if (limitMs === 0 || this.#isClosed) return;
    if (this.index !== -1 && this.deadline <= sinceMs + limitMs) return;
    this.#schedule();
  }

  /** Sets the timer for the deadline that is next now. */
  #schedule(): void {
    this.#loop.unschedule(this);
    const [, at] = this.#next();
    // Rounded up, it may lie a fraction beyond the longest timer; whoever is early looks again.
    if (at !== Infinity) this.#loop.schedule(this, Math.min(TIMER_MAX_MS, Math.max(0, at - this.#loop.now)));
  }

  #next(): [name: DeadlineName, at: number] {
    const { idleTimeoutMs, readTimeoutMs, writeTimeoutMs, handshakeTimeoutMs, slowReaderMs } = this.#settings;
    let next: [DeadlineName, number] = ["idleTimeoutMs", due(this.#owner.busyAtMs, idleTimeoutMs)];
    const consider = (name: DeadlineName, at: number): void => {
      if (at < next[1]) next = [name, at];
    };
    if (this.#heldMs === STOPPED) {
      consider("readTimeoutMs", due(this.#messageMs, readTimeoutMs));
      consider("handshakeTimeoutMs", due(this.#handshakeMs, handshakeTimeoutMs));
    }
    consider("writeTimeoutMs", due(this.#blockedMs, writeTimeoutMs));
    consider("slowReaderMs", due(this.#overMs, slowReaderMs));
    return next;
  }
}

function due(sinceMs: number, limitMs: number): number {
  return sinceMs === STOPPED || limitMs === 0 ? Infinity : sinceMs + limitMs;
}
