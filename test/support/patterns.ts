/** Bytes that tell their place, so that what is lost, doubled or out of order shows. */
import { expect } from "vitest";
import { bytes } from "./sockets.ts";

const byteAt = (place: number): number => (place * 2654435761) >>> 24;

/** `length` bytes of the pattern, from place `from` on. */
export function pattern(length: number, from: number = 0): Uint8Array<ArrayBuffer> {
  const filled = bytes(length);
  for (let i = 0; i < length; i++) filled[i] = byteAt(from + i);
  return filled;
}

/** Fails unless `received` is the pattern from place `from` on. */
export function expectPattern(received: Uint8Array, from: number = 0): void {
  const wrongAt = received.findIndex((byte, i) => byte !== byteAt(from + i));
  expect(wrongAt, "place of the first wrong byte").toBe(-1);
}
