import { DIRECT_WRITE_BYTES, SHORT_TEXT_CHARACTERS, WRITE_BUDGET_BYTES } from "./limits.ts";
import type { EventLoop } from "./loop.ts";
import type { Sender } from "./sender.ts";
import { Throttle } from "./throttle.ts";
import { copyAscii, WriteQueue } from "./write_queue.ts";

/** The part of a connection's settings that is about sending. */
export interface OutboxSettings {
  /** `Interest.edge` or 0. */
  readonly triggerBits: number;
  /** `Infinity` for no limit. */
  readonly bytesOutPerSecond: number;
}

/**
 * The sending half of a connection: holds what was written, and offers it to the kernel. It tells nobody: after each
 * call its owner looks at `queuedBytes`, `isBlocked` and `errno`.
 */
export class Outbox {
  readonly #sender: Sender;
  readonly #queue: WriteQueue;
  readonly #fd: number;
  readonly #isEdge: boolean;
  readonly #throttle: Throttle | undefined;
  #corks = 0;
  #isBlocked = false;
  #errno = 0;
  #bytesSent = 0;
  #bytesDropped = 0;
  /** Bytes of ours in the sender's scratch memory. */
  #gatheredBytes = 0;

  /** For `fd`, which is borrowed. `goOn` is called when the rate allows more bytes, after it had allowed none. */
  constructor(loop: EventLoop, fd: number, settings: OutboxSettings, goOn: () => void) {
    this.#sender = loop.sender;
    this.#queue = new WriteQueue(loop.pieces);
    this.#fd = fd;
    this.#isEdge = settings.triggerBits !== 0;
    if (settings.bytesOutPerSecond !== Infinity) this.#throttle = new Throttle(loop, settings.bytesOutPerSecond, goOn);
  }

  /** Bytes written that the kernel has not taken yet. */
  get queuedBytes(): number {
    return this.#gatheredBytes + this.#queue.queuedBytes;
  }

  /** Bytes that the kernel took. */
  get bytesSent(): number {
    return this.#bytesSent;
  }

  /** Bytes written in vain. */
  get bytesDropped(): number {
    return this.#bytesDropped;
  }

  /** Whether the kernel took less than it was offered: nothing more is offered until `unblock`. */
  get isBlocked(): boolean {
    return this.#isBlocked;
  }

  /** Whether bytes are held back: by the kernel, by a cork, or by the rate. */
  get isHeld(): boolean {
    return this.#isBlocked || this.#corks > 0 || this.#throttle?.isWaiting === true;
  }

  /** Why the kernel refused our bytes for good; 0 while it has not. */
  get errno(): number {
    return this.#errno;
  }

