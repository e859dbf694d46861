import { constants } from "node:buffer";
import { textOf } from "./text.ts";

/** Longest argument, and longest string that a key holds: as long as Redis has it, or this runtime. */
export const ARGUMENT_MAX_BYTES: number = Math.min(512 * 1024 * 1024, constants.MAX_STRING_LENGTH);
/** Most arguments of a request. */
export const ARGUMENTS_MAX: number = 2 ** 31 - 1;
/** Longest inline request, and longest line that says a length. */
const LINE_MAX_BYTES = 64 * 1024;
/** Largest buffer that is kept for later by a client whose requests are all whole. */
const KEPT_BYTES = 4 * 1024;

const [CR, LF, DOLLAR, STAR, MINUS, ZERO] = [13, 10, 36, 42, 45, 48];
const NOTHING = new Uint8Array(0);

/** The client has left the protocol: where its next request begins is not known. */
export class ProtocolError extends Error {}

/**
 * Cuts what a client sends into requests: arrays of bulk strings, or lines of words. A request that lies in a chunk whole
 * is read from there. Of one that does not, each argument is taken when it is whole, and only the rest is copied, so that
 * nothing is looked at twice and memory follows what has arrived, not what was announced.
 */
export class RequestReader {
  #args: string[] = [];
  /** Arguments still to come. */
  #missing = 0;
  /** Length of the next one; -1 if it is not known yet. */
  #length = -1;
  /** Bytes of earlier chunks that are not taken yet: those of `#kept` up to `#keptEnd`. */
  #kept: Uint8Array = NOTHING;
  #keptEnd = 0;

  /**
   * Hands each request that is whole to `take`, and keeps the rest.
   *
   * @param bytes Borrowed.
   * @param take Says whether to go on. If not, the rest is kept for the next call, which may be one without bytes.
   * @throws {ProtocolError} After the requests before it.
   */
  read(bytes: Uint8Array, take: (args: string[]) => boolean): void {
    if (this.#keptEnd === 0) {
      const taken = this.#scan(bytes, bytes.byteLength, take);
      if (taken < bytes.byteLength) this.#keep(bytes.subarray(taken));
    } else {
      if (bytes.byteLength > 0) this.#keep(bytes);
      const taken = this.#scan(this.#kept, this.#keptEnd, take);
      if (taken > 0) this.#kept.copyWithin(0, taken, this.#keptEnd);
      this.#keptEnd -= taken;
      if (this.#keptEnd === 0 && this.#kept.byteLength > KEPT_BYTES) this.#kept = NOTHING;
    }
  }

  /** @returns The index of the first byte that was not taken. */
  #scan(bytes: Uint8Array, end: number, take: (args: string[]) => boolean): number {
    let at = 0;
    while (at < end) {
      if (this.#missing === 0) {
        if (bytes[at] !== STAR) {
          const lineEnd = bytes.indexOf(LF, at);
          if (lineEnd === -1 || lineEnd >= end) return this.#unfinishedLine(at, end, "too big inline request");
          const args = wordsOf(bytes, at, bytes[lineEnd - 1] === CR && lineEnd > at ? lineEnd - 1 : lineEnd);
          at = lineEnd + 1;
          if (args.length > 0 && !take(args)) return at;
          continue;
        }
        const lineEnd = endOfLine(bytes, at, end);
        if (lineEnd === -1) return this.#unfinishedLine(at, end, "too big mbulk count string");
        const count = numberAt(bytes, at + 1, lineEnd);
        if (!(count <= ARGUMENTS_MAX)) throw new ProtocolError("invalid multibulk length");
        at = lineEnd + 2;
        if (count <= 0) continue;
        this.#missing = count;
        this.#args = [];
      }
      if (this.#length === -1) {
        const lineEnd = endOfLine(bytes, at, end);
        if (lineEnd === -1) return this.#unfinishedLine(at, end, "too big bulk count string");
        if (bytes[at] !== DOLLAR) {
          throw new ProtocolError(`expected '$', got '${String.fromCharCode(bytes[at]!)}'`);
        }
        const length = numberAt(bytes, at + 1, lineEnd);
        if (!(length >= 0 && length <= ARGUMENT_MAX_BYTES)) throw new ProtocolError("invalid bulk length");
        at = lineEnd + 2;
        this.#length = length;
      }
      const argumentEnd = at + this.#length;
      if (argumentEnd + 2 > end) return at;
      this.#args.push(textOf(bytes, at, argumentEnd));
      this.#length = -1;
      at = argumentEnd + 2;
      if (--this.#missing === 0 && !take(this.#args)) return at;
    }
    return at;
  }

  #unfinishedLine(at: number, end: number, complaint: string): number {
    if (end - at > LINE_MAX_BYTES) throw new ProtocolError(complaint);
    return at;
  }

