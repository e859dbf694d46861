/** src/write_queue.ts: bytes in order, whatever the pieces. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AssertionError } from "../src/assert.ts";
import { QUEUE_BLOCK_BYTES } from "../src/limits.ts";
import { PiecePool, WriteQueue } from "../src/write_queue.ts";
import { check } from "./support/properties.ts";
import { bytes, text } from "./support/sockets.ts";

/** What the oldest piece holds. */
function headOf(queue: WriteQueue): Uint8Array {
  const { head } = queue;
  if (head === undefined) throw new Error("An empty queue has no head");
  return head.bytes.subarray(head.start, head.end);
}

/** Takes everything out, at most `step` bytes at a time. */
function takeAll(queue: WriteQueue, step: number = Infinity): Uint8Array {
  const all: number[] = [];
  while (queue.queuedBytes > 0) {
    const head = headOf(queue);
    const count = Math.min(step, head.byteLength);
    all.push(...head.subarray(0, count));
    queue.consume(count);
  }
  return Uint8Array.from(all);
}

describe("WriteQueue", () => {
  test("WriteQueue returns bytes in the order they were pushed", () => {
    const queue = new WriteQueue(new PiecePool());
    for (const word of ["one ", "two ", "three"]) queue.push(bytes(word));
    expect(queue.queuedBytes).toBe(13);
    expect(text(takeAll(queue))).toBe("one two three");
    expect(queue.queuedBytes).toBe(0);
  });

  test("WriteQueue.push() copies: the writer may reuse its buffer", () => {
    const queue = new WriteQueue(new PiecePool());
    const chunk = bytes("before");
    queue.push(chunk);
    chunk.fill(0);
    expect(text(takeAll(queue))).toBe("before");
  });

  test("WriteQueue.push() begins at the index it is handed", () => {
    const queue = new WriteQueue(new PiecePool());
    queue.push(bytes("sent, not sent"), 6);
    queue.push(bytes("sent"), 4);
    expect(queue.queuedBytes).toBe(8);
    expect(text(takeAll(queue))).toBe("not sent");
  });

  test("WriteQueue.push() of nothing leaves an empty queue without a head", () => {
    const queue = new WriteQueue(new PiecePool());
    queue.push(bytes(0));
    expect(queue.queuedBytes).toBe(0);
    expect(queue.head).toBeUndefined();
  });

  test("WriteQueue gathers small writes into one piece", () => {
    const queue = new WriteQueue(new PiecePool());
    for (let i = 0; i < 400; i++) queue.push(bytes("0123456789"));
    expect(headOf(queue).byteLength).toBe(4_000);
  });

  test("WriteQueue keeps a chunk larger than a block in one piece", () => {
    const queue = new WriteQueue(new PiecePool());
    const large = bytes(3 * QUEUE_BLOCK_BYTES + 1).fill(7);
    queue.push(large);
    expect(headOf(queue)).toEqual(large);
  });

  test("WriteQueue.consume() forgets part of the head, and its queuedBytes", () => {
    const queue = new WriteQueue(new PiecePool());
    queue.push(bytes("abcdef"));
    queue.consume(2);
    expect(queue.queuedBytes).toBe(4);
    expect(text(headOf(queue))).toBe("cdef");
    queue.consume(0);
    expect(text(headOf(queue))).toBe("cdef");
    queue.consume(4);
    expect(queue.queuedBytes).toBe(0);
    expect(queue.head).toBeUndefined();
  });

  test("WriteQueue.consume() throws for more than the queue holds", () => {
    const queue = new WriteQueue(new PiecePool());
    expect(() => queue.consume(1)).toThrow(AssertionError);
    queue.push(bytes("abc"));
    expect(() => queue.consume(4)).toThrow("no more is consumed than the queue holds");
    expect(queue.queuedBytes).toBe(3);
  });

  test("WriteQueue.clear() forgets everything, and the queue is as new", () => {
    const queue = new WriteQueue(new PiecePool());
    queue.push(bytes(2 * QUEUE_BLOCK_BYTES));
    queue.push(bytes("abc"));
    queue.clear();
    expect(queue.queuedBytes).toBe(0);
    queue.push(bytes("new"));
    expect(text(takeAll(queue))).toBe("new");
  });

  test("WriteQueue survives a short write at every offset, also across the border of two blocks", () => {
    const source = bytes(QUEUE_BLOCK_BYTES + 40).map((_, i) => i % 251);
    const pushed = (): WriteQueue => {
      const queue = new WriteQueue(new PiecePool());
      queue.push(source.subarray(0, QUEUE_BLOCK_BYTES - 20));
      queue.push(source.subarray(QUEUE_BLOCK_BYTES - 20));
      return queue;
    };
    for (let offset = QUEUE_BLOCK_BYTES - 40; offset <= QUEUE_BLOCK_BYTES + 40; offset++) {
      const queue = pushed();
      let taken = 0;
      while (taken < offset) {
        const count = Math.min(offset - taken, headOf(queue).byteLength);
        queue.consume(count);
        taken += count;
      }
      expect(queue.queuedBytes).toBe(source.byteLength - offset);
      expect(Array.from(takeAll(queue))).toEqual(Array.from(source.subarray(offset)));
    }
  });
});

