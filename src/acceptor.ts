import { O, SOCK } from "../ffi/constants.ts";
import { ERRNO, SystemError } from "../ffi/errno.ts";
import { decodeSockaddr, SOCKADDR_MAX_BYTES } from "../ffi/layout.ts";
import type { Syscalls } from "../ffi/syscalls.ts";
import { answerOf } from "./accept_answer.ts";
import { Admission, ADMISSION_OPTIONS, type AdmissionHandlers, type AdmissionOptions, type Gate } from "./admission.ts";
import { assert } from "./assert.ts";
import { type AcceptCounters, createAcceptCounters } from "./counters.ts";
import type { OverloadCause } from "./episode.ts";
import { Interest, type Trigger } from "./interest.ts";
import { Ladder } from "./ladder.ts";
import { ACCEPT_BUDGET, ACCEPT_FAILURES, LOCK_RETRY_MS, PAUSE_RATE_MS, PAUSE_SYSTEM_MIN_MS } from "./limits.ts";
import { Listener, type ListenerInfo } from "./listener.ts";
import type { EventLoop } from "./loop.ts";
import { booleanOption, choiceOption, knownOptions } from "./options.ts";
import type { Source } from "./poller.ts";
import { shareKey } from "./shares.ts";
import type { Timer } from "./timers.ts";
import type { Token } from "./token.ts";

/** How an {@linkcode Acceptor} behaves. */
export interface AcceptorOptions extends AdmissionOptions {
  /** How the listener is watched. @default {"level"} */
  trigger?: Trigger;
  /** Wake one of several threads that wait for the same listener: `Interest.exclusive`. @default {false} */
  exclusive?: boolean;
  /**
   * Another acceptor of the same loop, to be one server with: limits, rates, room, reserve, pauses and the policy of
   * overload are counted over both, and are that one's, as are its handlers `overloaded` and `reap`. Of the other
   * options only `trigger` and `exclusive` may be given with it.
   */
  siblingOf?: Acceptor;
}

/** The keys of {@linkcode AcceptorOptions} but `siblingOf`. */
export const ACCEPTOR_OPTIONS: readonly (keyof AcceptorOptions)[] = ["trigger", "exclusive", ...ADMISSION_OPTIONS];

/** Who an {@linkcode Acceptor} works for. */
export interface AcceptorHandlers extends AdmissionHandlers {
  /**
   * Owns the descriptor it is given from then on, unless it throws. `released` follows once it has closed it.
   */
  accept(fd: number): void;
  /** The listener is none any more. The acceptor has stopped by then. */
  fail?(error: SystemError): void;
}

const ACCEPT_FLAGS = SOCK.nonblock | SOCK.cloexec;

/**
 * Takes connections from a listener, and refuses in good order, or lets wait, those there is no room for. Who is served
 * and who is not is decided by the table of `overload.ts`; how to refuse without a descriptor by `ladder.ts`. Nobody is
 * left in the backlog with no one watching: every way out of accepting is an empty queue, or a listener that is armed,
 * posted, or stands back or is paused with a timer pending.
 */
export class Acceptor implements Source {
  /** Told last in a batch. */
  readonly isListener = true;
  /** What it has done so far. */
  readonly counters: AcceptCounters = createAcceptCounters();
  /** The loop it runs on. */
  readonly loop: EventLoop;
  readonly #sys: Syscalls;
  /** Its descriptor is owned. */
  readonly #listener: Listener;
  readonly #handlers: AcceptorHandlers;
  readonly #interest: number;
  /** Shared with its siblings. */
  readonly #admission: Admission;
  /** What the admission sees of it. */
  readonly #gate: Gate;
  readonly #ladder: Ladder;
  readonly #sockaddr: Uint8Array = new Uint8Array(new ArrayBuffer(SOCKADDR_MAX_BYTES));
  #token: Token | undefined;
  #isPosted = false;
  /** Pending while this listener alone is not watched: it has done enough for now. */
  #standBackTimer: Timer | undefined;

