import { DIRECT_WRITE_BYTES, GATHER_MAX_BYTES, SHORT_TEXT_CHARACTERS } from "./limits.ts";
import { copyAscii } from "./write_queue.ts";

/**
 * What the connection that is told of its events writes meanwhile, small chunks to be sent in one call: memory that the
 * connections of a loop have in turn. Empty before and after.
 */
export class Scratch {
  /** The memory; the first `byteLength` bytes are in use. */
  readonly bytes: Uint8Array = new Uint8Array(new ArrayBuffer(GATHER_MAX_BYTES));
  #byteLength = 0;

  /** How many bytes there are. */
  get byteLength(): number {
    return this.#byteLength;
  }

  /**
   * Copies `bytes`, unless they are better sent by themselves.
   *
   * @param maxBytes What is gathered stays below that, which is `GATHER_MAX_BYTES` or less.
   * @returns Whether it did.
   */
  gather(bytes: Uint8Array, maxBytes: number): boolean {
    const { byteLength } = bytes;
    const before = this.#byteLength;
    if (byteLength === 0 || byteLength >= DIRECT_WRITE_BYTES || before + byteLength >= maxBytes) return false;
    this.bytes.set(bytes, before);
    this.#byteLength = before + byteLength;
    return true;
  }

  /** The same for `text`, if it is short and ASCII. */
  gatherText(text: string, maxBytes: number): boolean {
    const { length } = text;
    const before = this.#byteLength;
    if (length === 0 || length > SHORT_TEXT_CHARACTERS || before + length >= maxBytes) return false;
    if (!copyAscii(text, this.bytes, before)) return false;
    this.#byteLength = before + length;
    return true;
  }

  /** Forgets what was gathered, now that it is sent. */
  clear(): void {
    this.#byteLength = 0;
  }

  /** Hands over what was gathered: borrowed until somebody gathers again. */
  take(): Uint8Array {
    const bytes = this.bytes.subarray(0, this.#byteLength);
    this.#byteLength = 0;
    return bytes;
  }
}
