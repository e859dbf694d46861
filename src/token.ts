import { assert } from "./assert.ts";

/** Slots that a table has room for at first. */
export const FIRST_SLOTS = 64;

/** The name of one registration. The slot is reused, the pair is not (until 2^32 registrations of one slot later). */
export interface Token {
  /** Index into the table. */
  readonly slot: number;
  /** How many registrations this slot had before, modulo 2^32. */
  readonly generation: number;
}

/** Values under tokens. A token whose value was removed finds nothing: stale events are normal. */
export class SlotTable<T> {
  readonly #values: (T | undefined)[] = [];
  #generations: Uint32Array = new Uint32Array(FIRST_SLOTS);
  readonly #free: number[] = [];

  /** How many values there are. */
  get size(): number {
    return this.#values.length - this.#free.length;
  }

  /** How many slots were ever used at once; tokens have smaller ones. */
  get slots(): number {
    return this.#values.length;
  }

  /** Registers `value`. @returns `token`, written to. */
  add(value: T, token: { slot: number; generation: number } = { slot: -1, generation: 0 }): Token {
    const slot = this.#free.pop() ?? this.#values.length;
    this.#generations = withRoomFor(slot, this.#generations);
    this.#values[slot] = value;
    token.slot = slot;
    token.generation = this.#generations[slot]!;
    return token;
  }

  /** The value registered as this pair, or `undefined` once removed. */
  get(slot: number, generation: number): T | undefined {
    return this.#generations[slot] === generation ? this.#values[slot] : undefined;
  }

  /** The value that is in `slot` now, whichever its generation. */
  at(slot: number): T | undefined {
    return this.#values[slot];
  }

  /** The generation that the next or present value in `slot` has. */
  generationAt(slot: number): number {
    return this.#generations[slot]!;
  }

  /** Removes what `token` names; once. */
  remove({ slot, generation }: Token): void {
    assert(this.get(slot, generation) !== undefined, "a token is removed once");
    this.#values[slot] = undefined;
    this.#generations[slot] = (generation + 1) >>> 0; // u32, as the kernel stores it
    this.#free.push(slot);
  }
}

/** `words` if it has one for `slot`, which is the first that it may lack; or else a longer copy. */
export function withRoomFor(slot: number, words: Uint32Array): Uint32Array {
  if (slot < words.length) return words;
  const longer = new Uint32Array(2 * slot);
  longer.set(words);
  return longer;
}
