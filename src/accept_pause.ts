import type { Coordinator, Member } from "./coordinator.ts";
import { PAUSE_MAX_MS, PAUSE_MIN_MS } from "./limits.ts";
import type { EventLoop } from "./loop.ts";
import type { Timer } from "./timers.ts";

/** Who an {@linkcode AcceptPause} works for. */
export interface AcceptPauseHandlers {
  /** It has begun. */
  paused(): void;
  /** It is over. */
  resumed(): void;
  /**
   * Its time has passed. Returns how long it may go on, in ms, where nothing is gained by an end; `undefined` lets it
   * end.
   */
  expired(): number | undefined;
}

/**
 * The time in which no listener is watched for lack of room: a failing accept leaves a level-triggered one readable, and
 * it would spin; and exhaustion is process-wide, so another would spin in its place. It begins and ends with that of all
 * who share the coordinator. While it lasts a timer is pending, each longer than the one before until a client is served.
 */
export class AcceptPause implements Member {
  readonly #loop: EventLoop;
  readonly #coordinator: Coordinator;
  readonly #handlers: AcceptPauseHandlers;
  #isActive = false;
  /** How long the next one takes. */
  #nextMs = PAUSE_MIN_MS;
  #timer: Timer | undefined;

  /** Not begun yet. The owner joins the coordinator with it, and leaves. */
  constructor(loop: EventLoop, coordinator: Coordinator, handlers: AcceptPauseHandlers) {
    this.#loop = loop;
    this.#coordinator = coordinator;
    this.#handlers = handlers;
  }

  /** Whether it lasts. */
  get isActive(): boolean {
    return this.#isActive;
  }

  /** Begins it, here and wherever the coordinator is shared. */
  begin(minMs: number, maxMs: number): void {
    this.#timer?.cancel();
    this.#setTimer(minMs, maxMs);
    this.#coordinator.pause();
  }

  /** A client was served: the next pause is as short as the first. */
  served(): void {
    this.#nextMs = PAUSE_MIN_MS;
  }

  /** For the coordinator. */
  suspend(): void {
    if (this.#isActive) return;
    this.#isActive = true;
    this.#handlers.paused();
    this.#timer ??= this.#loop.setTimer(PAUSE_MAX_MS, this.#expired); // whoever paused may have gone
  }

  /** For the coordinator. */
  resume(): void {
    if (!this.#isActive) return;
    this.close();
    this.#handlers.resumed();
  }

  /** Ends it, telling nobody. */
  close(): void {
    this.#isActive = false;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #setTimer(minMs: number, maxMs: number): void {
    this.#timer = this.#loop.setTimer(Math.min(Math.max(this.#nextMs, minMs), maxMs), this.#expired);
    this.#nextMs = Math.min(2 * this.#nextMs, PAUSE_MAX_MS);
  }

  readonly #expired = (): void => {
    this.#timer = undefined;
    const maxMs = this.#handlers.expired();
    if (maxMs === undefined) this.#coordinator.resume();
    else this.#setTimer(0, maxMs);
  };
}
