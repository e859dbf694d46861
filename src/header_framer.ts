import { FrameError, Framer, frameTooLong, view } from "./framer.ts";
import { functionOption, integerOption, knownOptions, requiredOption } from "./options.ts";

/** Options for {@linkcode HeaderFramer}. */
export interface HeaderOptions {
  /** Size of the header. At least 1. */
  headerBytes: number;
  /**
   * Tells how many bytes follow the header; anything but an integer of 0 or more is a "bad length". `header` is borrowed:
   * valid until this returns. What it throws, `push` throws, and the framer has failed.
   */
  bodyBytes: (header: Uint8Array) => number;
  /** Most bytes of a frame, the header counted. At least `headerBytes`. */
  maxFrameBytes: number;
}

const OPTIONS = ["headerBytes", "bodyBytes", "maxFrameBytes"];

/** Frames that begin with a header of fixed size, which tells the size of the rest. `onFrame` gets both in one piece. */
export class HeaderFramer extends Framer {
  readonly #bodyBytes: (header: Uint8Array) => number;
  readonly #headerBytes: number;
  readonly #maxFrameBytes: number;
  /** A header that came in pieces, and how much of it has been seen. Made when the first one does. */
  #header: Uint8Array | undefined;
  #seen = 0;
  /** Bytes of the frame that have not been seen, once the header has been. */
  #left = 0;

  /**
   * Checks the options; holds nothing yet.
   *
   * @throws {TypeError | RangeError} If an option is wrong.
   */
  constructor(options: HeaderOptions) {
    knownOptions("make a framer", options, OPTIONS);
    super();
    const { headerBytes, bodyBytes, maxFrameBytes } = options;
    this.#headerBytes = integerOption("headerBytes", requiredOption("headerBytes", headerBytes), 0, 1);
    this.#bodyBytes = functionOption("bodyBytes", requiredOption("bodyBytes", bodyBytes));
    this.#maxFrameBytes = integerOption(
      "maxFrameBytes",
      requiredOption("maxFrameBytes", maxFrameBytes),
      0,
      this.#headerBytes,
    );
  }

  /** See {@linkcode Framer}. */
  protected override scan(bytes: Uint8Array, from: number, to: number): number {
    let at = from;
    if (this.#seen < this.#headerBytes) {
      const count = Math.min(this.#headerBytes - this.#seen, to - at);
      const header = this.#gather(bytes, at, at + count);
      at += count;
      if (header === undefined) return -1;
      this.#left = this.#checkedBytes(header);
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
    this.#seen = this.#left = 0;
  }

  /** The header, once it is whole: where it lies if it came in one piece, else a copy. */
  #gather(bytes: Uint8Array, from: number, to: number): Uint8Array | undefined {
    const piece = view(bytes, from, to);
    const before = this.#seen;
    this.#seen += to - from;
    if (before === 0 && this.#seen === this.#headerBytes) return piece;
    this.#header ??= new Uint8Array(new ArrayBuffer(this.#headerBytes));
    this.#header.set(piece, before);
    return this.#seen === this.#headerBytes ? this.#header : undefined;
  }

  /** Bytes that follow the header. */
  #checkedBytes(header: Uint8Array): number {
    const tell = this.#bodyBytes; // it is not a method of ours
    const bodyBytes: unknown = tell(header);
    if (typeof bodyBytes !== "number" || !Number.isInteger(bodyBytes) || bodyBytes < 0) {
      const said = typeof bodyBytes === "number" ? bodyBytes : `a value of type ${typeof bodyBytes}`;
      throw new FrameError(
        "bad length",
        `Cannot take a frame: bodyBytes returned ${said}, not an integer of 0 or more`,
      );
    }
    const frameBytes = this.#headerBytes + bodyBytes;
    if (frameBytes > this.#maxFrameBytes) throw frameTooLong(frameBytes, this.#maxFrameBytes);
    return bodyBytes;
  }
}
