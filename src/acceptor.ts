import { MSG, POLL, SOCK } from "../ffi/constants.ts";
import { ERRNO, SystemError } from "../ffi/errno.ts";
import { PollSet } from "../ffi/layout.ts";
import type { Syscalls } from "../ffi/syscalls.ts";
import { answerOf } from "./accept_answer.ts";
import { assert } from "./assert.ts";
import { type AcceptCounters, createAcceptCounters } from "./counters.ts";
import { defaultHeadroom, defaultReserve, descriptorLimit, freeDescriptors } from "./descriptors.ts";
import { Interest, type Trigger } from "./interest.ts";
import { ACCEPT_BUDGET, PAUSE_MAX_MS, PAUSE_MIN_MS, SHED_BUDGET } from "./limits.ts";
import type { EventLoop } from "./loop.ts";
import { booleanOption, choiceOption, integerOption } from "./options.ts";
import type { Source } from "./poller.ts";
import { Reserve } from "./reserve.ts";
import { isListening } from "./socket.ts";
import type { Timer } from "./timers.ts";
import type { Token } from "./token.ts";

/** How an {@linkcode Acceptor} behaves, above all when descriptors run out. */
export interface AcceptorOptions {
  /** How the listener is watched. @default {"level"} */
  trigger?: Trigger;
  /** Wake one of several threads that wait for the same listener: `Interest.exclusive`. @default {false} */
  exclusive?: boolean;
  /**
   * Descriptors left free for the runtime, which may die without any: a client whose descriptor would reach into them
   * is refused. @default {a quarter of those free at start, 2 to 32}
   */
  headroom?: number;
  /** Idle descriptors to refuse clients with when the table is full all the same; 0 for none. @default {1 to 4} */
  reserve?: number;
  /** Clients served at a time; the next ones are refused. @default {unlimited} */
  maxConnections?: number;
}

/** The keys of {@linkcode AcceptorOptions}. */
export const ACCEPTOR_OPTIONS = ["trigger", "exclusive", "headroom", "reserve", "maxConnections"] as const;

const ACCEPT_FLAGS = SOCK.nonblock | SOCK.cloexec;

/**
 * Takes connections from a listener, and refuses in good order what there is no room for. Below the mark (limit −
 * headroom) and below `maxConnections` a client is served; above, it is accepted and closed; and where the descriptor
 * table is full it is refused through the {@linkcode Reserve}. Nobody is left in the backlog with no one watching:
 * every way out of accepting is an empty queue, or a listener that is armed, posted, or paused with a timer pending.
 */
export class Acceptor implements Source {
  /** Told last in a batch. */
  readonly isListener = true;
  /** What it has done so far. */
  readonly counters: AcceptCounters = createAcceptCounters();
  readonly #loop: EventLoop;
  readonly #sys: Syscalls;
  /** Owned. */
  readonly #fd: number;
  readonly #onAccept: (fd: number) => void;
  readonly #onFail: (error: SystemError) => void;
  readonly #interest: number;
  readonly #maxConnections: number;
  readonly #headroom: number;
  readonly #reserve: Reserve;
  readonly #waiting: PollSet = new PollSet(1);
  #token: Token | undefined;
  #mark = 0;
  #connections = 0;
  #pauseMs = PAUSE_MIN_MS;
  /** Pending exactly while paused. */
  #pauseTimer: Timer | undefined;

