/**
 * Framers against simple models that see the whole stream: whatever it holds, however it is split, and whatever `onFrame`
 * does, the frames are the same, the failure is the same, and no byte is lost.
 */
import fc from "fast-check";
import process from "node:process";
import { test } from "vitest";
import { DelimiterFramer } from "../src/delimiter_framer.ts";
import { FrameError, type Framer } from "../src/framer.ts";
import { HeaderFramer } from "../src/header_framer.ts";
import { LengthPrefixFramer } from "../src/length_prefix_framer.ts";
import { type Cut, cutByDelimiter, cutByHeader, cutByLength } from "./support/framers.ts";
import { checkMany } from "./support/properties.ts";
import { concat } from "./support/sockets.ts";

// About 5 s; FRAMING_INPUTS asks for more, with TEST_FILE_ALARM for the seconds it may take.
const INPUTS = Number(process.env.FRAMING_INPUTS ?? 60_000);
const INPUTS_EACH = Math.ceil(INPUTS / 3);
const TIMEOUT_MS = 60_000 + INPUTS;
/** Between two looks at whatever else the process has to do. */
const SLICE = 2_000;

const NONE = new Uint8Array(0);

/** What `onFrame` does with a frame; beyond its end a script says "go on". */
const ACTIONS = ["go on", "go on", "stop", "throw", "take", "push"] as const;
/** What happens between two chunks. */
const PAUSES = ["nothing", "nothing", "take", "push nothing"] as const;

interface Play {
  /** Sizes of chunks; the last one is the rest. */
  readonly chunks: readonly number[];
  readonly actions: readonly (typeof ACTIONS[number])[];
  readonly pauses: readonly (typeof PAUSES[number])[];
}

const plays: fc.Arbitrary<Play> = fc.record({
  chunks: fc.array(fc.nat(9), { maxLength: 12 }),
  actions: fc.array(fc.constantFrom(...ACTIONS), { maxLength: 6 }),
  pauses: fc.array(fc.constantFrom(...PAUSES), { maxLength: 6 }),
});

/** Thrown by `onFrame` on purpose. */
const thrown = new Error("onFrame throws");

/** Plays `stream`, and returns what came out. Throws what no framer may. */
function run(framer: Framer, stream: Uint8Array, { chunks, actions, pauses }: Play): Cut {
  const frames: Uint8Array[] = [];
  let action = 0;
  let pause = 0;
  /** Taken from the framer, to be pushed again before anything else. */
  let taken: Uint8Array = NONE;

  const onFrame = (frame: Uint8Array) => {
    frames.push(frame.slice());
    switch (actions[action++]) {
      case "stop":
        return framer.stop();
      case "throw":
        throw thrown;
      case "take":
        taken = framer.take();
        return;
      case "push":
        return expectNested(() => framer.push(stream, onFrame));
    }
  };
  const push = (chunk: Uint8Array) => {
    const borrowed = chunk.slice();
    try {
      framer.push(borrowed, onFrame);
    } catch (error) {
      if (error !== thrown) throw error;
    }
    borrowed.fill(0xee);
    while (taken.byteLength > 0) {
      const again = taken;
      taken = NONE;
      push(again);
    }
  };

  try {
    let at = 0;
    for (const size of chunks) {
      push(stream.subarray(at, at + size));
      at = Math.min(at + size, stream.length);
      const what = pauses[pause++];
      if (what === "take") push(framer.take());
      else if (what === "push nothing") push(NONE);
    }
    push(stream.subarray(at));
    for (let i = 0; i <= actions.length; i++) push(NONE); // stopped by each action, at most
    return { frames, end: stream.length - framer.bufferedBytes, failure: undefined };
  } catch (error) {
    if (!(error instanceof FrameError)) throw error;
    return { frames, end: 0, failure: error.code };
  }
}

function expectNested(push: () => void): void {
  try {
    push();
  } catch (error) {
    if (error instanceof RangeError) return;
    throw error;
  }
  throw new Error("a push inside of onFrame went through");
}

function expectSame(found: Cut, expected: Cut): void {
  if (found.failure !== expected.failure) throw new Error(`failure: ${found.failure}, expected ${expected.failure}`);
  if (String(found.frames) !== String(expected.frames) || found.frames.length !== expected.frames.length) {
    throw new Error(`frames: ${JSON.stringify(found.frames)}, expected ${JSON.stringify(expected.frames)}`);
  }
  if (found.failure === undefined && found.end !== expected.end) {
    throw new Error(`bytes in frames: ${found.end}, expected ${expected.end}`);
  }
}

