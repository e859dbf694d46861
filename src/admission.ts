import type { Syscalls } from "../ffi/syscalls.ts";
import { AcceptPause } from "./accept_pause.ts";
import { Coordinator } from "./coordinator.ts";
import { type AcceptCounters, addAcceptCounters, createAcceptCounters } from "./counters.ts";
import { defaultReserve, defaultSlack, descriptorLimit, growTable } from "./descriptors.ts";
import type { OverloadCause, OverloadEvent } from "./episode.ts";
import { PAUSE_SYSTEM_MIN_MS, REFUSING_TURNS_PER_SECOND } from "./limits.ts";
import type { Listener } from "./listener.ts";
import type { EventLoop } from "./loop.ts";
import { integerOption } from "./options.ts";
import { Overload, type OverloadOptions, type OverloadSettings, resolveOverload } from "./overload.ts";
import { OverloadWatch } from "./overload_watch.ts";
import { Refusal } from "./refusal.ts";
import { Room } from "./room.ts";
import { Shares } from "./shares.ts";
import { TokenBucket } from "./token_bucket.ts";

/** Who is admitted, by all listeners of a server together. */
export interface AdmissionOptions {
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

/** The keys of {@linkcode AdmissionOptions}. */
export const ADMISSION_OPTIONS: readonly (keyof AdmissionOptions)[] = [
  ...["maxConnections", "maxConnectionsPerAddress", "acceptsPerSecond", "acceptsPerSecondPerAddress"] as const,
  ...["overload", "coordinator"] as const,
];

/** Who hears of overload, and helps. */
export interface AdmissionHandlers {
  /** Overload begins, goes on, or is over. Never called while a client is being refused. */
  overloaded?(event: OverloadEvent): void;
  /**
   * Gives up the connection that has been idle for longest, if for at least `minIdleMs`: forgets it without closing its
   * descriptor, which is returned, and calls `released`. -1 if there is none.
   */
  reap?(minIdleMs: number): number;
}

/** One listener that clients are admitted through. */
export interface Gate {
  /** Whose queue it is. */
  readonly listener: Listener;
  /** What became of those who came through it. */
  readonly counters: AcceptCounters;
  /** A pause has begun: nobody is to be accepted. */
  suspend(): void;
  /** The pause is over. */
  resume(): void;
  /** There is more room: who stands back need not do so any longer. */
  stepForward(): void;
}

/**
 * What is promised of a server, over all of its listeners: limits, rates and shares, the room there is, the policy of
 * overload, its pauses, and one voice that tells of it.
 */
export class Admission {
  /** Of overload, checked. */
  readonly settings: OverloadSettings;
  /** Joined while there is a gate. */
  readonly coordinator: Coordinator;
  /** How much there is. */
  readonly room: Room;
  /** Who waits, who is refused. */
  readonly overload: Overload;
  /** How a client is told. */
  readonly refusal: Refusal;
  /** Refusals in a second. */
  readonly refusals: TokenBucket;
  /** Turns that refuse somebody and find the queue empty after that. */
  readonly refusingTurns: TokenBucket;
  /** For lack of room. */
  readonly pause: AcceptPause;
  /** Those there are; the one that began a pause last is behind the others. */
  readonly #gates: Set<Gate> = new Set();
  readonly #loop: EventLoop;
  readonly #sys: Syscalls;
  readonly #handlers: AdmissionHandlers;
  readonly #accepts: TokenBucket;
  readonly #shares: Shares | undefined;
  /** Addresses of the connections there are, by descriptor; only with `#shares`. */
  readonly #keys: Map<number, string> = new Map();
  /** Of the gates there were. */
  readonly #past: AcceptCounters = createAcceptCounters();
  #watch: OverloadWatch;
  #isJoined = false;

