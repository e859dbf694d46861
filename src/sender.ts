import { MSG } from "../ffi/constants.ts";
import { ERRNO } from "../ffi/errno.ts";
import { IoVector, MessageHeader } from "../ffi/layout.ts";
import type { Syscalls } from "../ffi/syscalls.ts";
import { assert } from "./assert.ts";
import { ALONE_BYTES, VECTOR_PIECES } from "./limits.ts";
import type { Outbox } from "./outbox.ts";
import { Scratch } from "./scratch.ts";
import type { WriteQueue } from "./write_queue.ts";

/**
 * Hands bytes to the kernel: send(2) for what lies in one piece, sendmsg(2) for several at once. Shared by the
 * connections of a loop. Each call returns the bytes that the kernel took, 0 if it is full, or `-errno`; the queue is
 * the caller's to consume.
 */
export class Sender {
  readonly #sys: Syscalls;
  /** For the connection that is told of its events. */
  readonly scratch: Scratch = new Scratch();
  /** Those that no connection needs now. Written by outboxes only. */
  readonly outboxes: Outbox[] = [];
  readonly #message: MessageHeader = new MessageHeader(new IoVector(VECTOR_PIECES));
  #offeredBytes = 0;
  #lacksMemory = false;
  /** Of what is in the vector now. */
  #vectorBytes = 0;

  /** `sys` stands in for the kernel, in tests. */
  constructor(sys: Syscalls) {
    this.#sys = sys;
  }

  /** What the kernel was offered by the last call; that it took less means that it is full. */
  get offeredBytes(): number {
    return this.#offeredBytes;
  }

  /** Whether the last 0 was for lack of memory: the socket shows room all the time, so nothing tells when there is some. */
  get lacksMemory(): boolean {
    return this.#lacksMemory;
  }

  /** Offers the oldest bytes of a queue that has some, at most `maxBytes`. */
  sendQueue(fd: number, queue: WriteQueue, maxBytes: number): number {
    const head = queue.head!;
    const headBytes = head.end - head.start;
    if (head.next === undefined || headBytes >= Math.min(maxBytes, ALONE_BYTES)) {
      const length = Math.min(headBytes, maxBytes);
      // Without a view, which would be one object for each send.
      if (head.start === 0) return this.send(fd, head.bytes, length);
      return this.send(fd, head.bytes.subarray(head.start, head.start + length), length);
    }
    this.#addQueue(queue, maxBytes);
    return this.#sendVector(fd);
  }

  /** Offers the first `length` of `bytes`. */
  send(fd: number, bytes: Uint8Array, length: number): number {
    this.#offeredBytes = length;
    let sent: number;
    do sent = this.#sys.send(fd, bytes, MSG.nosignal, length, true); while (sent === -ERRNO.EINTR[0]);
    return this.#checked(sent);
  }

  /** Offers what is in the queue, and `chunks` after it, or as much of that as one call takes. */
  sendQueueAnd(fd: number, queue: WriteQueue, chunks: readonly Uint8Array[]): number {
    if (this.#addQueue(queue, Infinity)) {
      for (const chunk of chunks) {
        if (chunk.byteLength > 0 && !this.#add(chunk)) break;
      }
    }
    return this.#sendVector(fd);
  }

  /** @returns Whether all of the queue has found room in the vector. */
  #addQueue(queue: WriteQueue, maxBytes: number): boolean {
    let left = Math.min(maxBytes, queue.queuedBytes);
    for (let piece = queue.head; piece !== undefined && left > 0; piece = piece.next) {
      const end = Math.min(piece.end, piece.start + left);
      if (!this.#add(piece.bytes.subarray(piece.start, end))) return false;
      left -= end - piece.start;
    }
    return true;
  }

  #add(chunk: Uint8Array): boolean {
    if (!this.#message.vector.push(chunk)) return false;
    this.#vectorBytes += chunk.byteLength;
    return true;
  }

  #sendVector(fd: number): number {
    const { vector } = this.#message;
    this.#offeredBytes = this.#vectorBytes;
    this.#message.prepare();
    let sent: number;
    do sent = this.#sys.sendmsg(fd, this.#message, MSG.nosignal); while (sent === -ERRNO.EINTR[0]);
    vector.clear(); // it must not keep what it points to alive
    this.#vectorBytes = 0;
    return this.#checked(sent);
  }

  #checked(sent: number): number {
    if (sent >= 0) {
      assert(sent <= this.#offeredBytes, "the kernel takes at most what it was offered");
      return sent;
    }
    this.#lacksMemory = sent === -ERRNO.ENOBUFS[0] || sent === -ERRNO.ENOMEM[0];
    return this.#lacksMemory || sent === -ERRNO.EAGAIN[0] ? 0 : sent;
  }
}
