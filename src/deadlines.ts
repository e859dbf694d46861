import type { EventLoop } from "./loop.ts";
import type { Timer } from "./timers.ts";

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

/** The clock of that deadline does not run. */
const STOPPED = Infinity;

/**
 * What a connection has to do by when. To note that something happened is to store a number: one timer, set for the
 * deadline that was next when it was set, looks what is due by then and is set again.
 */
export class Deadlines {
  readonly #loop: EventLoop;
  readonly #settings: TimeoutSettings;
  readonly #expired: (name: DeadlineName) => boolean;
  #timer: Timer | undefined;
  // When the clock of each began.
  #idleMs: number;
  #handshakeMs: number;
  #messageMs = STOPPED;
  #blockedMs = STOPPED;
  #overMs = STOPPED;
  /** Since when nobody reads: that no message is completed is not the peer's doing then. */
  #heldMs = STOPPED;
  #isClosed = false;

  /**
   * The connection begins now. `expired` is called as a timer of the loop, and again in the next turn if it returns false:
   * it is not to be over yet.
   */
  constructor(loop: EventLoop, settings: TimeoutSettings, expired: (name: DeadlineName) => boolean) {
    this.#loop = loop;
    this.#settings = settings;
    this.#expired = expired;
    this.#idleMs = this.#handshakeMs = loop.now;
    this.#schedule();
  }

  /** Bytes have arrived: those of a message that has just begun, or more of one that is under way. */
  received(now: number): void {
    this.#idleMs = now;
    this.#handshakeMs = STOPPED;
    if (this.#messageMs !== STOPPED) return;
    this.#messageMs = now;
    this.#sooner(now, this.#settings.readTimeoutMs);
  }

  /** A whole message has been taken. */
  completed(now: number, hasNextBegun: boolean): void {
    this.#messageMs = hasNextBegun ? Math.min(now, this.#heldMs) : STOPPED; // what is held is added when it is over
    if (hasNextBegun) this.#sooner(now, this.#settings.readTimeoutMs);
  }

  /** The kernel has taken bytes. */
  sent(now: number): void {
    this.#idleMs = now;
    if (this.#blockedMs !== STOPPED) this.#blockedMs = now;
  }

  /** The kernel takes no more, or has taken everything. */
  blocked(now: number, isBlocked: boolean): void {
    this.#blockedMs = isBlocked ? now : STOPPED;
    if (isBlocked) this.#sooner(now, this.#settings.writeTimeoutMs);
  }

  /** The queue has reached the high-water mark, or fallen to the low one. */
  over(now: number, isOver: boolean): void {
    if (!isOver) this.#overMs = STOPPED;
    else if (this.#overMs === STOPPED) {
      this.#overMs = now;
      this.#sooner(now, this.#settings.slowReaderMs);
    }
  }

  /** Reading is held back, or goes on: meanwhile the clocks of what is to be read stand still. */
  reading(now: number, isReading: boolean): void {
    if (isReading === (this.#heldMs === STOPPED)) return;
    const heldForMs = now - this.#heldMs;
    this.#heldMs = isReading ? STOPPED : now;
    if (!isReading) return;
    this.#messageMs += heldForMs;
    this.#handshakeMs += heldForMs;
    const { readTimeoutMs, handshakeTimeoutMs } = this.#settings;
    if (this.#messageMs !== STOPPED) this.#sooner(this.#messageMs, readTimeoutMs);
    if (this.#handshakeMs !== STOPPED) this.#sooner(this.#handshakeMs, handshakeTimeoutMs);
  }

  /** Nothing expires any more, whatever is noted after this. */
  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }

  /** A clock has begun; the timer may be set for later than it needs. */
  #sooner(now: number, limitMs: number): void {
    if (limitMs === 0 || this.#isClosed) return;
    if (this.#timer !== undefined && this.#timer.isPending && this.#timer.deadline <= now + limitMs) return;
    this.#schedule();
  }

  readonly #look = (): void => {
    this.#timer = undefined;
    const [name, at] = this.#next();
    if (at <= this.#loop.now && this.#expired(name)) return;
    this.#schedule();
  };

  /** Sets the timer for the deadline that is next now. */
  #schedule(): void {
    this.#timer?.cancel();
    const [, at] = this.#next();
    this.#timer = at === STOPPED ? undefined : this.#loop.setTimer(Math.max(0, at - this.#loop.now), this.#look);
  }

  #next(): [name: DeadlineName, at: number] {
    const { idleTimeoutMs, readTimeoutMs, writeTimeoutMs, handshakeTimeoutMs, slowReaderMs } = this.#settings;
    let next: [DeadlineName, number] = ["idleTimeoutMs", deadline(this.#idleMs, idleTimeoutMs)];
    const consider = (name: DeadlineName, at: number): void => {
      if (at < next[1]) next = [name, at];
    };
    if (this.#heldMs === STOPPED) {
      consider("readTimeoutMs", deadline(this.#messageMs, readTimeoutMs));
      consider("handshakeTimeoutMs", deadline(this.#handshakeMs, handshakeTimeoutMs));
    }
    consider("writeTimeoutMs", deadline(this.#blockedMs, writeTimeoutMs));
    consider("slowReaderMs", deadline(this.#overMs, slowReaderMs));
    return next;
  }
}

function deadline(sinceMs: number, limitMs: number): number {
  return limitMs === 0 ? STOPPED : sinceMs + limitMs;
}