  /**
   * Joins the coordinator; leaves it with the last gate.
   *
   * @throws {RangeError | TypeError} If an option is wrong, or the descriptor limit leaves room for no client.
   * @throws {SystemError} If the reserve cannot be opened.
   */
  constructor(loop: EventLoop, options: AdmissionOptions, handlers: AdmissionHandlers) {
    const { sys } = loop;
    this.#loop = loop;
    this.#sys = sys;
    this.#handlers = handlers;
    this.settings = resolveOverload(options.overload);
    this.overload = new Overload(this.settings.policy);
    this.refusal = new Refusal(this.settings.refuse, (text) => loop.encode(text), sys);
    this.refusals = new TokenBucket(this.settings.shedPerSecond, loop.now);
    this.refusingTurns = new TokenBucket(REFUSING_TURNS_PER_SECOND, loop.now);
    this.#accepts = new TokenBucket(integerOption("acceptsPerSecond", options.acceptsPerSecond, Infinity, 1), loop.now);
    this.#shares = createShares(options);
    const maxConnections = integerOption("maxConnections", options.maxConnections, Infinity, 1);
    this.coordinator = resolveCoordinator(options.coordinator, sys);
    this.pause = new AcceptPause(loop, this.coordinator, {
      paused: () => this.#forEachGate((gate) => gate.suspend()),
      resumed: () => this.#resumed(),
      expired: () => this.#pauseExpired(),
    });
    this.#watch = this.#createWatch();

    this.#join(); // first of all: the reserve is to have low numbers
    try {
      this.room = new Room(loop, this.settings.headroom, maxConnections);
      growTable(sys, this.room.mark);
    } catch (error) {
      this.#leave();
      throw error;
    }
  }

  /** Whether clients' addresses are looked at. */
  get needsAddresses(): boolean {
    return this.#shares !== undefined;
  }

