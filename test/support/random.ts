/** Random numbers that a failing test can be repeated with: `TEST_SEED=4711`. */
import process from "node:process";
import { bytes } from "./sockets.ts";

/** Of what streams are cut from. */
const BLOCK_BYTES = 16 * 1024 * 1024;

/** Numbers from 0 to `below` − 1, always the same for a seed: mulberry32. */
export type Random = (below: number) => number;

/** Prints the seed, so that a failure can be repeated. */
export function seededRandom(what: string): Random {
  const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 32));
  console.log(`${what}: TEST_SEED=${seed}`);
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor(((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32 * below);
  };
}

/** `count` random bytes, a multiple of 4. */
export function randomBytes(random: Random, count: number): Uint8Array<ArrayBuffer> {
  const block = bytes(count);
  const words = new Uint32Array(block.buffer);
  for (let i = 0; i < words.length; i++) words[i] = random(2 ** 32);
  return block;
}

/** What clients send. */
export interface RandomStreams {
  /** Random bytes, different ones at each call; fewer than 16 MiB. */
  stream(byteCount: number): Uint8Array;
  /** The most bytes for a send: few, most of the time. */
  pieceBytes(): number;
}

/** Prints the seed, so that a failure can be repeated. */
export function randomStreams(what: string): RandomStreams {
  const random = seededRandom(what);
  const block = randomBytes(random, BLOCK_BYTES);
  return {
    stream(byteCount) {
      const from = random(block.byteLength - byteCount);
      return block.subarray(from, from + byteCount);
    },
    pieceBytes: () => 1 + random(random(8) === 0 ? 100_000 : 2_000),
  };
}
