import { describe, expect, test } from "vitest";
import { RECEIVE_BUFFER_BYTES, RECEIVE_VIEWS } from "../src/limits.ts";
import { ReceiveBuffer } from "../src/receive_buffer.ts";

function detach(bytes: Uint8Array): void {
  structuredClone(bytes.buffer, { transfer: [bytes.buffer as ArrayBuffer] });
}

describe("ReceiveBuffer", () => {
  test("bytes is one buffer, replaced once user code has detached it", () => {
    const received = new ReceiveBuffer();
    const { bytes } = received;
    expect(bytes.byteLength).toBe(RECEIVE_BUFFER_BYTES);
    expect(received.bytes).toBe(bytes);
    detach(bytes);
    expect(bytes.byteLength).toBe(0);
    expect(received.bytes.byteLength).toBe(RECEIVE_BUFFER_BYTES);
    expect(received.bytes).toBe(received.bytes);
  });

  test("first is a view of the beginning of bytes, of any length", () => {
    const received = new ReceiveBuffer();
    received.bytes.set([1, 2, 3]);
    expect([...received.first(2)]).toEqual([1, 2]);
    for (const length of [1, RECEIVE_VIEWS, RECEIVE_VIEWS + 1, 2 * RECEIVE_VIEWS + 1, RECEIVE_BUFFER_BYTES]) {
      const view = received.first(length);
      expect([view.buffer, view.byteOffset, view.byteLength]).toEqual([received.bytes.buffer, 0, length]);
    }
  });

  test("first makes a view once for messages of some lengths that come in turn", () => {
    const received = new ReceiveBuffer();
    const views = [64, 100, 16].map((length) => received.first(length));
    expect([64, 100, 16].map((length) => received.first(length))).toEqual(views);
    for (const view of views) expect(received.first(view.byteLength)).toBe(view);
  });

  test("first is of the new buffer once user code has detached the old one", () => {
    const received = new ReceiveBuffer();
    const before = received.first(4);
    detach(before);
    const after = received.first(4);
    expect(after.byteLength).toBe(4);
    expect(after.buffer).toBe(received.bytes.buffer);
  });
});