function checkInputs<T>(inputs: fc.Arbitrary<T>, check: (input: T, play: Play) => void): Promise<void> {
  return checkMany(fc.property(inputs, plays, check), INPUTS_EACH, SLICE);
}

const maxFrameBytes = fc.integer({ min: 1, max: 12 });
const raw = (maxLength: number) => fc.uint8Array({ maxLength });

test(`LengthPrefixFramer finds what its model finds in ${INPUTS_EACH} streams`, async () => {
  const streams = fc.record({
    lengthBytes: fc.constantFrom(1 as const, 2 as const, 3 as const, 4 as const),
    littleEndian: fc.boolean(),
    includesLength: fc.boolean(),
    maxFrameBytes,
    /** The length that a frame says it has, and its bytes; or bytes that are anything. */
    parts: fc.array(
      fc.oneof(
        { weight: 8, arbitrary: raw(12).map((body) => ({ length: body.length, body })) },
        { weight: 1, arbitrary: fc.record({ length: fc.nat(20), body: raw(4) }) },
        { weight: 1, arbitrary: raw(6).map((body) => ({ length: -1, body })) },
      ),
      { maxLength: 7 },
    ),
  });
  await checkInputs(streams, ({ parts, ...options }, play) => {
    const { lengthBytes, littleEndian, includesLength } = options;
    const encoded = parts.map(({ length, body }) => {
      const prefix = new Uint8Array(length === -1 ? 0 : lengthBytes);
      prefix[littleEndian ? 0 : lengthBytes - 1] = length + (includesLength ? lengthBytes : 0);
      return concat(prefix, body);
    });
    const stream = concat(...encoded);
    expectSame(run(new LengthPrefixFramer(options), stream, play), cutByLength(stream, options));
  });
}, TIMEOUT_MS);

test(`DelimiterFramer finds what its model finds in ${INPUTS_EACH} streams`, async () => {
  // Few letters, so that delimiters overlap themselves and nearly match.
  const word = (minLength: number, maxLength: number) =>
    fc.array(fc.constantFrom(97, 98), { minLength, maxLength }).map((codes) => Uint8Array.from(codes));
  const streams = fc.record({
    delimiter: word(1, 5),
    keepDelimiter: fc.boolean(),
    maxFrameBytes,
    /** Words, each followed by so many delimiters. */
    parts: fc.array(fc.record({ word: word(0, 8), delimiters: fc.nat(2) }), { maxLength: 7 }),
  });
  await checkInputs(streams, ({ parts, ...options }, play) => {
    const stream = concat(
      ...parts.flatMap(({ word, delimiters }) => [word, ...Array(delimiters).fill(options.delimiter)]),
    );
    expectSame(run(new DelimiterFramer(options), stream, play), cutByDelimiter(stream, options));
  });
}, TIMEOUT_MS);

test(`HeaderFramer finds what its model finds in ${INPUTS_EACH} streams`, async () => {
  /** The last byte of a header says how long the body is, or something no reader should. */
  const bodyBytes = (header: Uint8Array) => {
    const said = header.at(-1)!;
    return said < 0xf0 ? said : [-1, NaN, 0.5, Infinity, -0, 2 ** 60][said % 6]!;
  };
  const streams = fc.record({
    headerBytes: fc.integer({ min: 1, max: 5 }),
    moreBytes: fc.nat(12),
    parts: fc.array(
      fc.oneof(
        { weight: 8, arbitrary: raw(12).map((body) => ({ length: body.length, body })) },
        { weight: 1, arbitrary: fc.record({ length: fc.nat(255), body: raw(4) }) },
      ),
      { maxLength: 7 },
    ),
  });
  await checkInputs(streams, ({ parts, headerBytes, moreBytes }, play) => {
    const encoded = parts.map(({ length, body }) => concat(new Uint8Array(headerBytes).fill(length), body));
    const stream = concat(...encoded);
    const options = { headerBytes, bodyBytes, maxFrameBytes: headerBytes + moreBytes };
    expectSame(run(new HeaderFramer(options), stream, play), cutByHeader(stream, options));
  });
}, TIMEOUT_MS);
