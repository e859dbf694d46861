/**
 * Keys and values are strings of which each code unit is one byte: engines keep them as bytes, hash them, compare them
 * and join them without a copy, which a Uint8Array does for nobody.
 */
import { Buffer } from "node:buffer";

/** Up to this length, byte by byte is faster than a call of the runtime. Measured on Deno, Bun and Node. */
const SHORT = 32;
const RECENT = 4_096;

/** Short strings lately made: a key that is asked for again is not made again, and brings its hash along. */
const recent: string[] = new Array<string>(RECENT).fill("");

/** The bytes from index `from` to `to` as a string. */
export function textOf(bytes: Uint8Array, from: number, to: number): string {
  const length = to - from;
  if (length > SHORT) return Buffer.from(bytes.buffer, bytes.byteOffset + from, length).toString("latin1");
  let hash = length;
  for (let i = from; i < to; i++) hash = (Math.imul(hash, 31) + bytes[i]!) | 0;
  const slot = (hash ^ (hash >>> 12)) & (RECENT - 1);
  const known = recent[slot]!;
  if (known.length === length && isAt(known, bytes, from)) return known;
  let text = "";
  for (let i = from; i < to; i++) text += String.fromCharCode(bytes[i]!);
  return recent[slot] = text;
}

/** Writes `text` to `bytes` at index `at`, where there is room for it. @returns The index after it. */
export function putText(text: string, bytes: Buffer, at: number): number {
  const { length } = text;
  if (length > SHORT) return at + bytes.write(text, at, length, "latin1");
  for (let i = 0; i < length; i++) bytes[at + i] = text.charCodeAt(i);
  return at + length;
}

function isAt(text: string, bytes: Uint8Array, from: number): boolean {
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) !== bytes[from + i]) return false;
  }
  return true;
}
