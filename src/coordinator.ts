import { realSyscalls, type Syscalls } from "../ffi/syscalls.ts";
import { Slack } from "./ladder.ts";
import type { EventLoop } from "./loop.ts";
import { Reserve, RESERVE_WORDS } from "./reserve.ts";
import type { Waker } from "./waker.ts";

/** Loops of one process that one coordinator can serve. */
const LOOPS_MAX = 256;

/** A lock held for longer than this is taken over: its owner was terminated, or sleeps. */
const TAKEOVER_MS = 1_000;

const LOCK = 0;
const NEXT_ID = 1;
const PAUSED = 2;
const SLACK = 4; // two words
const RESERVE = 8;
const WAKERS = RESERVE + RESERVE_WORDS; // two words each: descriptor + 1, and how many threads are writing to it
const WORDS = WAKERS + 2 * LOOPS_MAX;

/** What listens, and stops for a while when descriptors run out. */
export interface Member {
  /** Stop watching the listener. Safe twice. */
  suspend(): void;
  /** Watch it again. Safe twice. */
  resume(): void;
}

interface Joined {
  readonly members: Set<Member>;
  /** Absent where no other thread is to be expected. */
  readonly waker: Waker | undefined;
  readonly slot: number;
}

/**
 * What the loops of one process have in common when descriptors run out: exhaustion is process-wide. They share one
 * reserve, which private ones would only steal from each other; refuse clients one loop at a time; and pause and resume
 * together, whoever releases a descriptor.
 *
 * Loops of one thread share the object. For another thread, hand over `handle` and make a coordinator of it there.
 * Servers without a coordinator each have one of their own, and count as thieves to each other.
 */
export class Coordinator {
  /** To be sent to another thread, and given to the constructor there. */
  readonly handle: SharedArrayBuffer;
  readonly #sys: Syscalls;
  readonly #words: Int32Array;
  /** Whether other threads may take part. */
  readonly #isShared: boolean;
  readonly #id: number;
  readonly #loops: Map<EventLoop, Joined> = new Map();
  readonly #one: Uint8Array = new Uint8Array(new ArrayBuffer(8));
  #reserve: Reserve | undefined;
  #slack: Slack | undefined;
  #lockWord = 0;

  /** Alone, or over the `handle` of another thread's coordinator. */
  constructor(
    handle: SharedArrayBuffer = new SharedArrayBuffer(4 * WORDS),
    isShared: boolean = true,
    sys: Syscalls = realSyscalls,
  ) {
    if (!(handle instanceof SharedArrayBuffer) || handle.byteLength !== 4 * WORDS) {
      throw new TypeError("Cannot make a coordinator: the handle must be that of another coordinator");
    }
    this.handle = handle;
    this.#sys = sys;
    this.#words = new Int32Array(handle);
    this.#isShared = isShared;
    this.#id = 1 + Atomics.add(this.#words, NEXT_ID, 1) % 127;
    this.#one[0] = 1;
  }

