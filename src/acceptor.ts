import { O, SOCK } from "../ffi/constants.ts";
import { ERRNO, SystemError } from "../ffi/errno.ts";
import { decodeSockaddr, SOCKADDR_MAX_BYTES } from "../ffi/layout.ts";
import type { Syscalls } from "../ffi/syscalls.ts";
import { answerOf } from "./accept_answer.ts";
import { Coordinator, type Member } from "./coordinator.ts";
import { type AcceptCounters, createAcceptCounters } from "./counters.ts";
import { defaultReserve, defaultSlack, descriptorLimit, growTable } from "./descriptors.ts";
import type { OverloadCause, OverloadEvent } from "./episode.ts";
import { Interest, type Trigger } from "./interest.ts";
import { Ladder } from "./ladder.ts";
import {
  ACCEPT_BUDGET,
  ACCEPT_FAILURES,
  LOCK_RETRY_MS,
  PAUSE_MAX_MS,
  PAUSE_MIN_MS,
  PAUSE_RATE_MS,
  PAUSE_SYSTEM_MIN_MS,
  REFUSING_TURNS_PER_SECOND,
} from "./limits.ts";
import { Listener, type ListenerInfo } from "./listener.ts";
import type { EventLoop } from "./loop.ts";
import { booleanOption, choiceOption, integerOption } from "./options.ts";
import { Overload, type OverloadOptions, type OverloadSettings, resolveOverload } from "./overload.ts";
import { OverloadWatch } from "./overload_watch.ts";
import type { Source } from "./poller.ts";
import { Refusal } from "./refusal.ts";
import { Room } from "./room.ts";
import { shareKey, Shares } from "./shares.ts";
import type { Timer } from "./timers.ts";
import type { Token } from "./token.ts";
import { TokenBucket } from "./token_bucket.ts";

/** How an {@linkcode Acceptor} behaves. */
export interface AcceptorOptions {
  /** How the listener is watched. @default {"level"} */
  trigger?: Trigger;
  /** Wake one of several threads that wait for the same listener: `Interest.exclusive`. @default {false} */
  exclusive?: boolean;
  /** Clients served at a time; what becomes of the next ones is `overload.policy`'s. @default {unlimited} */
  maxConnections?: number;
  /** Clients served at a time from one IPv4 address or one IPv6 /64; the next ones are refused. @default {unlimited} */
  maxConnectionsPerAddress?: number;
  /** Clients accepted in a second, and at once after a quiet one; the next ones are refused. @default {unlimited} */
  acceptsPerSecond?: number;
  /** As `acceptsPerSecond`, for one IPv4 address or one IPv6 /64. @default {unlimited} */
  acceptsPerSecondPerAddress?: number;
  /** What is done when descriptors, or what else it needs, run out. */
  overload?: OverloadOptions;
  /** What several loops of this process share when descriptors run out. @default {one of its own} */
  coordinator?: Coordinator;
}

/** The keys of {@linkcode AcceptorOptions}. */
export const ACCEPTOR_OPTIONS: readonly (keyof AcceptorOptions)[] = [
  ...["trigger", "exclusive", "maxConnections", "maxConnectionsPerAddress", "acceptsPerSecond"] as const,
  ...["acceptsPerSecondPerAddress", "overload", "coordinator"] as const,
];

/** Who an {@linkcode Acceptor} works for. */
export interface AcceptorHandlers {
  /**
   * Owns the descriptor it is given from then on, unless it throws. `released` follows once it has closed it.
   */
  accept(fd: number): void;
  /** The listener is none any more. The acceptor has stopped by then. */
  fail?(error: SystemError): void;
  /** Overload begins, goes on, or is over. Never called while a client is being refused. */
  overloaded?(event: OverloadEvent): void;
  /**
   * Gives up the connection that has been idle for longest, if for at least `minIdleMs`: forgets it without closing its
   * descriptor, which is returned, and calls `released`. -1 if there is none.
   */
  reap?(minIdleMs: number): number;
}

const ACCEPT_FLAGS = SOCK.nonblock | SOCK.cloexec;

