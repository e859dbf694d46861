import { RLIMIT, SHUT, SOCK } from "../ffi/constants.ts";
import { ERRNO } from "../ffi/errno.ts";
import type { Rlimit } from "../ffi/layout.ts";
import type { Syscalls } from "../ffi/syscalls.ts";
import { answerOf } from "./accept_answer.ts";
import type { LadderCounters } from "./counters.ts";
import type { Refusal } from "./refusal.ts";
import type { Reserve } from "./reserve.ts";

/** What came of trying to refuse one client with the descriptor table full. */
export type LadderOutcome = "refused" | "gone" | "queue reset" | "failed";

const USERS = 0;
const SIZE = 1;

/** Flags of what is accepted to be refused: nobody waits for it, and no child inherits it. */
const SHED_FLAGS = SOCK.nonblock | SOCK.cloexec;

/** The listener that clients are refused on. */
export interface ShedListener {
  /** Borrowed. */
  readonly fd: number;
  /** What listen(2) was told. */
  readonly backlog: number;
  /**
   * TCP on an explicitly chosen port, with SO_REUSEADDR: a queue that is reset keeps its address. Without the option
   * listen(2) then fails while a client is connected, and the listener is none any more.
   */
  readonly canResetQueue: boolean;
}

/**
 * How to refuse a client when there is no descriptor to do it with. Each step is tried only when the one before failed,
 * and the last of all is not here: to pause.
 *
 *   1. reserve      give up a reserve descriptor, accept, tell, and retake the slot with dup3
 *   2. slack        raise the soft limit for a moment
 *   3. queue reset  shutdown and listen again: everybody who waits is reset, and no descriptor is needed
 *
 * Another thread can steal the slot of 1 and, with several threads, the slots of 2; nothing can be stolen from 3. No
 * user code runs in here, and the calls of a step follow each other with nothing between them.
 */
export class Ladder {
  readonly #sys: Syscalls;
  readonly #reserve: Reserve;
  readonly #slack: Slack;
  readonly #counters: LadderCounters;

  /** Owns neither. */
  constructor(reserve: Reserve, slack: Slack, counters: LadderCounters, sys: Syscalls) {
    this.#sys = sys;
    this.#reserve = reserve;
    this.#slack = slack;
    this.#counters = counters;
  }

  /** Refuses one client who waits at `listener`. accept4 has just failed with `errno`, EMFILE or ENFILE. */
  refuseOne(listener: ShedListener, errno: number, refusal: Refusal): LadderOutcome {
    const byReserve = this.#byReserve(listener.fd, errno, refusal);
    if (byReserve !== "failed") return byReserve;
    const bySlack = errno === ERRNO.EMFILE[0] ? this.#bySlack(listener.fd, refusal) : "failed";
    if (bySlack !== "failed") return bySlack;
    return listener.canResetQueue ? this.#byReset(listener) : "failed";
  }

  #byReserve(listenerFd: number, errno: number, refusal: Refusal): LadderOutcome {
    const reserve = this.#reserve;
    if (!reserve.release()) {
      reserve.refill(); // one of several is enough
      if (!reserve.release()) return "failed";
    }
    const fd = this.#sys.accept4(listenerFd, SHED_FLAGS);
    if (fd < 0) {
      reserve.refill();
      if (answerOf(-fd) !== "table full") return "gone";
      this.#counters.lostByReserve++;
      return "failed";
    }
    refusal.tell(fd);
    if (errno === ERRNO.ENFILE[0]) {
      // The system's table is full: what is retaken must be a file of its own, which dup3 does not make.
      this.#sys.close(fd);
      reserve.refill();
    } else {
      reserve.retake(fd);
    }
    this.#counters.shedByReserve++;
    return "refused";
  }

  #bySlack(listenerFd: number, refusal: Refusal): LadderOutcome {
    if (!this.#slack.raise()) return "failed";
    const fd = this.#sys.accept4(listenerFd, SHED_FLAGS);
    if (fd >= 0) {
      refusal.tell(fd);
      this.#sys.close(fd);
    }
    this.#slack.lower();
    if (fd >= 0) {
      this.#counters.shedBySlack++;
      return "refused";
    }
    if (answerOf(-fd) !== "table full") return "gone";
    this.#counters.lostBySlack++;
    return "failed";
  }

  /**
   * Back to back, and never a second shutdown before listen has succeeded: that marks the socket, and whoever it accepts
   * later would read end of stream at once.
   */
  #byReset({ fd, backlog }: ShedListener): LadderOutcome {
    if (this.#sys.shutdown(fd, SHUT.rd) < 0 || this.#sys.listen(fd, backlog) < 0) return "failed";
    this.#counters.queueResets++;
    return "queue reset";
  }
}

/**
 * Numbers above the soft limit that only we know of: the limit is kept a little below what it was, and raised for the
 * moment of one accept. Raising soft up to hard takes no privilege: setrlimit(2).
 */
export class Slack {
  readonly #sys: Syscalls;
  readonly #words: Int32Array;
  #isClosed = false;

  /**
   * Lowers the soft limit by `size`, unless it is 0, or `words` say that another loop has.
   *
   * @param words Two, zero at first, shared by those who share the slack.
   */
  constructor(size: number, sys: Syscalls, words: Int32Array = new Int32Array(2)) {
    this.#sys = sys;
    this.#words = words;
    if (words[USERS]!++ > 0 || size === 0) return;
    const limit = sys.getrlimit(RLIMIT.nofile);
    // Where the limit cannot be read or set there is no slack; the ladder has other steps.
    if (typeof limit === "number" || limit.soft - size < 1 || limit.soft === Infinity) return;
    words[SIZE] = size;
    if (!this.#shift(-size)) words[SIZE] = 0;
  }

  /** How far the soft limit is below what it was; 0 if there is no slack. */
  get size(): number {
    return this.#words[SIZE]!;
  }

  /** Lifts the soft limit to what it was. Returns false where there is no slack, or the hard limit forbids it now. */
  raise(): boolean {
    return this.size > 0 && this.#shift(this.size);
  }

  /** Undoes `raise`. */
  lower(): void {
    this.#shift(-this.size);
  }

  /** Gives the slack back, if nobody else shares it. Safe twice. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (--this.#words[USERS]! > 0) return;
    // A hard limit that was lowered meanwhile is the most there is to give back.
    if (this.size > 0) this.#set((limit) => Math.min(limit.soft + this.size, limit.hard));
    this.#words[SIZE] = 0;
  }

  #shift(by: number): boolean {
    return this.#set((limit) => Math.max(1, limit.soft + by));
  }

  /** From the limit as it is now: it may have been changed from outside. Soft above hard is refused. */
  #set(softOf: (limit: Rlimit) => number): boolean {
    const limit = this.#sys.getrlimit(RLIMIT.nofile);
    if (typeof limit === "number") return false;
    const soft = softOf(limit);
    return soft <= limit.hard && this.#sys.setrlimit(RLIMIT.nofile, { soft, hard: limit.hard }) === 0;
  }
}