describe("WriteQueue.pushAscii()", () => {
  test("takes ASCII in order with bytes, across the borders of blocks", () => {
    const queue = new WriteQueue(new PiecePool());
    let all = "";
    for (let i = 0; i < 3 * QUEUE_BLOCK_BYTES / 100; i++) {
      const word = `${i} `.repeat(20);
      if (i % 3 === 0) queue.push(bytes(word));
      else expect(queue.pushAscii(word)).toBe(true);
      all += word;
    }
    expect(queue.queuedBytes).toBe(all.length);
    expect(text(takeAll(queue))).toBe(all);
  });

  test("leaves everything as it was for what is not ASCII", () => {
    const queue = new WriteQueue(new PiecePool());
    expect(queue.pushAscii("grüße")).toBe(false);
    expect([queue.queuedBytes, queue.head]).toEqual([0, undefined]);
    queue.push(bytes("a"));
    expect(queue.pushAscii("b\u0080")).toBe(false);
    expect(queue.pushAscii("\u007f\0")).toBe(true);
    expect(text(takeAll(queue))).toBe("a\u007f\0");
  });
});

describe("WriteQueue, against one array", () => {
  const size = fc.oneof(
    { weight: 6, arbitrary: fc.nat(40) },
    { weight: 2, arbitrary: fc.integer({ min: QUEUE_BLOCK_BYTES - 3, max: QUEUE_BLOCK_BYTES + 3 }) },
    { weight: 1, arbitrary: fc.nat(3 * QUEUE_BLOCK_BYTES) },
  );
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant("push" as const), size, from: fc.nat(10) }) },
    { weight: 5, arbitrary: fc.record({ kind: fc.constant("consume" as const), size }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("clear" as const) }) },
  );

  test("WriteQueue holds what one array would, whatever is pushed, consumed and cleared", () => {
    check(fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const queue = new WriteQueue(new PiecePool());
      // The model is a stream of consecutive numbers: which are still queued, is two counts.
      let [pushed, consumed] = [0, 0];
      for (const step of steps) {
        if (step.kind === "push") {
          const from = Math.min(step.from, step.size);
          const chunk = bytes(step.size);
          for (let i = from; i < step.size; i++) chunk[i] = pushed++ % 251;
          queue.push(chunk, from);
          chunk.fill(255);
        } else if (step.kind === "clear") {
          queue.clear();
          consumed = pushed;
        } else if (queue.queuedBytes > 0) {
          const head = headOf(queue);
          expect(head.byteLength).toBeGreaterThan(0);
          for (let i = 0; i < head.byteLength; i++) {
            if (head[i] !== (consumed + i) % 251) throw new Error(`byte ${consumed + i} is ${head[i]}`);
          }
          const count = Math.min(step.size, head.byteLength);
          queue.consume(count);
          consumed += count;
        }
        expect(queue.queuedBytes).toBe(pushed - consumed);
      }
    }));
  });
});
