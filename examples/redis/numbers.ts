import { CommandError } from "./database.ts";

const MIN = -(2n ** 63n);
const MAX = 2n ** 63n - 1n;
/** Digits of a number that is exact as a JavaScript number, and whose sum with another one is too. */
const EXACT_DIGITS = 15;

/** A 64-bit number, written without a plus, leading zeros or spaces; `undefined` if the text is none. */
export function wholeNumber(text: string): bigint | undefined {
  if (text.length > 20 || !/^(?:0|-?[1-9][0-9]*)$/.test(text)) return undefined;
  const number = BigInt(text);
  return number >= MIN && number <= MAX ? number : undefined;
}

/** @throws {CommandError} If `text` is not a 64-bit number. */
export function integer(text: string): bigint {
  const number = wholeNumber(text);
  if (number === undefined) throw new CommandError("ERR value is not an integer or out of range");
  return number;
}

/** As {@linkcode integer}, for an index: beyond what is exact, it is beyond whatever it points into as well. */
export function index(text: string): number {
  return Number(integer(text));
}

/** @throws {CommandError} If one is not a 64-bit number, or the sum is none. */
export function sum(text: string, other: string): string {
  const number = exactNumber(text) + exactNumber(other);
  if (!Number.isNaN(number)) return String(number);
  const exact = integer(text) + integer(other);
  if (exact < MIN || exact > MAX) throw new CommandError("ERR increment or decrement would overflow");
  return String(exact);
}

/** @throws {CommandError} If `text` is not a 64-bit number, or has no opposite that is one. */
export function negative(text: string): string {
  const number = integer(text);
  if (number === MIN) throw new CommandError("ERR decrement would overflow");
  return String(-number);
}

/** The number that a text of few digits says; NaN for all others. Faster than the exact way. */
function exactNumber(text: string): number {
  const { length } = text;
  if (length === 0 || length > EXACT_DIGITS) return NaN;
  const first = text.charCodeAt(0);
  if (first === 48) return length === 1 ? 0 : NaN;
  let number = 0;
  for (let i = first === 45 ? 1 : 0; i < length; i++) {
    const digit = text.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) return NaN;
    number = 10 * number + digit;
  }
  if (first !== 45) return number;
  return length > 1 && text.charCodeAt(1) !== 48 ? -number : NaN;
}
