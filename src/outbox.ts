import { DIRECT_WRITE_BYTES, FREE_OUTBOXES_MAX, SHORT_TEXT_CHARACTERS, WRITE_BUDGET_BYTES } from "./limits.ts";
import type { EventLoop } from "./loop.ts";
import type { Sender } from "./sender.ts";
import type { Throttle } from "./throttle.ts";
import { WriteQueue } from "./write_queue.ts";

/**
 * What a connection holds back: what was written and not sent, and why it has to wait. Offers it to the kernel. It tells
 * nobody: after each call its owner looks at `queuedBytes`, `isBlocked` and `errno`.
 *
 * A connection that holds nothing back needs none: the loop lends them.
 */
export class Outbox {
  /** What the loop's queue budget counts of this queue. Written by the connection only. */
  countedBytes: number = 0;
  readonly #sender: Sender;
  readonly #queue: WriteQueue;
  #fd = -1;
  #isEdge = false;
  #throttle: Throttle | undefined;
  #corks = 0;
  #isBlocked = false;
  #lacksMemory = false;
  #errno = 0;
  #bytesSent = 0;
  #bytesDropped = 0;

  private constructor(loop: EventLoop) {
    this.#sender = loop.sender;
    this.#queue = new WriteQueue(loop.pieces);
  }

  /** An empty one, for `fd`, which is borrowed. It is kept to the rate of `throttle`, if any, which it owns. */
  static take(loop: EventLoop, fd: number, isEdge: boolean, throttle?: Throttle): Outbox {
    const outbox = loop.sender.outboxes.pop() ?? new Outbox(loop);
    outbox.#fd = fd;
    outbox.#isEdge = isEdge;
    outbox.#throttle = throttle;
    return outbox;
  }

  /** Gives it back to the loop, once it is cleared and its counters are read. */
  give(): void {
    this.#throttle = undefined;
    this.#errno = 0;
    this.#bytesSent = 0;
    this.#bytesDropped = 0;
    this.countedBytes = 0;
    if (this.#sender.outboxes.length < FREE_OUTBOXES_MAX) this.#sender.outboxes.push(this);
  }

  /** Bytes written that the kernel has not taken yet. */
  get queuedBytes(): number {
    return this.#queue.queuedBytes;
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

  /** Whether it is blocked because the kernel lacks memory, and not room: nothing tells when to `unblock`. */
  get lacksMemory(): boolean {
    return this.#isBlocked && this.#lacksMemory;
  }

  /** Whether bytes are held back: by the kernel, by a cork, or by the rate. */
  get isHeld(): boolean {
    return this.#isBlocked || this.#corks > 0 || this.#throttle?.isWaiting === true;
  }

  /** Whether it holds nothing, and nothing that is written next would have to wait. */
  get isIdle(): boolean {
    const { queuedBytes } = this.#queue;
    return queuedBytes === 0 && !this.#isBlocked && this.#corks === 0 && this.#errno === 0 &&
      this.#throttle === undefined;
  }

  /** Why the kernel refused our bytes for good; 0 while it has not. */
  get errno(): number {
    return this.#errno;
  }

  /** Takes `bytes`, and does not offer them. */
  push(bytes: Uint8Array): void {
    this.#queue.push(bytes);
  }

  /** The kernel was offered all of what is queued, and took `sent` bytes, or refuses them with `-errno`. */
  took(sent: number): void {
    if (sent < 0) {
      this.#errno = -sent;
      return;
    }
    this.#note(sent, sent === 0 || !this.#isEdge); // as in `offer`
    this.#queue.consume(sent);
    this.#bytesSent += sent;
  }

  /** Takes `bytes`. A large chunk is offered at once, without a copy; with `areShared`, what is queued is not copied. */
  write(bytes: Uint8Array, areShared: boolean): void {
    const isLarge = bytes.byteLength >= DIRECT_WRITE_BYTES;
    if (!isLarge || !this.#mayOffer()) this.#push(bytes, 0, areShared);
    else if (this.#queue.queuedBytes === 0) this.#offerAlone(bytes, areShared);
    else this.#offerWith([bytes], areShared);
  }

  /** Takes `text`, if it is short, ASCII and not empty. @returns Whether it was. */
  writeShort(text: string): boolean {
    if (text.length === 0 || text.length > SHORT_TEXT_CHARACTERS) return false;
    return this.#queue.pushAscii(text);
  }

  /** Takes `chunks`, in order, which together are `byteLength` bytes. */
  writev(chunks: readonly Uint8Array[], byteLength: number): void {
    if (byteLength >= DIRECT_WRITE_BYTES && this.#mayOffer()) return this.#offerWith(chunks, false);
    for (const bytes of chunks) this.#queue.push(bytes);
  }

  /** Holds everything back until `uncork` was called as often. */
  cork(): void {
    this.#corks++;
  }

  /**
   * Takes one `cork` back.
   *
   * @param isForGood Takes all of them back.
   */
  uncork(isForGood: boolean = false): void {
    this.#corks = isForGood ? 0 : Math.max(0, this.#corks - 1);
  }

  /** The kernel may have room again. */
  unblock(): void {
    this.#isBlocked = false;
  }

  /** Offers what is queued until the kernel is full, or it is all sent, or a turn's budget is spent. */
  offer(): void {
    let budget = WRITE_BUDGET_BYTES;
    while (this.#queue.queuedBytes > 0 && !this.#isBlocked && this.#corks === 0 && this.#errno === 0 && budget > 0) {
      const sent = this.#offerOnce(budget);
      if (sent < 0) return; // refused, or held to its rate
      budget -= sent;
      // The kernel is full. Under edge triggering only EAGAIN proves it, and that an edge will come.
      this.#note(sent, sent === 0 || (sent < this.#sender.offeredBytes && !this.#isEdge));
    }
  }

  /** Offers what one call takes, corked or not, and forgets the rest. */
  close(): void {
    if (this.#queue.queuedBytes > 0 && !this.#isBlocked && this.#errno === 0) this.#offerOnce(WRITE_BUDGET_BYTES);
    this.clear();
  }

  /** Forgets what is queued. */
  clear(): void {
    this.#bytesDropped += this.#queue.queuedBytes;
    this.#queue.clear();
    this.#corks = 0;
    this.#isBlocked = false;
    this.#throttle?.close();
  }

  /** The kernel took `sent` bytes of the last offer. */
  #note(sent: number, isBlocked: boolean): void {
    this.#isBlocked = isBlocked;
    this.#lacksMemory = sent === 0 && this.#sender.lacksMemory;
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
      this.#bytesDropped += byteLength;
      return;
    }
    this.#note(sent, sent < byteLength);
    this.#bytesSent += sent;
    this.#push(bytes, sent, areShared);
  }

  /** Offers what is queued and `chunks` after it, in one call, and queues what the kernel does not take. */
  #offerWith(chunks: readonly Uint8Array[], areShared: boolean): void {
    const { queuedBytes } = this.#queue;
    const sent = this.#sender.sendQueueAnd(this.#fd, this.#queue, chunks);
    if (sent < 0) {
      this.#errno = -sent;
      for (const bytes of chunks) this.#bytesDropped += bytes.byteLength;
      return;
    }
    this.#note(sent, sent < this.#sender.offeredBytes);
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
