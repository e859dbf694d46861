import { List } from "./list.ts";

/** What a key may hold. */
export type Value = string | List | Map<string, string> | Set<string>;

/** A reply that begins with its kind, `ERR` or another; the request has changed nothing. */
export class CommandError extends Error {}

const WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value";
/** Keys looked at in one go by {@linkcode Database.expireSome}. */
const EXPIRE_SAMPLE = 200;
/** Unfinished scans that are remembered. */
const SCANS_MAX = 1_000;

/** Keys, what they hold, and until when. Times are ms since 1970. */
export class Database {
  readonly #values = new Map<string, Value>();
  /** Of the keys that have one. */
  readonly #expiries = new Map<string, number>();
  #sampled: Iterator<[string, number]> = this.#expiries.entries();
  readonly #scans = new Map<number, Iterator<string>>();
  #lastScan = 0;

  /** Keys, with those that have expired unnoticed. */
  get size(): number {
    return this.#values.size;
  }

  /** Keys that are going to expire. */
  get expiring(): number {
    return this.#expiries.size;
  }

  /** Every key that has not expired. */
  keys(): string[] {
    return [...this.#values.keys()].filter((key) => this.has(key));
  }

  /** Whether there is one. */
  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  /** What a key holds. */
  get(key: string): Value | undefined {
    if (this.#expiries.size > 0) this.#expire(key);
    return this.#values.get(key);
  }

  /** The string that a key holds, if it holds anything. @throws {CommandError} If that is not a string. */
  string(key: string): string | undefined {
    const value = this.get(key);
    if (value === undefined || typeof value === "string") return value;
    throw new CommandError(WRONG_TYPE);
  }

  /** As {@linkcode Database.string}, for a list. */
  list(key: string): List | undefined {
    return this.#instance(key, List);
  }

  /** As {@linkcode Database.string}, for a hash. */
  hash(key: string): Map<string, string> | undefined {
    return this.#instance<Map<string, string>>(key, Map);
  }

  /** As {@linkcode Database.string}, for a set. */
  set(key: string): Set<string> | undefined {
    return this.#instance<Set<string>>(key, Set);
  }

  /** Gives a key another value, and leaves when it expires, unless it has. */
  update<T extends Value>(key: string, value: T): T {
    if (this.#expiries.size > 0) this.#expire(key);
    this.#values.set(key, value);
    return value;
  }

  /** Gives a key another value, for ever. */
  replace(key: string, value: Value): void {
    if (this.#expiries.size > 0) this.#expiries.delete(key);
    this.#values.set(key, value);
  }

  /** @returns Whether there was such a key. */
  delete(key: string): boolean {
    if (this.#expiries.size > 0) {
      this.#expire(key);
      this.#expiries.delete(key);
    }
    return this.#values.delete(key);
  }

  /** Deletes a key whose list, hash or set has become empty. */
  deleteIfEmpty(key: string, { size }: { readonly size: number }): void {
    if (size === 0) this.delete(key);
  }

  /** Deletes everything. */
  clear(): void {
    this.#values.clear();
    this.#expiries.clear();
    this.#scans.clear();
  }

  /** When a key that there is expires, if it does. */
  expiry(key: string): number | undefined {
    return this.#expiries.get(key);
  }

  /** Lets a key that there is expire; never for `undefined`. */
  expireAt(key: string, time: number | undefined): void {
    if (time === undefined) this.#expiries.delete(key);
    else this.#expiries.set(key, time);
  }

  /** Looks at some keys that are going to expire, and deletes those whose time has come. @returns How many these were. */
  expireSome(): number {
    const before = this.#expiries.size;
    const now = Date.now();
    for (let i = 0; i < EXPIRE_SAMPLE; i++) {
      const next = this.#sampled.next();
      if (next.done === true) {
        this.#sampled = this.#expiries.entries();
        break;
      }
      const [key, time] = next.value;
      if (time <= now) this.delete(key);
    }
    return before - this.#expiries.size;
  }

  /**
   * Some of the keys. Over a whole scan, each key that was there all the time is told at least once.
   *
   * @param cursor 0 to begin. One that is not known, or not any more, begins anew.
   * @returns The cursor for what follows, 0 if nothing does; and about `count` keys.
   */
  scan(cursor: number, count: number): [next: number, keys: string[]] {
    const keys = this.#scans.get(cursor) ?? this.#values.keys();
    this.#scans.delete(cursor);
    const found: string[] = [];
    for (let i = 0; i < count; i++) {
      const next = keys.next();
      if (next.done === true) return [0, found];
      if (this.has(next.value)) found.push(next.value);
    }
    if (this.#scans.size === SCANS_MAX) this.#scans.delete(this.#scans.keys().next().value!);
    this.#scans.set(++this.#lastScan, keys);
    return [this.#lastScan, found];
  }

  #instance<T extends Value & object>(key: string, type: new (...args: never[]) => T): T | undefined {
    const value = this.get(key);
    if (value === undefined || value instanceof type) return value as T | undefined;
    throw new CommandError(WRONG_TYPE);
  }

  #expire(key: string): void {
    const time = this.#expiries.get(key);
    if (time === undefined || time > Date.now()) return;
    this.#expiries.delete(key);
    this.#values.delete(key);
  }
}

/** What TYPE says of a value. */
export function typeOf(value: Value | undefined): string {
  if (value === undefined) return "none";
  if (typeof value === "string") return "string";
  return value instanceof List ? "list" : value instanceof Map ? "hash" : "set";
}
