/** Framers in tests: one of each kind, streams for them, and what a simple model makes of a stream. */
import { DelimiterFramer, type DelimiterOptions } from "../../src/delimiter_framer.ts";
import { FrameError, type FrameErrorCode, type Framer } from "../../src/framer.ts";
import { HeaderFramer, type HeaderOptions } from "../../src/header_framer.ts";
import { LengthPrefixFramer, type LengthPrefixOptions } from "../../src/length_prefix_framer.ts";
import { bytes, concat } from "./sockets.ts";

/** What a stream holds: whole frames, and what follows them. */
export interface Cut {
  readonly frames: readonly Uint8Array[];
  /** Where the last whole frame ends. */
  readonly end: number;
  /** Set where what follows is wrong, and that can be known from what is there. */
  readonly failure: FrameErrorCode | undefined;
}

/** The end of the first frame of `stream`, and what of it is handed out; or why it will not have one. */
type FirstFrame = { end: number; frame: Uint8Array } | FrameErrorCode | undefined;

function cut(stream: Uint8Array, first: (stream: Uint8Array) => FirstFrame): Cut {
  const frames: Uint8Array[] = [];
  for (let end = 0;;) {
    const found = first(stream.subarray(end));
    if (typeof found !== "object") return { frames, end, failure: found };
    frames.push(found.frame);
    end += found.end;
  }
}

/** What {@linkcode LengthPrefixFramer} is to make of a whole stream. */
export function cutByLength(stream: Uint8Array, options: LengthPrefixOptions): Cut {
  const { lengthBytes, littleEndian = false, includesLength = false, maxFrameBytes } = options;
  return cut(stream, (rest) => {
    if (rest.length < lengthBytes) return undefined;
    const digits = Array.from(rest.subarray(0, lengthBytes), (byte) => byte.toString(16).padStart(2, "0"));
    const length = parseInt((littleEndian ? digits.reverse() : digits).join(""), 16);
    const end = includesLength ? length : length + lengthBytes;
    if (end < lengthBytes) return "bad length";
    if (end - lengthBytes > maxFrameBytes) return "too long";
    return rest.length < end ? undefined : { end, frame: rest.subarray(lengthBytes, end) };
  });
}

/** What {@linkcode DelimiterFramer} is to make of a whole stream. */
export function cutByDelimiter(stream: Uint8Array, options: DelimiterOptions): Cut {
  const { keepDelimiter = false, maxFrameBytes } = options;
  const delimiter = typeof options.delimiter === "string" ? bytes(options.delimiter) : options.delimiter;
  const isAt = (rest: Uint8Array, at: number) =>
    delimiter.every((byte, i) => at + i >= rest.length || rest[at + i] === byte);
  return cut(stream, (rest) => {
    // The first place where the delimiter is, or may be once more has come.
    let at = 0;
    while (at < rest.length && !isAt(rest, at)) at++;
    const firstPossible = at;
    while (at + delimiter.length <= rest.length && !isAt(rest, at)) at++;
    if (firstPossible > maxFrameBytes) return "too long";
    const end = at + delimiter.length;
    return end > rest.length ? undefined : { end, frame: rest.subarray(0, keepDelimiter ? end : at) };
  });
}

/** What {@linkcode HeaderFramer} is to make of a whole stream. */
export function cutByHeader(stream: Uint8Array, options: HeaderOptions): Cut {
  const { headerBytes, bodyBytes, maxFrameBytes } = options;
  return cut(stream, (rest) => {
    if (rest.length < headerBytes) return undefined;
    const body = bodyBytes(rest.slice(0, headerBytes));
    if (!(Number.isInteger(body) && body >= 0)) return "bad length";
    const end = headerBytes + body;
    if (end > maxFrameBytes) return "too long";
    return rest.length < end ? undefined : { end, frame: rest.subarray(0, end) };
  });
}

/** A kind of framer, for what all have in common. */
export interface Kind {
  readonly name: string;
  /** Frames have at most 1,000,000 bytes, what is not body included. */
  readonly make: () => Framer;
  /** A frame on the wire. `body` has no NUL, and at most 65,535 bytes. */
  readonly encode: (body: Uint8Array) => Uint8Array<ArrayBuffer>;
  /** What `onFrame` is given for it. */
  readonly framed: (body: Uint8Array) => Uint8Array;
  /** A stream that fails. */
  readonly broken: Uint8Array;
}

const withLength = (body: Uint8Array) =>
  concat(Uint8Array.of(0, body.length >> 16, (body.length >> 8) & 255, body.length & 255), body);

/** One of each. */
export const KINDS: readonly Kind[] = [
  {
    name: "LengthPrefixFramer",
    make: () => new LengthPrefixFramer({ lengthBytes: 4, maxFrameBytes: 1_000_000 }),
    encode: withLength,
    framed: (body) => body,
    broken: Uint8Array.of(255, 255, 255, 255),
  },
  {
    name: "DelimiterFramer",
    make: () => new DelimiterFramer({ delimiter: "\0\0", maxFrameBytes: 1_000_000 }),
    encode: (body) => concat(body, bytes(2)),
    framed: (body) => body,
    broken: bytes(1_000_001).fill(7),
  },
  {
    name: "HeaderFramer",
    make: () =>
      new HeaderFramer({
        headerBytes: 4,
        bodyBytes: ([kind, high, middle, low]) => kind === 0 ? (high! << 16) | (middle! << 8) | low! : -1,
        maxFrameBytes: 1_000_000,
      }),
    encode: withLength,
    framed: withLength,
    broken: Uint8Array.of(255, 255, 255, 255),
  },
];

/** Pushes `chunks`, and returns copies of the frames; what is thrown is left to the caller. */
export function push(framer: Framer, ...chunks: readonly Uint8Array[]): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (const chunk of chunks) framer.push(chunk, (frame) => frames.push(frame.slice()));
  return frames;
}

/** Pushes a copy of `stream` that is overwritten at once, in pieces that begin at `offsets`; ends at a `FrameError`. */
export function pushSplit(framer: Framer, stream: Uint8Array, offsets: readonly number[]): Cut {
  const frames: Uint8Array[] = [];
  const borders = [0, ...offsets, stream.byteLength];
  for (let i = 1; i < borders.length; i++) {
    const chunk = stream.slice(borders[i - 1], borders[i]);
    try {
      framer.push(chunk, (frame) => frames.push(frame.slice()));
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      return { frames, end: 0, failure: error.code };
    }
    chunk.fill(0xee);
  }
  return { frames, end: stream.byteLength - framer.bufferedBytes, failure: undefined };
}

/** The `FrameError` that `run` throws. */
export function frameError(run: () => void): FrameError {
  try {
    run();
  } catch (error) {
    if (error instanceof FrameError) return error;
    throw error;
  }
  throw new Error("Cannot see a FrameError: nothing was thrown");
}