  /** Whether nobody accepts, for lack of room. */
  get isPaused(): boolean {
    return Atomics.load(this.#words, PAUSED) === 1;
  }

  /** The reserve that all share. Only between `join` and `leave`, and to change only under the lock. */
  get reserve(): Reserve {
    return this.#reserve!;
  }

  /** The slack that all share. As {@linkcode Coordinator.reserve}. */
  get slack(): Slack {
    return this.#slack!;
  }

  /**
   * `member`, which listens on `loop`, takes part. The first to join decides how large the reserve and the slack are.
   *
   * @throws {SystemError} If the reserve cannot be opened.
   */
  join(member: Member, loop: EventLoop, reserve: number, slack: number): void {
    if (this.#reserve === undefined) {
      this.#locked(() => {
        this.#reserve = new Reserve(reserve, this.#sys, this.#words.subarray(RESERVE, RESERVE + RESERVE_WORDS));
        this.#slack = new Slack(slack, this.#sys, this.#words.subarray(SLACK, SLACK + 2));
      });
    }
    try {
      const joined = this.#loops.get(loop) ?? this.#joinLoop(loop);
      joined.members.add(member);
    } catch (error) {
      this.#leaveLast();
      throw error;
    }
    if (this.isPaused) member.suspend();
  }

  /** `member` takes part no more. Safe twice. */
  leave(member: Member, loop: EventLoop): void {
    const joined = this.#loops.get(loop);
    if (joined === undefined || !joined.members.delete(member) || joined.members.size > 0) return;
    this.#loops.delete(loop);
    this.#leaveLoop(joined);
    this.#leaveLast();
  }

  /** Nobody accepts until `resume`. */
  pause(): void {
    Atomics.store(this.#words, PAUSED, 1);
    this.#sync();
    this.#wakeOthers();
  }

  /** Everybody accepts again. */
  resume(): void {
    const wasPaused = Atomics.exchange(this.#words, PAUSED, 0) === 1;
    this.#sync(); // in any case: a thread that resumed may have been terminated before it woke us
    if (wasPaused) this.#wakeOthers();
  }

  /**
   * Begins what only one loop may do at a time. Nobody waits for it: the loser tries again in its next turn.
   *
   * @returns Whether it is ours now; then `unlock` follows in the same call stack.
   */
  tryLock(): boolean {
    // Owner and time in one word, so that both change in one step. A sixteenth of a second is as fine as it need be.
    let word = this.#lockWordNow();
    const held = Atomics.compareExchange(this.#words, LOCK, 0, word);
    if (held !== 0) {
      // By the clock as it is now: it may have been taken after we looked. The difference has a sign, for a clock that
      // was set back: by a little, that says nothing; by more than an owner may take, the owner's time says nothing.
      word = this.#lockWordNow();
      const heldMs = 64 * (((word - held) << 8) >> 8);
      if (Math.abs(heldMs) < TAKEOVER_MS) return false;
      if (Atomics.compareExchange(this.#words, LOCK, held, word) !== held) return false;
    }
    this.#lockWord = word;
    return true;
  }

  /** Ends what `tryLock` began. */
  unlock(): void {
    // Not if it was taken over meanwhile.
    Atomics.compareExchange(this.#words, LOCK, this.#lockWord, 0);
  }

  #lockWordNow(): number {
    return (this.#id << 24) | ((Date.now() >>> 6) & 0xffffff);
  }

  #joinLoop(loop: EventLoop): Joined {
    let joined: Joined = { members: new Set(), waker: undefined, slot: -1 };
    if (this.#isShared) {
      const waker = loop.createWaker(() => this.#sync());
      const slot = this.#takeSlot(waker.fd);
      if (slot === -1) {
        waker.close();
        throw new RangeError(`Cannot join a coordinator: it serves ${LOOPS_MAX} loops already`);
      }
      joined = { members: joined.members, waker, slot };
    }
    this.#loops.set(loop, joined);
    return joined;
  }

  #takeSlot(fd: number): number {
    for (let slot = WAKERS; slot < WORDS; slot += 2) {
      if (Atomics.compareExchange(this.#words, slot, 0, fd + 1) === 0) return slot;
    }
    return -1;
  }

  #leaveLoop({ waker, slot }: Joined): void {
    if (waker === undefined) return;
    Atomics.store(this.#words, slot, 0);
    // A thread that has read the number may be about to write to it: by then it must not be somebody else's.
    for (let i = 0; Atomics.load(this.#words, slot + 1) > 0; i++) {
      if (i === 100) return; // that thread is gone; the descriptor is given up with it
      Atomics.wait(this.#words, slot + 1, Atomics.load(this.#words, slot + 1), 1);
    }
    waker.close();
  }

  #leaveLast(): void {
    if (this.#loops.size > 0) return;
    this.#locked(() => {
      this.#slack?.close();
      this.#reserve?.close();
    });
    this.#slack = this.#reserve = undefined;
  }

  /** Has every member here do as the state says. */
  #sync(): void {
    const { isPaused } = this;
    for (const { members } of this.#loops.values()) {
      for (const member of members) {
        if (isPaused) member.suspend();
        else member.resume();
      }
    }
  }

  #wakeOthers(): void {
    if (!this.#isShared) return;
    const ours = new Set([...this.#loops.values()].map(({ slot }) => slot));
    for (let slot = WAKERS; slot < WORDS; slot += 2) {
      if (Atomics.load(this.#words, slot) === 0 || ours.has(slot)) continue;
      Atomics.add(this.#words, slot + 1, 1);
      const fd = Atomics.load(this.#words, slot) - 1;
      if (fd >= 0) this.#sys.write(fd, this.#one);
      Atomics.sub(this.#words, slot + 1, 1);
      Atomics.notify(this.#words, slot + 1);
    }
  }

  /** For starting and ending, which may wait for a moment. */
  #locked(task: () => void): void {
    while (!this.tryLock()) Atomics.wait(this.#words, LOCK, Atomics.load(this.#words, LOCK), 1);
    try {
      task();
    } finally {
      this.unlock();
    }
  }
}
