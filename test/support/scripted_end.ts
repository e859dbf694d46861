/** Streams whose ends wait for one thing and another, as a script says: what a poller must put up with. */
import { SHUT } from "../../ffi/constants.ts";
import { realSyscalls as sys } from "../../ffi/syscalls.ts";
import { Interest, Readiness } from "../../src/interest.ts";
import type { Poller } from "../../src/poller.ts";
import type { Token } from "../../src/token.ts";
import { closeNow } from "./descriptors.ts";
import { add } from "./pollers.ts";
import { bytes } from "./sockets.ts";

const BOTH = Interest.readable | Interest.writable;
const STREAM_BYTES = 500;

/**
 * What an end does when it is told of readiness: takes a few bytes, or all; nothing; waits for it no more until
 * `goOn`; waits for something else and at once for it alone.
 */
export const ACTIONS = ["some", "all", "ignore", "pause", "swap"] as const;
type Action = (typeof ACTIONS)[number];

/** One end of a stream: sends its bytes and expects the other's, in the ways of a script. */
export class ScriptedEnd {
  readonly #poller: Poller;
  readonly #fd: number;
  readonly #trigger: number;
  readonly #next: () => Action;
  readonly #token: Token;
  /** What is waited for now. */
  #interest: number;
  /** What is waited for in the end. */
  #wanted: number = BOTH;
  #sent = 0;
  #received = 0;
  #isEnded = false;
  #isWrong = false;

  /** Sends its bytes as soon as `next` lets it. Owns `fd`, one of the test's own. */
  constructor(poller: Poller, fd: number, trigger: number, next: () => Action) {
    this.#poller = poller;
    this.#fd = fd;
    this.#trigger = trigger;
    this.#next = next;
    this.#interest = BOTH;
    this.#token = add(poller, fd, BOTH | trigger, { onReady: (bits) => this.#onReady(bits) });
  }

  /** Whether all is sent and received. */
  get isDone(): boolean {
    return this.#isEnded && this.#sent === STREAM_BYTES;
  }

  /** Whether other bytes came than were sent, or readiness that nobody waited for. */
  get isWrong(): boolean {
    return this.#isWrong;
  }

  /** Waits again for what a script has left alone. */
  goOn(): void {
    if (this.#interest !== this.#wanted || this.#trigger !== 0) this.#wait(this.#wanted);
  }

  /** Removes and closes its descriptor. */
  close(): void {
    this.#poller.remove(this.#token);
    closeNow(this.#fd);
  }

  #onReady(bits: number): void {
    if (bits & ~(this.#interest | Readiness.hungUp)) this.#isWrong = true;
    if (bits & (Readiness.readable | Readiness.hungUp)) this.#act(Interest.readable, () => this.#receive());
    if (bits & Readiness.writable && this.#interest & Interest.writable) {
      this.#act(Interest.writable, () => this.#send());
    }
  }

  /** Takes one step of `direction`, several, or none. */
  #act(direction: number, step: () => boolean): void {
    switch (this.#next()) {
      case "some":
        step();
        break;
      case "all":
        while (step());
        break;
      case "pause":
        this.#wait(this.#interest & ~direction);
        break;
      case "swap":
        this.#wait(BOTH & ~direction);
        this.#wait(direction);
        break;
      case "ignore":
    }
  }

  /** @returns Whether there may be more. */
  #receive(): boolean {
    const target = bytes(74);
    const count = sys.recv(this.#fd, target);
    if (count === 0) {
      if (this.#received !== STREAM_BYTES) this.#isWrong = true;
      this.#isEnded = true;
      this.#wanted &= ~Interest.readable;
      return false;
    }
    for (let i = 0; i < count; i++) if (target[i] !== this.#received++ % 251) this.#isWrong = true;
    return count > 0;
  }

  #send(): boolean {
    if (this.#sent === STREAM_BYTES) {
      sys.shutdown(this.#fd, SHUT.wr);
      this.#wanted &= ~Interest.writable;
      return false;
    }
    const chunk = bytes(Math.min(103, STREAM_BYTES - this.#sent)).map((_, i) => (this.#sent + i) % 251);
    const count = sys.send(this.#fd, chunk);
    if (count > 0) this.#sent += count;
    return count > 0;
  }

  #wait(interest: number): void {
    this.#interest = interest;
    this.#poller.modify(this.#token, interest | this.#trigger);
  }
}