  /** Sums over the gates, also those there were. A copy. */
  get counters(): AcceptCounters {
    const sum = { ...this.#past };
    for (const { counters } of this.#gates) addAcceptCounters(sum, counters);
    return sum;
  }

  /** Clients in all backlogs now; `undefined` where the kernel tells of none. */
  get waiting(): number | undefined {
    let sum: number | undefined;
    for (const { listener: { waiting } } of this.#gates) if (waiting !== undefined) sum = (sum ?? 0) + waiting;
    return sum;
  }

  /** Whether there is a client in any backlog. */
  get isSomebodyWaiting(): boolean {
    return this.#gateWithQueue() !== undefined;
  }

  /** Whether overload is under way. */
  get isOverloaded(): boolean {
    return this.#isJoined && this.#watch.isActive;
  }

  /** Reserve descriptors that are not there now. */
  get reserveMissing(): number {
    return this.#isJoined ? this.coordinator.reserve.missing : 0;
  }

  /**
   * One more listener.
   *
   * @throws {SystemError} If it is the first again, and the reserve cannot be opened.
   */
  add(gate: Gate): void {
    if (!this.#isJoined) {
      this.#watch = this.#createWatch();
      this.#join();
    }
    this.#gates.add(gate);
  }

  /** One listener less. Safe twice. */
  remove(gate: Gate): void {
    if (!this.#gates.delete(gate)) return;
    addAcceptCounters(this.#past, gate.counters);
    if (this.#gates.size > 0) return;
    this.#watch.close();
    this.#leave();
  }

  /** Whether the rates, and the share of the address that is `key`, leave something for one more client. */
  isWithinRates(key: string | undefined, now: number): boolean {
    return this.#accepts.available(now) >= 1 && (key === undefined || this.#shares!.refusal(key, now) === undefined);
  }

  /** The client is served, as `fd`. Counted only now: who is refused in the end takes nothing from anybody. */
  entered(fd: number, key: string | undefined, now: number): void {
    this.#accepts.take(now);
    if (key !== undefined) {
      this.#shares!.enter(key, now);
      this.#keys.set(fd, key);
    }
    this.room.enter();
  }

  /** The connection that was `fd` has been closed, so there is room, at whichever gate somebody waits. */
  released(fd: number): void {
    this.room.leave();
    const key = this.#keys.get(fd);
    if (key !== undefined) {
      this.#keys.delete(fd);
      this.#shares!.release(key, this.#loop.now);
    }
    if (!this.#isJoined) return;
    this.refill();
    // Another thread may have paused, and not told us yet.
    if (this.pause.isActive || this.coordinator.isPaused) this.coordinator.resume();
    this.#forEachGate((gate) => gate.stepForward());
  }

  /** There is too little of `cause` for somebody at `gate`. Called before what is done about it is counted. */
  trouble(cause: OverloadCause, { counters }: Gate, now: number): void {
    this.#watch.trouble(cause, counters, now);
  }

  /** Nobody is accepted for a while, at any gate. `cause` is absent where nobody waits. */
  pauseFor(cause: OverloadCause | undefined, gate: Gate, now: number): void {
    if (cause !== undefined) this.trouble(cause, gate, now);
    gate.counters.pauses++;
    this.overload.paused(now);
    // With its turn behind it: whoever waits elsewhere is to have the next place.
    if (this.#gates.delete(gate)) this.#gates.add(gate);
    this.pause.begin(cause === "system descriptors" ? PAUSE_SYSTEM_MIN_MS : 0, this.overload.graceLeftMs(now));
  }

  /** Takes the longest idle connection's descriptor over; -1 if none has been idle for long enough. */
  reap(): number {
    return this.#handlers.reap?.(this.settings.reapIdle!.minIdleMs) ?? -1;
  }

  /** Restores what other threads took of the reserve, as far as that goes. */
  refill(): void {
    if (this.coordinator.reserve.missing === 0 || !this.coordinator.tryLock()) return;
    this.coordinator.reserve.refill();
    this.coordinator.unlock();
  }

  #gateWithQueue(): Gate | undefined {
    for (const gate of this.#gates) if (gate.listener.isSomebodyWaiting) return gate;
    return undefined;
  }

  #createWatch(): OverloadWatch {
    return new OverloadWatch(this.#loop, this, (event) => this.#handlers.overloaded?.(event));
  }

  #join(): void {
    const limit = descriptorLimit(this.#sys);
    const { reserve = defaultReserve(limit), slack = defaultSlack(limit) } = this.settings;
    this.coordinator.join(this.pause, this.#loop, reserve, slack);
    this.#isJoined = true;
  }

  #leave(): void {
    const wasPaused = this.pause.isActive;
    this.#isJoined = false;
    this.pause.close();
    this.coordinator.leave(this.pause, this.#loop);
    if (wasPaused) this.coordinator.resume(); // the others need not wait for our timer
  }

  #resumed(): void {
    this.refill();
    this.#forEachGate((gate) => gate.resume());
  }

  /** What becomes of one listener, closed behind our back perhaps, is not to become of the others. */
  #forEachGate(task: (gate: Gate) => void): void {
    for (const gate of this.#gates) {
      try {
        task(gate);
      } catch (error) {
        this.#loop.report(error);
      }
    }
  }

  #pauseExpired(): number | undefined {
    this.refill();
    const { now } = this.#loop;
    const [{ listener }] = this.#gates as Iterable<Gate> as [Gate];
    const mayReap = this.settings.reapIdle !== undefined; // somebody may have been idle for long enough by now
    if (!this.overload.isWaiting(now) || mayReap || this.room.isLeft(listener.fd)) return undefined;
    // Whoever waits goes on waiting: nothing is gained by an accept that could only fail.
    const gate = this.#gateWithQueue();
    if (gate !== undefined) this.trouble(this.room.lack, gate, now);
    return this.overload.graceLeftMs(now);
  }
}

function resolveCoordinator(coordinator: Coordinator | undefined, sys: Syscalls): Coordinator {
  if (coordinator === undefined) return new Coordinator(undefined, false, sys);
  if (coordinator instanceof Coordinator) return coordinator;
  throw new TypeError("Cannot use coordinator: it must be a Coordinator");
}

function createShares(options: AdmissionOptions): Shares | undefined {
  const connections = integerOption("maxConnectionsPerAddress", options.maxConnectionsPerAddress, Infinity, 1);
  const acceptsPerSecond = integerOption("acceptsPerSecondPerAddress", options.acceptsPerSecondPerAddress, Infinity, 1);
  const isLimited = connections !== Infinity || acceptsPerSecond !== Infinity;
  return isLimited ? new Shares({ connections, acceptsPerSecond }) : undefined;
}
