import { FrameError, Framer, frameTooLong } from "./framer.ts";
import { booleanOption, integerOption, knownOptions, requiredOption } from "./options.ts";

/** Options for {@linkcode LengthPrefixFramer}. */
export interface LengthPrefixOptions {
  /** Size of the length itself, an unsigned integer. */
  lengthBytes: 1 | 2 | 3 | 4;
  /** Whether its least significant byte comes first. @default {false} */
  littleEndian?: boolean;
  /** Whether the length counts its own bytes as well. @default {false} */
  includesLength?: boolean;
  /** Most bytes of a frame, the length not counted. At least 1. */
  maxFrameBytes: number;
}

const OPTIONS = ["lengthBytes", "littleEndian", "includesLength", "maxFrameBytes"];

/** Frames that begin with their length. `onFrame` gets what follows the length; that may be nothing. */
export class LengthPrefixFramer extends Framer {
  readonly #lengthBytes: number;
  readonly #littleEndian: boolean;
  readonly #ownBytes: number;
  readonly #maxFrameBytes: number;
  /** How many bytes of the length have been seen, and what they say. */
  #seen = 0;
  #length = 0;
  /** Bytes of the frame that have not been seen, once the length has been. */
  #left = 0;

  /**
   * Checks the options; holds nothing yet.
   *
   * @throws {TypeError | RangeError} If an option is wrong.
   */
  constructor(options: LengthPrefixOptions) {
    knownOptions("make a framer", options, OPTIONS);
    const lengthBytes = integerOption("lengthBytes", requiredOption("lengthBytes", options.lengthBytes), 0, 1, 4);
    super(lengthBytes);
    this.#lengthBytes = lengthBytes;
    this.#littleEndian = booleanOption("littleEndian", options.littleEndian, false);
    this.#ownBytes = booleanOption("includesLength", options.includesLength, false) ? lengthBytes : 0;
    this.#maxFrameBytes = integerOption("maxFrameBytes", requiredOption("maxFrameBytes", options.maxFrameBytes), 0, 1);
  }

  /** See {@linkcode Framer}. */
  protected override scan(bytes: Uint8Array, from: number, to: number): number {
    let at = from;
    if (this.#seen < this.#lengthBytes) {
      while (this.#seen < this.#lengthBytes) {
        if (at === to) return -1;
        const byte = bytes[at++]!;
        // Not by shifts: they would make the highest bit a sign.
        this.#length = this.#littleEndian ? this.#length + byte * 256 ** this.#seen : this.#length * 256 + byte;
        this.#seen++;
      }
      this.#left = this.#checkedBytes();
    }
    if (this.#left > to - at) {
      this.#left -= to - at;
      return -1;
    }
    at += this.#left;
    this.reset();
    return at;
  }

  /** See {@linkcode Framer}. */
  protected override reset(): void {
    this.#seen = this.#length = this.#left = 0;
  }

  /** Bytes that follow the length. */
  #checkedBytes(): number {
    const frameBytes = this.#length - this.#ownBytes;
    if (frameBytes < 0) {
      throw new FrameError(
        "bad length",
        `Cannot take a frame of length ${this.#length}: a length counts its own ${this.#ownBytes} bytes`,
      );
    }
    if (frameBytes > this.#maxFrameBytes) throw frameTooLong(frameBytes, this.#maxFrameBytes);
    return frameBytes;
  }
}
