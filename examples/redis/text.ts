/**
 * Keys and values are strings of which each code unit is one byte: engines keep them as bytes, hash them, compare them
 * and join them without a copy, which a Uint8Array does for nobody.
 */
import { Buffer } from "node:buffer";
import process from "node:process";

/** Up to this length, byte by byte is faster than a call of the runtime. Measured on Deno, Bun and Node. */
const SHORT = 32;
const RECENT = 4_096;
/** What {@linkcode putOnDeno} looks at together: base64 of the longest string would be longer than strings can be. */
const PIECE = 64 * 1024;

const isDeno = process.versions.deno !== undefined;
const encoder = new TextEncoder();

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
  if (length <= SHORT) { for (let i = 0; i < length; i++) bytes[at + i] = text.charCodeAt(i); }
  else if (isDeno) { for (let i = 0; i < length; i += PIECE) putOnDeno(text.slice(i, i + PIECE), bytes, at + i); }
  else bytes.write(text, at, length, "latin1");
  return at + length;
}

/** The bytes of several strings, which may be too long for one, in memory of their own. */
export function bytesOf(...texts: string[]): Buffer {
  const bytes = Buffer.allocUnsafe(texts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const text of texts) at = putText(text, bytes, at);
  return bytes;
}

/**
 * What `write` of latin1 does, which on Deno 2.9 is JavaScript, byte by byte. Its encoder of UTF-8 is not, and ASCII is
 * the same in it; nor is base64, a detour that is still several times as fast.
 */
function putOnDeno(text: string, bytes: Buffer, at: number): void {
  if (beginsInAscii(text)) {
    const { read } = encoder.encodeInto(text, new Uint8Array(bytes.buffer, bytes.byteOffset + at, text.length));
    if (read === text.length) return; // all of it was ASCII: else one took two bytes, and the last found no room
  }
  bytes.write(btoa(text), at, "base64");
}

/** Tells most binary data from text, so that it is encoded only once. */
function beginsInAscii(text: string): boolean {
  for (let i = 0; i < Math.min(SHORT, text.length); i++) {
    if (text.charCodeAt(i) > 0x7f) return false;
  }
  return true;
}

function isAt(text: string, bytes: Uint8Array, from: number): boolean {
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) !== bytes[from + i]) return false;
  }
  return true;
}
