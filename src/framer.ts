import { textOf } from "./error_text.ts";
import { FRAMER_KEPT_BYTES, FRAMER_MIN_BYTES } from "./limits.ts";

/** Why a stream cannot be cut into frames any further: see {@linkcode FrameError}. */
export type FrameErrorCode = "too long" | "bad length";

/** The peer's stream cannot be cut into frames any further: where the next one begins is not known. */
export class FrameError extends Error {
  /** Always `"FrameError"`. */
  override readonly name = "FrameError";
  /** `"too long"`: a frame is over the maximum. `"bad length"`: a length says what no frame can have. */
  readonly code: FrameErrorCode;

  /** `message` is whole; `options.cause` is what led to it, if anything did. */
  constructor(code: FrameErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** For a frame of `frameBytes`. */
export function frameTooLong(frameBytes: number, maxFrameBytes: number): FrameError {
  return new FrameError(
    "too long",
    `Cannot take a frame of ${frameBytes} bytes: maxFrameBytes is ${maxFrameBytes}, raise it if that is legal`,
  );
}

/**
 * Takes a frame. `frame` is borrowed: valid until this returns; `frame.slice()` keeps it. Nobody waits for a promise that
 * it returns, and an `async` function loses the frame at its first `await`.
 */
export type OnFrame = (frame: Uint8Array) => void;

/** What a framer is doing; only `idle` lets a push begin. */
type Phase = "idle" | "scanning" | "in onFrame";

const NOTHING: Uint8Array = new Uint8Array(0);

/**
 * Cuts a stream of bytes, which comes in chunks of any size, into frames. Needs nothing but the bytes: they may come from
 * a connection, a file or a test. {@linkcode LengthPrefixFramer}, {@linkcode DelimiterFramer} and
 * {@linkcode HeaderFramer} say where a frame ends; extend this class for a protocol that says it in another way.
 *
 * Every byte is looked at once, and copied only if its frame did not come in one chunk, or if a push was stopped. Memory
 * grows with what has arrived, never with what a peer announces, and is given back after a large frame.
 */
export abstract class Framer {
  readonly #skipBytes: number;
  readonly #trimBytes: number;
  /** What earlier pushes left: bytes from `#start` to `#end`. Of these `scan` has seen those before `#scanned`. */
  #buffer: Uint8Array = NOTHING;
  #start = 0;
  #scanned = 0;
  #end = 0;
  /** What this push was handed; bytes before `#at` are in a frame or in the buffer. */
  #chunk: Uint8Array = NOTHING;
  #at = 0;
  #phase: Phase = "idle";
  #isStopped = false;
  #failure: Error | undefined;

  /**
   * Holds nothing yet.
   *
   * @param skipBytes How many bytes at the beginning of a frame are not handed out.
   * @param trimBytes How many bytes at its end are not.
   */
  constructor(skipBytes: number = 0, trimBytes: number = 0) {
    this.#skipBytes = skipBytes;
    this.#trimBytes = trimBytes;
  }

  /**
   * Bytes handed in that are in no frame yet: those of an unfinished frame, and those that a stopped push has left.
   * Inside `onFrame`, the rest of the chunk counts. At the end of a stream, anything but 0 means that it was cut off.
   */
  get bufferedBytes(): number {
    return this.#end - this.#start + this.#chunk.byteLength - this.#at;
  }

  /**
   * Hands each frame that is whole to `onFrame`, in order; keeps the rest. `bytes` is borrowed until this returns. A frame
   * is a view of `bytes` where it lies in there whole, of a buffer of the framer's else.
   *
   * What `onFrame` throws is thrown here; the frame it was given counts as taken, and the bytes after it are kept for the
   * next push, as if it had called {@linkcode Framer.stop}.
   *
   * @returns How many frames `onFrame` was given.
   * @throws {FrameError} If a frame is over the maximum, or its length is wrong: as soon as that can be known, after the
   * frames before it. The framer has then failed for good, holds nothing, and throws for every push.
   * @throws {RangeError} If called from inside `onFrame`. The bytes are not taken.
   * @throws {TypeError} If `onFrame` has detached the bytes, say by transferring `frame.buffer`. The framer has failed.
   */
  push(bytes: Uint8Array, onFrame: OnFrame): number {
    if (!(bytes instanceof Uint8Array)) throw new TypeError("Cannot push: the chunk must be a Uint8Array");
    if (this.#phase !== "idle") {
      throw new RangeError("Cannot push: a push of this framer is under way, and they do not nest");
    }
    if (this.#failure !== undefined) throw this.#failed(this.#failure);
    const { byteLength } = bytes;
    let frames = 0;
    this.#chunk = bytes;
    this.#at = 0;
    this.#isStopped = false;
    try {
      for (let frame = this.#next(); frame !== undefined; frame = this.#next()) {
        frames++;
        this.#phase = "in onFrame";
        onFrame(frame);
        if (this.#isStopped || this.#isDetached(byteLength)) break;
      }
    } finally {
      this.#finish(byteLength);
    }
    if (this.#failure !== undefined) throw this.#failure;
    return frames;
  }

  /**
   * Inside `onFrame`: makes this the last frame of this push. The bytes after it are kept for the next push, which may be
   * one of no bytes, or for {@linkcode Framer.take}. Elsewhere it does nothing.
   */
  stop(): void {
    if (this.#phase === "in onFrame") this.#isStopped = true;
  }

  /**
   * Takes the {@linkcode Framer.bufferedBytes} away, as if they had never been pushed, for whoever reads the stream from
   * now on: the next protocol after an upgrade. Inside `onFrame` these are all bytes after the frame, so that the push
   * ends with it. The framer goes on with a new frame.
   *
   * @returns The bytes, the caller's own. None once the framer has failed.
   * @throws {RangeError} If called while a frame's end is looked for, say from `bodyBytes`.
   */
  take(): Uint8Array<ArrayBuffer> {
    if (this.#phase === "scanning") {
      throw new RangeError("Cannot take bytes from a framer that looks for a frame's end");
    }
    const held = this.#end - this.#start;
    const { byteLength } = this.#chunk;
    const taken = new Uint8Array(new ArrayBuffer(this.bufferedBytes));
    if (held > 0) taken.set(view(this.#buffer, this.#start, this.#end));
    if (this.#at < byteLength) taken.set(view(this.#chunk, this.#at, byteLength), held);
    this.#at = byteLength;
    this.reset();
    this.#recycle(); // a frame of the buffer stays valid: nothing is written before `onFrame` returns
    return taken;
  }

  /**
   * Looks for the end of a frame. Sees every byte of the stream once, in order: a frame that came in pieces is looked for
   * piece by piece, and where this was is the extension's to remember. What it throws fails the framer.
   *
   * @param bytes Borrowed. To be read from `from` to `to`, `from` < `to`.
   * @returns The index after the frame's last byte, from `from` + 1 to `to`; -1 if the frame goes on after `to`.
   */
  protected abstract scan(bytes: Uint8Array, from: number, to: number): number;

  /** Forgets the frame that `scan` is in the middle of: the next byte begins a new one. */
  protected abstract reset(): void;

  /** The next frame that is whole; `undefined` once everything is scanned, and what is left is in the buffer. */
  #next(): Uint8Array | undefined {
    if (this.#scanned < this.#end) { // a push was stopped
      // No further than what is kept: a search would run through the rest of the buffer.
      const end = this.#scan(view(this.#buffer, 0, this.#end), this.#scanned, this.#end);
      if (end !== -1) {
        const frame = this.#frame(this.#buffer, this.#start, end);
        this.#start = this.#scanned = end;
        return frame;
      }
      this.#scanned = this.#end;
    }
    const { byteLength } = this.#chunk;
    if (this.#at === byteLength) return undefined;
    const from = this.#at;
    const end = this.#scan(this.#chunk, from, byteLength);
    this.#at = end === -1 ? byteLength : end;
    if (end !== -1 && this.#start === this.#end) return this.#frame(this.#chunk, from, end);
    this.#keep(from, this.#at);
    this.#scanned = this.#end;
    if (end === -1) return undefined;
    const frame = this.#frame(this.#buffer, this.#start, this.#end);
    this.#start = this.#end;
    return frame;
  }

  #scan(bytes: Uint8Array, from: number, to: number): number {
    this.#phase = "scanning";
    try {
      const end = this.scan(bytes, from, to);
      if (end === -1 || (end > from && end <= to)) return end;
      throw new RangeError(`Cannot cut a frame: scan() returned ${end}, it must be -1, or ${from + 1} to ${to}`);
    } catch (error) {
      this.#failure = error instanceof Error ? error : new FrameError("bad length", textOf(error), { cause: error });
      throw error;
    }
  }

  #frame(bytes: Uint8Array, start: number, end: number): Uint8Array {
    return view(bytes, start + this.#skipBytes, end - this.#trimBytes);
  }

  /** Copies bytes of the chunk into the buffer, which grows to at most twice what it holds. */
  #keep(from: number, to: number): void {
    if (this.#start === this.#end) this.#recycle();
    const count = to - from;
    if (this.#end + count > this.#buffer.byteLength) this.#makeRoom(count);
    this.#buffer.set(
      from === 0 && to === this.#chunk.byteLength ? this.#chunk : view(this.#chunk, from, to),
      this.#end,
    );
    this.#end += count;
  }

  /** Amortized: what is moved is no more than what was taken out since, or put in since the buffer grew last. */
  #makeRoom(count: number): void {
    const { byteLength } = this.#buffer;
    const held = this.#end - this.#start;
    if (held <= this.#start && held + count <= byteLength) {
      this.#buffer.copyWithin(0, this.#start, this.#end);
    } else {
      const grown = new Uint8Array(new ArrayBuffer(Math.max(FRAMER_MIN_BYTES, 2 * held, held + count)));
      if (held > 0) grown.set(view(this.#buffer, this.#start, this.#end));
      this.#buffer = grown;
    }
    this.#scanned -= this.#start;
    this.#start = 0;
    this.#end = held;
  }

  /** Ends a push, whether it came to its end, was stopped, or something was thrown. */
  #finish(byteLength: number): void {
    if (this.#failure === undefined && this.#isDetached(byteLength)) {
      this.#failure = new TypeError("Cannot go on: onFrame has detached the bytes; hand a copy, frame.slice(), away");
    }
    if (this.#failure !== undefined) {
      this.#buffer = NOTHING;
      this.#start = this.#scanned = this.#end = 0;
    } else if (this.#at < byteLength) {
      this.#keep(this.#at, byteLength);
    } else if (this.#start === this.#end) {
      this.#recycle();
    }
    this.#chunk = NOTHING;
    this.#at = 0;
    this.#phase = "idle";
  }

  /** Whether bytes that are still to be read are gone. An array that is detached has no bytes. */
  #isDetached(byteLength: number): boolean {
    return this.#chunk.byteLength !== byteLength || (this.#start < this.#end && this.#buffer.byteLength === 0);
  }

  /** Begins the empty buffer anew, and gives a large one back. */
  #recycle(): void {
    this.#start = this.#scanned = this.#end = 0;
    if (this.#buffer.byteLength > FRAMER_KEPT_BYTES) this.#buffer = NOTHING;
  }

  #failed(cause: Error): FrameError {
    const code = cause instanceof FrameError ? cause.code : "bad length";
    return new FrameError(code, `Cannot push to a framer that has failed: close its connection (${cause.message})`, {
      cause,
    });
  }
}

/** Not `subarray`: of a subclass such as Node's Buffer that makes another Buffer, whose `slice()` does not copy. */
export function view(bytes: Uint8Array, from: number, to: number): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset + from, to - from);
}