/**
 * Takes connections from a listener, and refuses in good order, or lets wait, those there is no room for. Who is served
 * and who is not is decided by the table of `overload.ts`; how to refuse without a descriptor by `ladder.ts`. Nobody is
 * left in the backlog with no one watching: every way out of accepting is an empty queue, or a listener that is armed,
 * posted, or paused with a timer pending.
 */
export class Acceptor implements Source, Member {
  /** Told last in a batch. */
  readonly isListener = true;
  /** What it has done so far. */
  readonly counters: AcceptCounters = createAcceptCounters();
  readonly #loop: EventLoop;
  readonly #sys: Syscalls;
  /** Its descriptor is owned. */
  readonly #listener: Listener;
  readonly #handlers: AcceptorHandlers;
  readonly #settings: OverloadSettings;
  readonly #interest: number;
  readonly #room: Room;
  readonly #coordinator: Coordinator;
  readonly #overload: Overload;
  readonly #watch: OverloadWatch;
  readonly #refusal: Refusal;
  readonly #ladder: Ladder;
  readonly #refusals: TokenBucket;
  /** Turns that refuse somebody and find the queue empty after that. */
  readonly #refusingTurns: TokenBucket;
  readonly #accepts: TokenBucket;
  readonly #shares: Shares | undefined;
  /** Addresses of the connections there are, by descriptor; only with `#shares`. */
  readonly #keys: Map<number, string> = new Map();
  readonly #sockaddr: Uint8Array = new Uint8Array(new ArrayBuffer(SOCKADDR_MAX_BYTES));
  #token: Token | undefined;
  #isSuspended = false;
  #isPosted = false;
  #pauseMs = PAUSE_MIN_MS;
  #pauseTimer: Timer | undefined;

