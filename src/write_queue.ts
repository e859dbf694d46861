import { assert } from "./assert.ts";
import { FREE_BLOCKS_MAX, FREE_PIECES_MAX, QUEUE_BLOCK_BYTES } from "./limits.ts";

const NOTHING = new Uint8Array(new ArrayBuffer(0));

/** Bytes in one place, part of a {@linkcode WriteQueue}. */
export interface Piece {
  /** The memory: a block of the pool, a copy of one chunk, or bytes that several queues share. */
  bytes: Uint8Array;
  /** First byte not yet sent. */
  start: number;
  /** First byte not yet filled. */
  end: number;
  /** The piece that is sent after this one. */
  next: Piece | undefined;
  /** Whether the memory is the pool's: more may be added behind `end`, and it goes back when all is sent. */
  readonly isBlock: boolean;
}

/** Pieces that no queue uses now. Shared by the connections of a loop, so that gathering a write allocates nothing. */
export class PiecePool {
  #blocks: Piece | undefined;
  #freeBlocks = 0;
  #pieces: Piece | undefined;
  #freePieces = 0;

  /** An empty block of {@linkcode QUEUE_BLOCK_BYTES}. */
  takeBlock(): Piece {
    const block = this.#blocks;
    if (block === undefined) {
      return {
        bytes: new Uint8Array(new ArrayBuffer(QUEUE_BLOCK_BYTES)),
        start: 0,
        end: 0,
        next: undefined,
        isBlock: true,
      };
    }
    this.#blocks = block.next;
    this.#freeBlocks--;
    block.next = undefined;
    return block;
  }

  /** A piece that refers to `bytes` from index `start` on, and does not copy them. */
  takePiece(bytes: Uint8Array, start: number): Piece {
    const piece = this.#pieces;
    if (piece === undefined) return { bytes, start, end: bytes.byteLength, next: undefined, isBlock: false };
    this.#pieces = piece.next;
    this.#freePieces--;
    piece.next = undefined;
    piece.bytes = bytes;
    piece.start = start;
    piece.end = bytes.byteLength;
    return piece;
  }

  /** Takes a piece back. Beyond some, they are left to the garbage collector. */
  give(piece: Piece): void {
    piece.start = piece.end = 0;
    if (piece.isBlock) {
      if (this.#freeBlocks === FREE_BLOCKS_MAX) return;
      this.#freeBlocks++;
      piece.next = this.#blocks;
      this.#blocks = piece;
      return;
    }
    piece.bytes = NOTHING; // nobody keeps another's bytes alive
    if (this.#freePieces === FREE_PIECES_MAX) return;
    this.#freePieces++;
    piece.next = this.#pieces;
    this.#pieces = piece;
  }
}

/** Copies `text` to `target`, from index `at` on, if it is ASCII. @returns Whether it was; nothing before `at` has changed. */
export function copyAscii(text: string, target: Uint8Array, at: number): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0x7f) return false;
    target[at + i] = code;
  }
  return true;
}

/** Bytes the kernel has not taken yet, in order. */
export class WriteQueue {
  readonly #pool: PiecePool;
  // No piece is ever empty, so the head, if any, has something to send.
  #head: Piece | undefined;
  #tail: Piece | undefined;
  #queuedBytes = 0;

  /** Empty. Its pieces are `pool`'s. */
  constructor(pool: PiecePool) {
    this.#pool = pool;
  }

  /** Exact at any time. */
  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** The oldest piece; the others follow by `next`. Borrowed until the next call that changes the queue. */
  get head(): Piece | undefined {
    return this.#head;
  }

  /** Copies `bytes` from index `from` on to the end of the queue: the writer may reuse its buffer. */
  push(bytes: Uint8Array, from: number = 0): void {
    let at = from;
    const { byteLength } = bytes;
    const tail = this.#tail;
    if (tail !== undefined && tail.isBlock) {
      const room = Math.min(QUEUE_BLOCK_BYTES - tail.end, byteLength - at);
      if (room > 0) {
        tail.bytes.set(at === 0 && room === byteLength ? bytes : bytes.subarray(at, at + room), tail.end);
        tail.end += room;
        at += room;
        this.#queuedBytes += room;
      }
    }
    const left = byteLength - at;
    if (left === 0) return;
    if (left > QUEUE_BLOCK_BYTES) {
      const copy = new Uint8Array(new ArrayBuffer(left));
      copy.set(bytes.subarray(at));
      this.#queuedBytes += left;
      return this.#append(this.#pool.takePiece(copy, 0));
    }
    const block = this.#pool.takeBlock();
    block.bytes.set(at === 0 ? bytes : bytes.subarray(at));
    block.end = left;
    this.#queuedBytes += left;
    this.#append(block);
  }

  /**
   * Copies `text`, at most a block long, if it is ASCII: to look at each character costs less than to have a short text
   * encoded.
   *
   * @returns Whether it was; nothing has changed if not.
   */
  pushAscii(text: string): boolean {
    const { length } = text;
    const tail = this.#tail;
    const hasRoom = tail !== undefined && tail.isBlock && QUEUE_BLOCK_BYTES - tail.end >= length;
    const block = hasRoom ? tail : this.#pool.takeBlock();
    if (!copyAscii(text, block.bytes, block.end)) {
      if (!hasRoom) this.#pool.give(block);
      return false;
    }
    block.end += length;
    this.#queuedBytes += length;
    if (!hasRoom) this.#append(block);
    return true;
  }

  /** As {@linkcode WriteQueue.push}, but refers to `bytes`, which must not change any more. */
  pushShared(bytes: Uint8Array, from: number = 0): void {
    if (from === bytes.byteLength) return;
    this.#queuedBytes += bytes.byteLength - from;
    this.#append(this.#pool.takePiece(bytes, from));
  }

  /** Forgets the oldest `count` bytes. */
  consume(count: number): void {
    assert(count <= this.#queuedBytes, "no more is consumed than the queue holds");
    this.#queuedBytes -= count;
    if (this.#queuedBytes === 0 && this.#head === this.#tail) {
      if (count > 0) this.#dropHead(this.#head!);
      return;
    }
    for (let left = count; left > 0;) {
      const head = this.#head!;
      const taken = Math.min(left, head.end - head.start);
      head.start += taken;
      left -= taken;
      if (head.start === head.end) this.#dropHead(head);
    }
  }

  /** Forgets everything. */
  clear(): void {
    this.#queuedBytes = 0;
    while (this.#head !== undefined) this.#dropHead(this.#head);
  }

  #append(piece: Piece): void {
    if (this.#tail === undefined) this.#head = piece;
    else this.#tail.next = piece;
    this.#tail = piece;
  }

  #dropHead(head: Piece): void {
    this.#head = head.next;
    if (this.#head === undefined) this.#tail = undefined;
    this.#pool.give(head);
  }
}