  /**
   * Takes the listener over.
   *
   * @throws {RangeError | TypeError} If an option is wrong, or the descriptor limit leaves room for no client.
   * @throws {SystemError} If the reserve cannot be opened, or the listener not be watched. It is then the caller's.
   */
  constructor(loop: EventLoop, listener: ListenerInfo, options: AcceptorOptions, handlers: AcceptorHandlers) {
    const { sys } = loop;
    this.loop = loop;
    this.#sys = sys;
    this.#listener = new Listener(listener, sys);
    this.#handlers = handlers;
    const isEdge = choiceOption("trigger", options.trigger, ["level", "edge"]) === "edge";
    const isExclusive = booleanOption("exclusive", options.exclusive, false);
    this.#interest = Interest.acceptable | (isEdge ? Interest.edge : 0) | (isExclusive ? Interest.exclusive : 0);
    this.#gate = {
      listener: this.#listener,
      counters: this.counters,
      suspend: () => this.#rewatch(),
      resume: () => this.#resume(),
      stepForward: () => this.#stepForward(),
    };
    const sibling = resolveSibling(loop, options);
    this.#admission = sibling === undefined ? new Admission(loop, options, handlers) : sibling.#admission;
    this.#admission.add(this.#gate);
    try {
      const { coordinator, pause } = this.#admission;
      this.#ladder = new Ladder(coordinator.reserve, coordinator.slack, this.counters, sys);
      const token = loop.poller.add(listener.fd, this.#interest, this);
      if (typeof token === "number") throw new SystemError("watch a listener", "epoll_ctl", -token);
      this.#token = token;
      if (pause.isActive) this.#rewatch();
    } catch (error) {
      this.#admission.remove(this.#gate);
      throw error;
    }
  }

  /** Descriptors left free for the runtime. */
  get headroom(): number {
    return this.#admission.room.headroom;
  }

  /** Reserve descriptors that are not there now: another thread took their slots. */
  get reserveMissing(): number {
    return this.#admission.reserveMissing;
  }

  /** Connections accepted and not yet released, those of its siblings included. */
  get connections(): number {
    return this.#admission.room.connections;
  }

  /** Whether nobody is accepted for lack of room, or of a rate. A timer resumes it, or a release. */
  get isPaused(): boolean {
    return this.#admission.pause.isActive || this.#standBackTimer !== undefined;
  }

  /**
   * Whether overload is under way, here or at a sibling: from the first client there was no room for until a quiet
   * second has passed.
   */
  get isOverloaded(): boolean {
    return this.#admission.isOverloaded;
  }

  /** Clients in the backlog now; `undefined` where the kernel does not tell, as on Unix sockets. */
  get waiting(): number | undefined {
    return this.#token === undefined ? undefined : this.#listener.waiting;
  }

  /** What it and its siblings have done so far, also those that are closed. A copy. */
  get totals(): AcceptCounters {
    return this.#admission.counters;
  }

