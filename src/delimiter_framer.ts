import { FrameError, Framer } from "./framer.ts";
import { booleanOption, integerOption, knownOptions, requiredOption, shown } from "./options.ts";

/** Options for {@linkcode DelimiterFramer}. */
export interface DelimiterOptions {
  /** What ends a frame, such as `"\r\n"`: bytes, which are copied, or text of ASCII only. Not empty. */
  delimiter: Uint8Array | string;
  /** Most bytes of a frame, the delimiter not counted. At least 1. */
  maxFrameBytes: number;
  /** Whether `onFrame` gets the delimiter too. @default {false} */
  keepDelimiter?: boolean;
}

const OPTIONS = ["delimiter", "maxFrameBytes", "keepDelimiter"];

/**
 * Frames that end with a delimiter: the first place where it is found. `onFrame` gets what precedes the delimiter; that
 * may be nothing.
 *
 * The search is Knuth's, Morris' and Pratt's: it never goes back, whatever the delimiter and however it is split, so it
 * takes time proportional to the bytes.
 */
export class DelimiterFramer extends Framer {
  readonly #delimiter: Uint8Array;
  /** For each length of a match: how much of it is still one where the next byte does not fit. */
  readonly #fallback: Uint32Array;
  readonly #maxFrameBytes: number;
  /** Bytes of the frame seen in earlier pieces. */
  #seen = 0;
  /** How many bytes of the delimiter they end with. */
  #matched = 0;

  /**
   * Checks the options; holds nothing yet.
   *
   * @throws {TypeError | RangeError} If an option is wrong.
   */
  constructor(options: DelimiterOptions) {
    knownOptions("make a framer", options, OPTIONS);
    const delimiter = delimiterOption(requiredOption("delimiter", options.delimiter));
    super(0, booleanOption("keepDelimiter", options.keepDelimiter, false) ? 0 : delimiter.byteLength);
    this.#delimiter = delimiter;
    this.#fallback = fallbackOf(delimiter);
    this.#maxFrameBytes = integerOption("maxFrameBytes", requiredOption("maxFrameBytes", options.maxFrameBytes), 0, 1);
  }

  /** See {@linkcode Framer}. */
  protected override scan(bytes: Uint8Array, from: number, to: number): number {
    const delimiter = this.#delimiter;
    const fallback = this.#fallback;
    let matched = this.#matched;
    let at = from;
    while (at < to && matched < delimiter.byteLength) {
      if (matched === 0) {
        const first = bytes.indexOf(delimiter[0]!, at);
        if (first === -1) at = to;
        else [at, matched] = [first + 1, 1];
      } else if (bytes[at] === delimiter[matched]) {
        at++;
        matched++;
      } else {
        matched = fallback[matched - 1]!;
      }
    }
    // What may be the beginning of a delimiter is not known to be in the frame.
    this.#checkBytes(this.#seen + (at - from) - matched);
    if (matched === delimiter.byteLength) {
      this.reset();
      return at;
    }
    this.#seen += to - from;
    this.#matched = matched;
    return -1;
  }

  /** See {@linkcode Framer}. */
  protected override reset(): void {
    this.#seen = this.#matched = 0;
  }

  #checkBytes(frameBytes: number): void {
    if (frameBytes <= this.#maxFrameBytes) return;
    throw new FrameError(
      "too long",
      `Cannot take a frame of ${frameBytes} bytes or more: no delimiter within maxFrameBytes, which is ` +
        `${this.#maxFrameBytes}, raise it if that is legal`,
    );
  }
}

function delimiterOption(value: Uint8Array | string): Uint8Array {
  if (typeof value !== "string" && !(value instanceof Uint8Array)) {
    throw new TypeError(`Cannot use delimiter ${shown(value)}: it must be a string or a Uint8Array`);
  }
  const delimiter = typeof value === "string" ? asciiBytes(value) : Uint8Array.from(value);
  if (delimiter.byteLength === 0) throw new RangeError("Cannot use an empty delimiter: it must have a byte");
  return delimiter;
}

/** Text whose bytes are the same in every encoding that a protocol may have. */
function asciiBytes(text: string): Uint8Array {
  const codes = Array.from(text, (character) => character.codePointAt(0)!);
  if (codes.every((code) => code < 0x80)) return Uint8Array.from(codes);
  throw new TypeError(`Cannot use delimiter ${JSON.stringify(text)}: it must be ASCII, or given as bytes`);
}

function fallbackOf(delimiter: Uint8Array): Uint32Array {
  const fallback = new Uint32Array(delimiter.byteLength);
  for (let i = 1, matched = 0; i < delimiter.byteLength; i++) {
    while (matched > 0 && delimiter[i] !== delimiter[matched]) matched = fallback[matched - 1]!;
    if (delimiter[i] === delimiter[matched]) matched++;
    fallback[i] = matched;
  }
  return fallback;
}