  /**
   * Takes the listener over.
   *
   * @throws {RangeError | TypeError} If an option is wrong, or the descriptor limit leaves room for no client.
   * @throws {SystemError} If the reserve cannot be opened, or the listener not be watched. It is then the caller's.
   */
  constructor(loop: EventLoop, listener: ListenerInfo, options: AcceptorOptions, handlers: AcceptorHandlers) {
    const { sys } = loop;
    this.#loop = loop;
    this.#sys = sys;
    this.#listener = new Listener(listener, sys);
    this.#handlers = handlers;
    this.#settings = resolveOverload(options.overload);
    const isEdge = choiceOption("trigger", options.trigger, ["level", "edge"]) === "edge";
    const isExclusive = booleanOption("exclusive", options.exclusive, false);
    this.#interest = Interest.acceptable | (isEdge ? Interest.edge : 0) | (isExclusive ? Interest.exclusive : 0);
    this.#overload = new Overload(this.#settings.policy);
    this.#refusal = new Refusal(this.#settings.refuse, (text) => loop.encode(text), sys);
    this.#refusals = new TokenBucket(this.#settings.shedPerSecond, loop.now);
    this.#refusingTurns = new TokenBucket(REFUSING_TURNS_PER_SECOND, loop.now);
    this.#accepts = new TokenBucket(limitOption("acceptsPerSecond", options.acceptsPerSecond), loop.now);
    this.#shares = createShares(options);
    const maxConnections = limitOption("maxConnections", options.maxConnections);
    this.#coordinator = resolveCoordinator(options.coordinator, sys);

    const limit = descriptorLimit(sys);
    const { reserve = defaultReserve(limit), slack = defaultSlack(limit) } = this.#settings;
    this.#coordinator.join(this, loop, reserve, slack); // first of all: the reserve is to have low numbers
    try {
      const { counters } = this;
      this.#ladder = new Ladder(this.#coordinator.reserve, this.#coordinator.slack, counters, sys);
      this.#room = new Room(loop, this.#settings.headroom, maxConnections);
      const watched = { listener: this.#listener, room: this.#room, counters, coordinator: this.#coordinator };
      this.#watch = new OverloadWatch(loop, watched, (event) => handlers.overloaded?.(event));
      growTable(sys, this.#room.mark);
      const token = loop.poller.add(listener.fd, this.#interest, this);
      if (typeof token === "number") throw new SystemError("watch a listener", "epoll_ctl", -token);
      this.#token = token;
      if (this.#isSuspended) this.#rewatch();
    } catch (error) {
      this.#coordinator.leave(this, loop);
      throw error;
    }
  }

  /** Descriptors left free for the runtime. */
  get headroom(): number {
    return this.#room.headroom;
  }

  /** Reserve descriptors that are not there now: another thread took their slots. */
  get reserveMissing(): number {
    return this.#token === undefined ? 0 : this.#coordinator.reserve.missing;
  }

  /** Connections accepted and not yet released. */
  get connections(): number {
    return this.#room.connections;
  }

  /** Whether nobody is accepted for lack of room. A timer resumes it, or a release. */
  get isPaused(): boolean {
    return this.#isSuspended;
  }

  /** Whether overload is under way: from the first client there was no room for until a quiet second has passed. */
  get isOverloaded(): boolean {
    return this.#watch.isActive;
  }

  /** Clients in the backlog now; `undefined` where the kernel does not tell, as on Unix sockets. */
  get waiting(): number | undefined {
    return this.#token === undefined ? undefined : this.#listener.waiting;
  }

  /** The kernel says that somebody waits. */
  onReady(): void {
    this.#accept();
  }

  /** The connection that was `fd` has been closed, so there is room. */
  released(fd: number): void {
    this.#room.leave();
    const key = this.#keys.get(fd);
    if (key !== undefined) {
      this.#keys.delete(fd);
      this.#shares!.release(key, this.#loop.now);
    }
    if (this.#token === undefined) return;
    this.#refill();
    // Another thread may have paused, and not told us yet.
    if (this.#isSuspended || this.#coordinator.isPaused) this.#coordinator.resume();
  }

  /** For the coordinator. */
  suspend(): void {
    if (this.#isSuspended) return;
    this.#isSuspended = true;
    if (this.#token !== undefined) this.#rewatch();
    this.#pauseTimer ??= this.#setPauseTimer(PAUSE_MAX_MS); // whoever paused may have gone
  }

  /** For the coordinator. */
  resume(): void {
    if (!this.#isSuspended) return;
    this.#isSuspended = false;
    this.#pauseTimer?.cancel();
    this.#pauseTimer = undefined;
    if (this.#token === undefined) return;
    this.#refill();
    this.#rewatch(); // whoever waits is reported anew, also under edge triggering
  }

  /** Stops accepting and closes the listener; clients in its queue are reset by the kernel. Safe twice. */
  close(): void {
    if (this.#token === undefined) return;
    this.#loop.poller.remove(this.#token);
    this.#token = undefined;
    this.#sys.close(this.#listener.fd);
    this.#pauseTimer?.cancel();
    this.#watch.close();
    const wasPaused = this.#isSuspended;
    this.#coordinator.leave(this, this.#loop);
    if (wasPaused) this.#coordinator.resume(); // the others need not wait for our timer
  }

  readonly #accept = (): void => {
    this.#isPosted = false;
    if (this.#token === undefined) return; // posted before it was closed
    const { now } = this.#loop;
    this.#refill(); // before anybody is accepted: the slot that is free now is the reserve's
    let refused = 0;
    let reaped = 0;
    let failures = 0; // in a row
    const mayReap = () => this.#settings.reapIdle !== undefined && reaped < this.#settings.reapIdle.perTurn;
    for (let i = 0; i < ACCEPT_BUDGET; i++) {
      // User code ran in the last round, and may have stopped the server.
      if (this.#token === undefined || this.#isSuspended) return;
      // Who is to wait is not accepted: looked for before, since a number from accept4 says nothing of the next one.
      if (this.#overload.isWaiting(now) && !this.#room.isLeft(this.#listener.fd)) {
        if (mayReap() && this.#listener.isSomebodyWaiting && this.#reapOne()) reaped++;
        else return this.#pauseForRoom(now);
      }
      // Whatever the errno: nothing can make this spin.
      if (failures === ACCEPT_FAILURES) return this.#pause("no listener answer", now);
      const fd = this.#sys.accept4(this.#listener.fd, ACCEPT_FLAGS, this.#shares && this.#sockaddrFor());
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
          this.#room.lookAtLimit(); // a mark that was above a lowered limit was no mark
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
    const key = this.#shares && shareKey(decodeSockaddr(this.#sockaddr, this.#sockaddr.byteLength));
    if (!this.#accepts.take(now) || (key !== undefined && this.#shares!.admit(key, now) !== undefined)) {
      this.counters.rateLimited++;
      this.#refuse(fd);
      return "rate limited";
    }
    const situation = this.#room.situationOf(fd);
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
    if (situation !== "beyond") this.#overload.served(); // first: it may be this client that ends a grace
    const verdict = outcome === "reaped" ? "serve" : this.#overload.verdict(situation, now);
    if (verdict === "refuse") {
      this.#watch.trouble(this.#room.lack, now); // first: it notes the counts that the episode began with
      this.counters.refused++;
      if (key !== undefined) this.#shares!.release(key, now);
      this.#refuse(fd);
      return "refused";
    }
    if (key !== undefined) this.#keys.set(fd, key);
    this.#serve(fd);
    if (verdict === "serve, then pause" && this.#token !== undefined) this.#pauseForRoom(now);
    return outcome;
  }

  #serve(fd: number): void {
    this.#room.enter();
    this.counters.accepted++;
    this.#pauseMs = PAUSE_MIN_MS;
    try {
      this.#handlers.accept(fd);
    } catch (error) {
      this.counters.setupFailed++;
      this.#sys.close(fd);
      this.released(fd);
      this.#loop.report(error);
    }
  }

  #refuse(fd: number): void {
    this.#refusal.tell(fd);
    this.#sys.close(fd);
  }

  /**
   * Somebody waits and the table is full.
   *
   * @returns Whether a client was dealt with, and the next one may be looked at in this turn.
   */
  #shed(errno: number, now: number): boolean {
    const cause = causeOf(errno);
    if (this.#overload.verdict("table full", now) === "pause") {
      this.#pause(cause, now);
      return false;
    }
    this.#watch.trouble(cause, now);
    if (!this.#coordinator.tryLock()) {
      // Another loop is refusing clients. Not in the next turn, where a level-triggered listener would spin until the
      // lock of a thread that is gone is taken over.
      this.#standBack(LOCK_RETRY_MS);
      return false;
    }
    const waiting = this.#listener.canResetQueue ? this.#listener.waiting : undefined;
    const outcome = this.#ladder.refuseOne(this.#listener, errno, this.#refusal);
    this.#coordinator.unlock();
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
    this.#refusals.take(now);
    const waitMs = this.#refusals.waitMs(now);
    if (waitMs > 0) {
      // Long enough for a few: to stand back and return costs more than to refuse.
      this.#standBack(Math.max(waitMs, PAUSE_RATE_MS));
      return true;
    }
    if (refused < this.#settings.shedPerTurn) return false;
    this.#acceptNextTurn();
    return true;
  }

  /**
   * The queue is empty. Where many turns have refused somebody lately, who comes next waits a moment for others to come:
   * a single client that connects again at once would otherwise cost a wake-up for each refusal.
   */
  #rest(refused: number, now: number): void {
    if (refused > 0 && !this.#refusingTurns.take(now)) this.#standBack(PAUSE_RATE_MS);
  }

  /** Takes the longest idle connection's descriptor over; -1 if none has been idle for long enough. */
  #reapIdle(): number {
    const fd = this.#handlers.reap?.(this.#settings.reapIdle!.minIdleMs) ?? -1;
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
    this.#pauseTimer?.cancel();
    this.#pauseTimer = this.#setPauseTimer(ms);
    this.suspend();
  }

  /** The budget is spent and somebody may wait. A level-triggered listener is reported again by itself. */
  #acceptNextTurn(): void {
    if ((this.#interest & Interest.edge) === 0 || this.#isPosted) return;
    this.#isPosted = true;
    this.#loop.post(this.#accept);
  }

  /**
   * Stops watching every listener of the coordinator for a while: a failing accept leaves a level-triggered one
   * readable, and it would spin; and exhaustion is process-wide, so another would spin in its place.
   */
  #pause(cause: OverloadCause | undefined, now: number): void {
    if (cause !== undefined) this.#watch.trouble(cause, now);
    this.counters.pauses++;
    this.#overload.paused(now);
    const minMs = cause === "system descriptors" ? PAUSE_SYSTEM_MIN_MS : 0;
    this.#pauseTimer?.cancel();
    this.#pauseTimer = this.#setPauseTimer(Math.min(Math.max(this.#pauseMs, minMs), this.#overload.graceLeftMs(now)));
    this.#pauseMs = Math.min(2 * this.#pauseMs, PAUSE_MAX_MS);
    this.#coordinator.pause();
  }

  /** There is no room for another one; which is no trouble while nobody else comes. */
  #pauseForRoom(now: number): void {
    this.#pause(this.#listener.isSomebodyWaiting ? this.#room.lack : undefined, now);
  }

  #setPauseTimer(ms: number): Timer {
    return this.#loop.setTimer(ms, () => this.#pauseIsOver());
  }

  #pauseIsOver(): void {
    this.#pauseTimer = undefined;
    if (!this.#isSuspended) return;
    this.#refill();
    const { now } = this.#loop;
    const mayReap = this.#settings.reapIdle !== undefined; // somebody may have been idle for long enough by now
    if (this.#overload.isWaiting(now) && !mayReap && !this.#room.isLeft(this.#listener.fd)) {
      // Whoever waits goes on waiting: nothing is gained by an accept that could only fail.
      if (this.#listener.isSomebodyWaiting) this.#watch.trouble(this.#room.lack, now);
      this.#pauseTimer = this.#setPauseTimer(Math.min(this.#pauseMs, this.#overload.graceLeftMs(now)));
      this.#pauseMs = Math.min(2 * this.#pauseMs, PAUSE_MAX_MS);
      return;
    }
    this.#coordinator.resume();
  }

  /** Tells epoll what to wait for, by whether we are suspended. MOD reports anew what is ready. */
  #rewatch(): void {
    const interest = this.#isSuspended ? this.#interest & ~Interest.acceptable : this.#interest;
    this.#loop.poller.modify(this.#token!, interest);
  }

  #refill(): void {
    if (this.#coordinator.reserve.missing === 0 || !this.#coordinator.tryLock()) return;
    this.#coordinator.reserve.refill();
    this.#coordinator.unlock();
  }

  #countFull(errno: number): void {
    if (errno === ERRNO.ENFILE[0]) this.counters.enfile++;
    else this.counters.emfile++;
  }

  #fail(errno: number): void {
    this.close();
    this.#handlers.fail?.(new SystemError("accept connections", "accept4", errno));
  }

  /** Zeroed, so that what the kernel writes tells which family it is. */
  #sockaddrFor(): Uint8Array {
    return this.#sockaddr.fill(0);
  }
}

function causeOf(errno: number): OverloadCause {
  return errno === ERRNO.ENFILE[0] ? "system descriptors" : "descriptors";
}

function resolveCoordinator(coordinator: Coordinator | undefined, sys: Syscalls): Coordinator {
  if (coordinator === undefined) return new Coordinator(undefined, false, sys);
  if (coordinator instanceof Coordinator) return coordinator;
  throw new TypeError("Cannot use coordinator: it must be a Coordinator");
}

function limitOption(name: string, value: number | undefined): number {
  return value === undefined ? Infinity : integerOption(name, value, Infinity, 1);
}

function createShares(options: AcceptorOptions): Shares | undefined {
  const connections = limitOption("maxConnectionsPerAddress", options.maxConnectionsPerAddress);
  const acceptsPerSecond = limitOption("acceptsPerSecondPerAddress", options.acceptsPerSecondPerAddress);
  const isLimited = connections !== Infinity || acceptsPerSecond !== Infinity;
  return isLimited ? new Shares({ connections, acceptsPerSecond }) : undefined;
}