  /** The kernel says that somebody waits. */
  onReady(): void {
    if (!this.#isPosted) this.#accept(); // else later in this turn, and within one budget
  }

  /** The connection that was `fd`, accepted here or by a sibling, has been closed, so there is room. */
  released(fd: number): void {
    this.#admission.released(fd);
  }

  /** Stops accepting and closes the listener; clients in its queue are reset by the kernel. Safe twice. */
  close(): void {
    if (this.#token !== undefined) this.#sys.close(this.surrender());
  }

  /**
   * Stops accepting, and leaves the listener open: it is the caller's again, and clients wait in its queue.
   *
   * @returns Its descriptor. The acceptor must not be closed yet.
   */
  surrender(): number {
    assert(this.#token !== undefined, "an acceptor that is surrendered has a listener");
    this.loop.poller.remove(this.#token);
    this.#token = undefined;
    this.#standBackTimer?.cancel();
    this.#standBackTimer = undefined;
    this.#admission.remove(this.#gate);
    return this.#listener.fd;
  }

  readonly #accept = (): void => {
    this.#isPosted = false;
    if (this.#token === undefined) return; // posted before it was closed
    const { room, settings: { reapIdle } } = this.#admission;
    const { now } = this.loop;
    this.#admission.refill(); // before anybody is accepted: the slot that is free now is the reserve's
    let refused = 0;
    let reaped = 0;
    let failures = 0; // in a row
    const mayReap = () => reapIdle !== undefined && reaped < reapIdle.perTurn;
    for (let i = 0; i < ACCEPT_BUDGET; i++) {
      // User code ran in the last round, and may have stopped the server.
      if (this.#token === undefined || this.isPaused) return;
      // Who is to wait is not accepted: looked for before, since a number from accept4 says nothing of the next one.
      if (this.#admission.overload.isWaiting(now) && !room.isLeft(this.#listener.fd)) {
        if (mayReap() && this.#listener.isSomebodyWaiting && this.#reapOne()) reaped++;
        else return this.#pauseForRoom(now);
      }
      // Whatever the errno: nothing can make this spin.
      if (failures === ACCEPT_FAILURES) return this.#pause("no listener answer", now);
      const fd = this.#sys.accept4(this.#listener.fd, ACCEPT_FLAGS, this.#sockaddrFor());
      if (fd >= 0) {
        failures = 0;
        const outcome = this.#admit(fd, now, mayReap());
        if (outcome === "reaped") reaped++;
        const isRefused = outcome === "refused" || outcome === "rate limited";
        if (isRefused && this.#isBudgetSpent(++refused, now)) return;
        continue;
      }
      failures++;
      switch (answerOf(-fd)) {
        case "empty":
          return this.#rest(refused, now);
        case "peer gone":
          this.counters.peerGone++;
          continue;
        case "no memory":
          this.counters.noMemory++;
          return this.#pause("memory", now);
        case "not a listener":
          if (!this.#listener.isListening) return this.#fail(-fd);
          continue;
        case "table full":
          this.#countFull(-fd);
          room.lookAtLimit(); // a mark that was above a lowered limit was no mark
          // Decided before the queue is looked at: accept4(2) says it on an empty queue as well.
          if (!this.#listener.isSomebodyWaiting) {
            this.counters.falseAlarms++;
            return this.#rest(refused, now);
          }
          // A misread errno must cost nobody the connection; and what was full may have room by now.
          if (!this.#listener.isTableFull(-fd)) continue;
          failures = 0;
          if (mayReap() && this.#reapOne()) {
            reaped++;
            continue;
          }
          if (!this.#shed(-fd, now)) return;
          if (this.#isBudgetSpent(++refused, now)) return;
          continue;
      }
    }
    this.#acceptNextTurn();
  };

  /** Serves the client that `fd` is, or refuses it. */
  #admit(clientFd: number, now: number, mayReap: boolean): "served" | "reaped" | "refused" | "rate limited" {
    let fd = clientFd;
    const { room, overload } = this.#admission;
    const key = this.#admission.needsAddresses
      ? shareKey(decodeSockaddr(this.#sockaddr, this.#sockaddr.byteLength))
      : undefined;
    if (!this.#admission.isWithinRates(key, now)) {
      this.counters.rateLimited++;
      this.#refuse(fd);
      return "rate limited";
    }
    const situation = room.situationOf(fd);
    let outcome: "served" | "reaped" = "served";
    if (situation === "beyond" && mayReap) {
      const idleFd = this.#reapIdle();
      if (idleFd !== -1) {
        // The newcomer takes the old number: closing that and keeping this would eat the headroom, number by number.
        fd = this.#sys.dup3(clientFd, idleFd, O.cloexec);
        if (fd >= 0) this.#sys.close(clientFd);
        else fd = (this.#sys.close(idleFd), clientFd);
        outcome = "reaped";
      }
    }
    if (situation !== "beyond") overload.served(); // first: it may be this client that ends a grace
    const verdict = outcome === "reaped" ? "serve" : overload.verdict(situation, now);
    if (verdict === "refuse") {
      this.#admission.trouble(room.lack, this.#gate, now); // first: it notes the counts that the episode began with
      this.counters.refused++;
      this.#refuse(fd);
      return "refused";
    }
    const cause = this.#serve(fd, key, now);
    if (this.#token === undefined) return outcome; // user code has closed it
    if (cause !== undefined) {
      if (overload.isWaiting(now)) this.#pause(cause, now);
      else this.#admission.trouble(cause, this.#gate, now);
      return "refused";
    }
    if (verdict === "serve, then pause") this.#pauseForRoom(now);
    return outcome;
  }

  /** @returns What the kernel had too little of to serve it, if so: it was refused then. */
  #serve(fd: number, key: string | undefined, now: number): OverloadCause | undefined {
    this.#admission.entered(fd, key, now);
    this.counters.accepted++;
    try {
      this.#handlers.accept(fd);
    } catch (error) {
      this.counters.setupFailed++;
      const cause = lackOf(error);
      if (cause === undefined) this.#sys.close(fd);
      else this.#refuse(fd);
      this.released(fd);
      if (cause === undefined) this.loop.report(error);
      return cause;
    }
    this.#admission.pause.served();
    return undefined;
  }

  #refuse(fd: number): void {
    this.#admission.refusal.tell(fd);
    this.#sys.close(fd);
  }

  /**
   * Somebody waits and the table is full.
   *
   * @returns Whether a client was dealt with, and the next one may be looked at in this turn.
   */
  #shed(errno: number, now: number): boolean {
    const { overload, coordinator, refusal } = this.#admission;
    const cause = causeOf(errno);
    if (overload.verdict("table full", now) === "pause") {
      this.#pause(cause, now);
      return false;
    }
    this.#admission.trouble(cause, this.#gate, now);
    if (!coordinator.tryLock()) {
      // Another loop is refusing clients. Not in the next turn, where a level-triggered listener would spin until the
      // lock of a thread that is gone is taken over.
      this.#standBack(LOCK_RETRY_MS);
      return false;
    }
    const waiting = this.#listener.canResetQueue ? this.#listener.waiting : undefined;
    const outcome = this.#ladder.refuseOne(this.#listener, errno, refusal);
    coordinator.unlock();
    switch (outcome) {
      case "refused":
        this.counters.shed++;
        return true;
      case "gone":
        return true;
      case "queue reset":
        this.counters.shed += waiting ?? 0;
        return true;
      case "failed":
        this.#pause(cause, now);
        return false;
    }
  }

  /** Budgets count every refusal, with a descriptor in hand or without. */
  #isBudgetSpent(refused: number, now: number): boolean {
    const { refusals, settings } = this.#admission;
    refusals.take(now);
    const waitMs = refusals.waitMs(now);
    if (waitMs > 0) {
      // Long enough for a few: to stand back and return costs more than to refuse.
      this.#standBack(Math.max(waitMs, PAUSE_RATE_MS));
      return true;
    }
    if (refused < settings.shedPerTurn) return false;
    this.#acceptNextTurn();
    return true;
  }

  /**
   * The queue is empty. Where many turns have refused somebody lately, who comes next waits a moment for others to come:
   * a single client that connects again at once would otherwise cost a wake-up for each refusal.
   */
  #rest(refused: number, now: number): void {
    if (refused > 0 && !this.#admission.refusingTurns.take(now)) this.#standBack(PAUSE_RATE_MS);
  }

  /** Takes the longest idle connection's descriptor over; -1 if none has been idle for long enough. */
  #reapIdle(): number {
    const fd = this.#admission.reap();
    if (fd !== -1) this.counters.reaped++;
    return fd;
  }

  /** Closes the longest idle connection. */
  #reapOne(): boolean {
    const fd = this.#reapIdle();
    if (fd !== -1) this.#sys.close(fd);
    return fd !== -1;
  }

  /** Stops watching this listener for a moment, and no other: it has done enough for now. */
  #standBack(ms: number): void {
    this.counters.pauses++;
    this.#standBackTimer = this.loop.setTimer(ms, () => this.#stepForward());
    this.#rewatch();
  }

  #stepForward(): void {
    if (this.#standBackTimer === undefined) return;
    this.#standBackTimer.cancel();
    this.#standBackTimer = undefined;
    this.#resume();
  }

  /** The budget is spent and somebody may wait. A level-triggered listener is reported again by itself. */
  #acceptNextTurn(): void {
    if ((this.#interest & Interest.edge) === 0 || this.#isPosted) return;
    this.#isPosted = true;
    this.loop.post(this.#accept);
  }

  /** Stops watching this listener and all others. */
  #pause(cause: OverloadCause | undefined, now: number): void {
    this.#admission.pauseFor(cause, this.#gate, now);
  }

  /** There is no room for another one; which is no trouble while nobody else comes. */
  #pauseForRoom(now: number): void {
    this.#pause(this.#listener.isSomebodyWaiting ? this.#admission.room.lack : undefined, now);
  }

  /** The pause is over, or it need not stand back any longer. */
  #resume(): void {
    if (this.#token === undefined || this.isPaused) return;
    this.#rewatch(); // whoever waits is reported anew, also under edge triggering
  }

  /** Tells epoll what to wait for, by whether we are paused. MOD reports anew what is ready. */
  #rewatch(): void {
    if (this.#token === undefined) return; // not watched yet
    const interest = this.isPaused ? this.#interest & ~Interest.acceptable : this.#interest;
    try {
      this.loop.poller.modify(this.#token, interest);
    } catch (error) {
      const cause = lackOf(error);
      if (cause === undefined) throw error;
      // An exclusive listener was removed, to be added anew: nothing else would watch it again.
      this.counters.pauses++;
      this.#standBackTimer ??= this.loop.setTimer(PAUSE_SYSTEM_MIN_MS, () => this.#stepForward());
      this.#admission.trouble(cause, this.#gate, this.loop.now);
    }
  }

  #countFull(errno: number): void {
    if (errno === ERRNO.ENFILE[0]) this.counters.enfile++;
    else this.counters.emfile++;
  }

  #fail(errno: number): void {
    // One that was closed behind our back must not be closed again: the number may be somebody else's.
    if (errno === ERRNO.EBADF[0] || errno === ERRNO.ENOTSOCK[0]) this.surrender();
    else this.close();
    const { url } = this.#listener;
    const where = url === undefined ? "" : ` on ${JSON.stringify(url)}`;
    this.#handlers.fail?.(new SystemError(`accept connections${where}`, "accept4", errno));
  }

  /** Zeroed, so that what the kernel writes tells which family it is. */
  #sockaddrFor(): Uint8Array | undefined {
    return this.#admission.needsAddresses ? this.#sockaddr.fill(0) : undefined;
  }
}

function causeOf(errno: number): OverloadCause {
  return errno === ERRNO.ENFILE[0] ? "system descriptors" : "descriptors";
}

/** What there was too little of to watch a descriptor, if `error` is about that: epoll_ctl(2). */
function lackOf(error: unknown): OverloadCause | undefined {
  if (!(error instanceof SystemError) || error.syscall !== "epoll_ctl") return undefined;
  return error.code === "ENOSPC" ? "watches" : error.code === "ENOMEM" ? "memory" : undefined;
}

function resolveSibling(loop: EventLoop, options: AcceptorOptions): Acceptor | undefined {
  const { siblingOf } = options;
  if (siblingOf === undefined) return undefined;
  if (!(siblingOf instanceof Acceptor)) throw new TypeError("Cannot use siblingOf: it must be an Acceptor");
  knownOptions("make a sibling of an acceptor", options, ["trigger", "exclusive", "siblingOf"]);
  if (siblingOf.loop !== loop) throw new RangeError("Cannot use siblingOf: that acceptor is on another loop");
  return siblingOf;
}
