import type { Coordinator } from "./coordinator.ts";
import { type AcceptCounters, createAcceptCounters } from "./counters.ts";
import { descriptorLimit } from "./descriptors.ts";
import { Episode, type OverloadCause, type OverloadEvent } from "./episode.ts";
import type { Ending, EventLoop } from "./loop.ts";
import type { Room } from "./room.ts";
import type { Timer } from "./timers.ts";

/** How often an episode is looked after. */
const TICK_MS = 250;

/** What an {@linkcode OverloadWatch} looks at: a server, over all of its listeners. */
export interface Watched {
  /** Clients in the backlogs now; `undefined` where the kernel does not tell. */
  readonly waiting: number | undefined;
  /** Whether there is a client in any backlog. */
  readonly isSomebodyWaiting: boolean;
  /** Who has room, or not. */
  readonly room: Room;
  /** What has been done. */
  readonly counters: Readonly<AcceptCounters>;
  /** Whose reserve is restored. */
  readonly coordinator: Coordinator;
}

/** Looks after an episode of overload: tells of it, completes the reserve before it ends, and restores it after that. */
export class OverloadWatch implements Ending {
  readonly #loop: EventLoop;
  readonly #watched: Watched;
  readonly #tell: (event: OverloadEvent) => void;
  readonly #episode: Episode = new Episode();
  /** Pending while an episode is under way, or the reserve is not restored. */
  #timer: Timer | undefined;
  /** Figures at the start of the episode. */
  #before: Readonly<AcceptCounters> = createAcceptCounters();
  #isClosed = false;

  /** `tell` is user code; what it throws goes to the loop's `onError`. */
  constructor(loop: EventLoop, watched: Watched, tell: (event: OverloadEvent) => void) {
    this.#loop = loop;
    this.#watched = watched;
    this.#tell = tell;
  }

  /** Whether an episode is under way. */
  get isActive(): boolean {
    return this.#episode.isActive;
  }

  /**
   * There is too little of `cause` for somebody. Called before what is done about it is counted. An episode that begins
   * is counted in `counters`, which are a part of those that are watched.
   */
  trouble(cause: OverloadCause, counters: AcceptCounters, now: number): void {
    if (!this.#episode.trouble(cause, now)) return;
    this.#before = { ...this.#watched.counters };
    counters.episodes++;
    this.#timer ??= this.#loop.setTimer(TICK_MS, this.#lookAfter);
    // At the end of the turn: no user code runs while clients are refused, and the event counts all of this turn's.
    this.#loop.afterTurn(this);
  }

  /** For the loop. */
  onTurnEnd(): void {
    if (!this.#isClosed) this.#report("start");
  }

  /** Tells nothing any more. */
  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }

  readonly #lookAfter = (): void => {
    this.#timer = undefined;
    const { coordinator, room } = this.#watched;
    room.lookAtLimit();
    const isWaiting = coordinator.isPaused && this.#watched.isSomebodyWaiting;
    const due = this.isActive ? this.#episode.due(this.#loop.now, isWaiting) : undefined;
    let [isComplete, isRestored] = [false, false];
    if (coordinator.tryLock()) {
      isComplete = coordinator.reserve.refill();
      // Files of its own are for afterwards: while clients are shed, slots are retaken faster than they are mended.
      isRestored = (due === "end" || !this.isActive) && coordinator.reserve.restore();
      coordinator.unlock();
    }
    // To open them takes a number that is free, which there may not be long after the episode.
    if (!isRestored) this.#timer = this.#loop.setTimer(TICK_MS, this.#lookAfter);
    if (due === "summary" || (due === "end" && isComplete)) this.#report(due);
  };

  #report(kind: OverloadEvent["kind"]): void {
    const { waiting, room, counters, coordinator: { reserve } } = this.#watched;
    const since = (name: keyof AcceptCounters) => counters[name] - this.#before[name];
    const event = this.#episode.event(kind, this.#loop.now, {
      served: since("accepted") - since("setupFailed"),
      refused: since("refused") + since("shed") + since("setupFailed"),
      reaped: since("reaped"),
      pauses: since("pauses"),
      waiting,
      connections: room.connections,
      limit: descriptorLimit(this.#loop.sys),
      headroom: room.headroom,
      reserve: reserve.size - reserve.missing,
    });
    try {
      this.#tell(event);
    } catch (error) {
      this.#loop.report(error);
    }
  }
}