  /** Doubles its memory as needed, though not beyond the end of an argument whose length is known. */
  #keep(bytes: Uint8Array): void {
    const needed = this.#keptEnd + bytes.byteLength;
    if (needed > this.#kept.byteLength) {
      const expected = this.#length === -1 ? Infinity : this.#length + 2;
      const grown = new Uint8Array(Math.max(needed, 256, Math.min(2 * needed, expected)));
      grown.set(this.#kept.subarray(0, this.#keptEnd));
      this.#kept = grown;
    }
    this.#kept.set(bytes, this.#keptEnd);
    this.#keptEnd = needed;
  }
}

/** The index of the carriage return that ends a line, if the byte after it is here too; else -1. */
function endOfLine(bytes: Uint8Array, from: number, end: number): number {
  for (let i = from; i < end - 1; i++) {
    if (bytes[i] === CR) return i;
  }
  return -1;
}

/** The decimal number between two indices, which is exact if it matters; NaN if there is none. */
function numberAt(bytes: Uint8Array, from: number, to: number): number {
  const isNegative = bytes[from] === MINUS;
  const first = isNegative ? from + 1 : from;
  if (first === to || to - first > 19 || (bytes[first] === ZERO && (to > first + 1 || isNegative))) return NaN;
  let number = 0;
  for (let i = first; i < to; i++) {
    const digit = bytes[i]! - ZERO;
    if (digit < 0 || digit > 9) return NaN;
    number = 10 * number + digit;
  }
  return isNegative ? -number : number;
}

const SPACES = " \n\r\t\v\f\0";
const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", b: "\b", a: "\x07" };

/** The words of an inline request: plain, 'quoted', or "quoted \x41nd escaped\n". */
function wordsOf(bytes: Uint8Array, from: number, to: number): string[] {
  const line = textOf(bytes, from, to);
  const words: string[] = [];
  for (let i = 0;;) {
    while (i < line.length && SPACES.includes(line[i]!)) i++;
    if (i === line.length || line[i] === "\0") return words;
    let word = "";
    while (i < line.length && !SPACES.includes(line[i]!)) {
      const quote = line[i]!;
      if (quote !== '"' && quote !== "'") {
        word += line[i++];
        continue;
      }
      for (i++; line[i] !== quote;) {
        const [text, length] = quotedAt(line, i, quote);
        word += text;
        i += length;
      }
      i++;
      if (i < line.length && !SPACES.includes(line[i]!)) throw unbalanced();
    }
    words.push(word);
  }
}

/** One character inside quotes, and how many it takes to write it. */
function quotedAt(line: string, at: number, quote: string): [text: string, length: number] {
  if (at >= line.length) throw unbalanced();
  const next = line[at + 1];
  if (line[at] !== "\\" || next === undefined) return [line[at]!, 1];
  if (quote === "'") return next === "'" ? ["'", 2] : ["\\", 1];
  const hex = /^\\x([0-9a-f]{2})/i.exec(line.slice(at, at + 4));
  return hex === null ? [ESCAPES[next] ?? next, 2] : [String.fromCharCode(parseInt(hex[1]!, 16)), 4];
}

function unbalanced(): ProtocolError {
  return new ProtocolError("unbalanced quotes in request");
}
