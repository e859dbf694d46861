import { assert } from "./assert.ts";
import { QUEUE_BLOCK_BYTES } from "./limits.ts";

interface Block {
  readonly bytes: Uint8Array;
  /** First byte not yet sent. */
  start: number;
  /** First byte not yet filled. */
  end: number;
}

/** Bytes the kernel has not taken yet, in order. Holds copies: the writer may reuse its buffer. */
export class WriteQueue {
  // Never holds an empty block, so the head, if any, has something to send.
  readonly #blocks: Block[] = [];
  #queuedBytes = 0;

  /** Exact at any time. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Copies `bytes` from index `from` on to the end of the queue. */
  push(bytes: Uint8Array, from: number = 0): void {
    let at = from;
    this.#queuedBytes += bytes.byteLength - from;
    const tail = this.#blocks.at(-1);
    if (tail !== undefined) {
      const room = Math.min(tail.bytes.byteLength - tail.end, bytes.byteLength - at);
      tail.bytes.set(bytes.subarray(at, at + room), tail.end);
      tail.end += room;
      at += room;
    }
    const left = bytes.byteLength - at;
    if (left === 0) return;
    const block = new Uint8Array(new ArrayBuffer(Math.max(QUEUE_BLOCK_BYTES, left)));
    block.set(at === 0 ? bytes : bytes.subarray(at));
    this.#blocks.push({ bytes: block, start: 0, end: left });
  }

  /** The oldest bytes that lie in one piece; borrowed until the next call that changes the queue. */
  head(): Uint8Array {
    const head = this.#blocks[0];
    assert(head !== undefined, "only a queue with bytes has a head");
    return head.bytes.subarray(head.start, head.end);
  }

  /** Forgets the oldest `count` bytes, at most those of `head`. */
  consume(count: number): void {
    const head = this.#blocks[0];
    assert(head !== undefined && count <= head.end - head.start, "no more is consumed than the head holds");
    head.start += count;
    this.#queuedBytes -= count;
    if (head.start === head.end) this.#blocks.shift();
  }

  /** Forgets everything. */
  clear(): void {
    this.#blocks.length = 0;
    this.#queuedBytes = 0;
  }
}