  /**
   * Copies `bytes`, small ones that may be sent with what else is gathered, to memory that all outboxes of the loop have in
   * turn: until `sendGathered` nobody else may gather.
   *
   * @param maxBytes What is gathered stays below that, which is `GATHER_MAX_BYTES` or less.
   * @returns Whether it did; else `write` is to take them.
   */
  gather(bytes: Uint8Array, maxBytes: number): boolean {
    const { byteLength } = bytes;
    const before = this.#gatheredBytes;
    if (byteLength === 0 || byteLength >= DIRECT_WRITE_BYTES || before + byteLength >= maxBytes) return false;
    if (!this.#mayGather()) return false;
    this.#sender.scratch.set(bytes, before);
    this.#gatheredBytes = before + byteLength;
    return true;
  }

  /** The same for `text`, if it is short and ASCII. */
  gatherText(text: string, maxBytes: number): boolean {
    const { length } = text;
    const before = this.#gatheredBytes;
    if (length === 0 || length > SHORT_TEXT_CHARACTERS || before + length >= maxBytes) return false;
    if (!this.#mayGather() || !copyAscii(text, this.#sender.scratch, before)) return false;
    this.#gatheredBytes = before + length;
    return true;
  }

  /** Offers what was gathered, and queues what the kernel does not take. @returns Whether it took all, and there was some. */
  sendGathered(): boolean {
    const gatheredBytes = this.#gatheredBytes;
    if (gatheredBytes === 0) return false;
    const sent = this.#sender.send(this.#fd, this.#sender.scratch, gatheredBytes);
    if (sent === gatheredBytes) {
      this.#gatheredBytes = 0;
      this.#bytesSent += sent;
      return true;
    }
    this.#queueGathered();
    if (sent < 0) {
      this.#errno = -sent;
    } else {
      this.#isBlocked = sent === 0 || !this.#isEdge; // as in `offer`
      this.#queue.consume(sent);
      this.#bytesSent += sent;
    }
    return false;
  }

  /** Takes `bytes`. A large chunk is offered at once, without a copy; with `areShared`, what is queued is not copied. */
  write(bytes: Uint8Array, areShared: boolean): void {
    this.#queueGathered();
    const isLarge = bytes.byteLength >= DIRECT_WRITE_BYTES;
    if (!isLarge || !this.#mayOffer()) this.#push(bytes, 0, areShared);
    else if (this.#queue.queuedBytes === 0) this.#offerAlone(bytes, areShared);
    else this.#offerWith([bytes], areShared);
  }

  /** Takes `text`, if it is short, ASCII and not empty. @returns Whether it was. */
  writeShort(text: string): boolean {
    if (text.length === 0 || text.length > SHORT_TEXT_CHARACTERS) return false;
    this.#queueGathered();
    return this.#queue.pushAscii(text);
  }

  /** Takes `chunks`, in order, which together are `byteLength` bytes. */
  writev(chunks: readonly Uint8Array[], byteLength: number): void {
    this.#queueGathered();
    if (byteLength >= DIRECT_WRITE_BYTES && this.#mayOffer()) return this.#offerWith(chunks, false);
    for (const bytes of chunks) this.#queue.push(bytes);
  }

  /** Holds everything back until `uncork` was called as often. */
  cork(): void {
    this.#queueGathered();
    this.#corks++;
  }

  /** @param isForGood Takes all corks back. */
  uncork(isForGood: boolean = false): void {
    this.#corks = isForGood ? 0 : Math.max(0, this.#corks - 1);
  }

  /** The kernel may have room again. */
  unblock(): void {
    this.#isBlocked = false;
  }

  /** Offers what is queued until the kernel is full, or it is all sent, or a turn's budget is spent. */
  offer(): void {
    this.#queueGathered();
    let budget = WRITE_BUDGET_BYTES;
    while (this.#queue.queuedBytes > 0 && !this.#isBlocked && this.#corks === 0 && this.#errno === 0 && budget > 0) {
      const sent = this.#offerOnce(budget);
      if (sent < 0) return; // refused, or held to its rate
      budget -= sent;
      // The kernel is full. Under edge triggering only EAGAIN proves it, and that an edge will come.
      this.#isBlocked = sent === 0 || (sent < this.#sender.offeredBytes && !this.#isEdge);
    }
  }

  /** Offers what one call takes, corked or not, and forgets the rest. */
  close(): void {
    this.#queueGathered();
    if (this.#queue.queuedBytes > 0 && !this.#isBlocked && this.#errno === 0) this.#offerOnce(WRITE_BUDGET_BYTES);
    this.clear();
  }

  /** Forgets what is queued. */
  clear(): void {
    this.drop(this.queuedBytes);
    this.#gatheredBytes = 0;
    this.#queue.clear();
    this.#corks = 0;
    this.#isBlocked = false;
    this.#throttle?.close();
  }

  /** So many bytes were written in vain. */
  drop(bytes: number): void {
    this.#bytesDropped += bytes;
  }

  #mayGather(): boolean {
    return this.#mayOffer() && this.#queue.queuedBytes === 0;
  }

  /** Has what was gathered wait with everything else. */
  #queueGathered(): void {
    if (this.#gatheredBytes === 0) return;
    this.#queue.push(this.#sender.scratch.subarray(0, this.#gatheredBytes));
    this.#gatheredBytes = 0;
  }

  #mayOffer(): boolean {
    return !this.#isBlocked && this.#corks === 0 && this.#throttle === undefined;
  }

  /** @returns Bytes sent; less than 0 if there is nothing that may be sent now. */
  #offerOnce(budget: number): number {
    const most = this.#throttle === undefined ? budget : Math.min(budget, this.#throttle.allowance());
    if (most === 0) return -1;
    const sent = this.#sender.sendQueue(this.#fd, this.#queue, most);
    if (sent < 0) {
      this.#errno = -sent;
      return sent;
    }
    if (this.#throttle !== undefined) this.#throttle.take(sent);
    this.#queue.consume(sent);
    this.#bytesSent += sent;
    return sent;
  }

  /** Offers `bytes`, where nothing is queued, and queues what the kernel does not take. */
  #offerAlone(bytes: Uint8Array, areShared: boolean): void {
    const { byteLength } = bytes;
    const sent = this.#sender.send(this.#fd, bytes, byteLength);
    if (sent < 0) {
      this.#errno = -sent;
      return this.drop(byteLength);
    }
    this.#isBlocked = sent < byteLength;
    this.#bytesSent += sent;
    this.#push(bytes, sent, areShared);
  }

  /** Offers what is queued and `chunks` after it, in one call, and queues what the kernel does not take. */
  #offerWith(chunks: readonly Uint8Array[], areShared: boolean): void {
    const { queuedBytes } = this.#queue;
    const sent = this.#sender.sendQueueAnd(this.#fd, this.#queue, chunks);
    if (sent < 0) {
      this.#errno = -sent;
      for (const bytes of chunks) this.drop(bytes.byteLength);
      return;
    }
    this.#isBlocked = sent < this.#sender.offeredBytes;
    this.#bytesSent += sent;
    this.#queue.consume(Math.min(sent, queuedBytes));
    let skip = Math.max(0, sent - queuedBytes);
    for (const bytes of chunks) {
      const from = Math.min(skip, bytes.byteLength);
      skip -= from;
      this.#push(bytes, from, areShared);
    }
  }

  /** Queues `bytes` from index `from` on. */
  #push(bytes: Uint8Array, from: number, areShared: boolean): void {
    if (areShared) this.#queue.pushShared(bytes, from);
    else if (from < bytes.byteLength) this.#queue.push(bytes, from);
  }
}