  /**
   * Takes `fd`, a non-blocking listener, over: `close` closes it.
   *
   * @param onAccept Owns the descriptor it is given from then on, unless it throws. Calls `released` once it has closed
   * it.
   * @param onFail Told, once, that the listener is none any more. The acceptor has stopped by then.
   * @throws {RangeError | TypeError} If an option is wrong, or the descriptor limit leaves room for no client.
   * @throws {SystemError} If the reserve cannot be opened, or the listener not be watched. `fd` is then the caller's.
   */
  constructor(
    loop: EventLoop,
    fd: number,
    options: AcceptorOptions,
    onAccept: (fd: number) => void,
    onFail: (error: SystemError) => void,
  ) {
    this.#loop = loop;
    this.#sys = loop.sys;
    this.#fd = fd;
    this.#onAccept = onAccept;
    this.#onFail = onFail;
    const isEdge = choiceOption("trigger", options.trigger, ["level", "edge"]) === "edge";
    const isExclusive = booleanOption("exclusive", options.exclusive, false);
    this.#interest = Interest.acceptable | (isEdge ? Interest.edge : 0) | (isExclusive ? Interest.exclusive : 0);
    this.#maxConnections = integerOption("maxConnections", options.maxConnections, Number.MAX_SAFE_INTEGER, 1);
    const limit = descriptorLimit(this.#sys);
    const reserve = integerOption("reserve", options.reserve, defaultReserve(limit), 0, 1024);
    const headroom = integerOption("headroom", options.headroom, -1, 0);

    this.#reserve = new Reserve(reserve, this.#sys);
    try {
      const free = freeDescriptors(this.#sys, limit) - loop.descriptorsToCome - loop.settlingDescriptors;
      this.#headroom = headroom === -1 ? defaultHeadroom(free) : headroom;
      this.#mark = limit - this.#headroom;
      if (free <= this.#headroom) {
        throw new RangeError(
          `Cannot accept connections: of ${limit} descriptors ${limit - free} are taken and ${this.#headroom} kept ` +
            `free for the runtime, which leaves none for a client; raise the limit (ulimit -n) or lower headroom`,
        );
      }
      const token = loop.poller.add(fd, this.#interest, this);
      if (typeof token === "number") throw new SystemError("watch a listener", "epoll_ctl", -token);
      this.#token = token;
    } catch (error) {
      this.#reserve.close();
      throw error;
    }
  }

  /** Descriptors left free for the runtime. */
  get headroom(): number {
    return this.#headroom;
  }

  /** Reserve descriptors that are not there now: another thread took their slots. */
  get reserveMissing(): number {
    return this.#reserve.missing;
  }

  /** Connections accepted and not yet released. */
  get connections(): number {
    return this.#connections;
  }

  /** Whether the listener is not watched because nothing could be accepted. A timer resumes it, or a release. */
  get isPaused(): boolean {
    return this.#pauseTimer !== undefined;
  }

  /** The kernel says that somebody waits. */
  onReady(): void {
    this.#accept();
  }

  /** A connection that `onAccept` was given has been closed, so there is room. */
  released(): void {
    this.#connections--;
    assert(this.#connections >= 0, "a connection is released once");
    if (this.#token === undefined) return;
    if (this.isPaused) this.#resume();
    else if (this.#reserve.missing > 0) this.#reserve.refill();
  }

  /** Stops accepting and closes the listener; clients in its queue are reset by the kernel. Safe twice. */
  close(): void {
    if (this.#token === undefined) return;
    this.#pauseTimer?.cancel();
    this.#pauseTimer = undefined;
    this.#loop.poller.remove(this.#token);
    this.#token = undefined;
    this.#sys.close(this.#fd);
    this.#reserve.close();
  }

  readonly #accept = (): void => {
    let shed = 0;
    let succeeded = false;
    for (let i = 0; i < ACCEPT_BUDGET; i++) {
      // User code ran in the last round, and may have stopped the server.
      if (this.#token === undefined) return;
      const fd = this.#sys.accept4(this.#fd, ACCEPT_FLAGS);
      if (fd >= 0) {
        this.#admit(fd);
        succeeded = true;
        continue;
      }
      switch (answerOf(-fd)) {
        case "empty":
          return;
        case "peer gone":
          this.counters.peerGone++;
          continue;
        case "table full":
          this.#countFull(-fd);
          // Decided before the queue is looked at: accept4(2) says it on an empty queue as well.
          if (!this.#isSomebodyWaiting()) {
            this.counters.falseAlarms++;
            return;
          }
          if (!this.#shedOne(-fd)) return this.#pause();
          succeeded = true;
          if (++shed === SHED_BUDGET) return this.#acceptNextTurn();
          continue;
        case "no memory":
          return this.#pause();
        case "not a listener":
          if (!this.#isListening()) return this.#fail(-fd);
          continue;
      }
    }
    // A whole budget of failures is a pause, whatever the errno: nothing can make this spin.
    if (succeeded) this.#acceptNextTurn();
    else this.#pause();
  };

  /** Serves a client, or refuses it where the mark or `maxConnections` is reached. */
  #admit(fd: number): void {
    if (this.#connections >= this.#maxConnections || this.#isBeyondMark(fd)) {
      this.counters.refused++;
      this.#drain(fd);
      this.#sys.close(fd);
      return;
    }
    this.#connections++;
    this.counters.accepted++;
    this.#pauseMs = PAUSE_MIN_MS;
    try {
      this.#onAccept(fd);
    } catch (error) {
      this.#connections--;
      this.counters.setupFailed++;
      this.#sys.close(fd);
      this.#loop.report(error);
    }
  }

  /**
   * The kernel hands out the lowest free number, so number k proves that all below it are in use. The limit is read
   * again before anybody is refused on its account: it may have been raised.
   */
  #isBeyondMark(fd: number): boolean {
    const settling = this.#loop.settlingDescriptors;
    if (fd < this.#mark - settling) return false;
    this.#mark = descriptorLimit(this.#sys) - this.#headroom;
    return fd >= this.#mark - settling;
  }

  /**
   * Refuses one waiting client while the table is full. Giving up a reserve buys one accept4; dup3 onto the accepted
   * descriptor then closes the client and retakes the slot in one step. The calls run back to back: another thread of
   * this process may take the slot between the first two, and then the reserve is missing until `refill`.
   *
   * @returns Whether that client is dealt with.
   */
  #shedOne(errno: number): boolean {
    const isSystemFull = errno === ERRNO.ENFILE[0];
    if (!this.#reserve.release() && !(this.#reserve.refill() && this.#reserve.release())) return false;
    const fd = this.#sys.accept4(this.#fd, ACCEPT_FLAGS);
    if (fd < 0) {
      this.#reserve.refill();
      this.counters.shedLost++;
      // The client left meanwhile, or another thread has the slot: only the second is a reason to pause.
      return answerOf(-fd) !== "table full";
    }
    this.#drain(fd);
    if (isSystemFull) {
      // A slot retaken with dup3 shares the keeper's file, which is no help against ENFILE: open a file of its own.
      this.#sys.close(fd);
      this.#reserve.refill();
    } else {
      this.#reserve.retake(fd);
    }
    this.counters.shed++;
    return true;
  }

  /** Throws away what the client has sent: with unread bytes the kernel turns a close into a reset. tcp(7). */
  #drain(fd: number): void {
    this.#sys.recv(fd, this.#loop.receiveBuffer, MSG.trunc | MSG.dontwait);
  }

  #isSomebodyWaiting(): boolean {
    this.#waiting.set(0, this.#fd, POLL.in);
    return this.#sys.poll(this.#waiting, 1, 0) !== 0;
  }

  #countFull(errno: number): void {
    if (errno === ERRNO.ENFILE[0]) this.counters.enfile++;
    else this.counters.emfile++;
  }

  /** Whether the listener is one still; errno alone decides nothing that cannot be undone. */
  #isListening(): boolean {
    try {
      return isListening(this.#fd, "accept connections", this.#sys);
    } catch {
      return false; // EBADF or ENOTSOCK: it was closed behind our back
    }
  }

  #fail(errno: number): void {
    this.close();
    this.#onFail(new SystemError("accept connections", "accept4", errno));
  }

  /** The budget is spent and somebody may wait. A level-triggered listener is reported again by itself. */
  #acceptNextTurn(): void {
    if (this.#interest & Interest.edge) this.#loop.post(this.#accept);
  }

  /** Stops watching for a while. A failing accept leaves a level-triggered listener readable: it would spin. */
  #pause(): void {
    if (this.#token === undefined || this.isPaused) return;
    this.counters.pauses++;
    this.#loop.poller.modify(this.#token, this.#interest & ~Interest.acceptable);
    this.#pauseTimer = this.#loop.setTimer(this.#pauseMs, () => this.#resume());
    this.#pauseMs = Math.min(2 * this.#pauseMs, PAUSE_MAX_MS);
  }

  /** Watches again; whoever waits is reported anew, also under edge triggering. */
  #resume(): void {
    assert(this.#token !== undefined && this.#pauseTimer !== undefined, "only a paused acceptor resumes");
    this.#pauseTimer.cancel();
    this.#pauseTimer = undefined;
    this.#reserve.refill();
    this.#loop.poller.modify(this.#token, this.#interest);
  }
}
