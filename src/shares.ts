import type { SockaddrFields } from "../ffi/layout.ts";
import { TokenBucket } from "./token_bucket.ts";

/** What one address may have at most. `Infinity` for no limit. */
export interface ShareLimits {
  /** Connections at a time. */
  readonly connections: number;
  /** Connections accepted in a second, and at once after a quiet one. */
  readonly acceptsPerSecond: number;
}

/** Why an address is refused. */
export type ShareRefusal = "too many connections" | "too many a second";

interface Share {
  connections: number;
  readonly bucket: TokenBucket;
}

/** Addresses whose rate is remembered while they have no connection. Above it the one seen longest ago is forgotten. */
const REMEMBERED = 8192;

/**
 * Who holds how much: connections and accepts by address, IPv6 by its /64, which is what one customer has (RFC 6177).
 * Memory is bounded by the connections there are, and {@linkcode REMEMBERED}.
 */
export class Shares {
  readonly #limits: ShareLimits;
  /** In the order in which they were seen last. */
  readonly #shares: Map<string, Share> = new Map();
  /** How many of them have no connection. */
  #idle = 0;

  /** Nobody holds anything yet. */
  constructor(limits: ShareLimits) {
    this.#limits = limits;
  }

  /** How many addresses are remembered. */
  get size(): number {
    return this.#shares.size;
  }

  /** Why `key` is to have no further connection; `undefined` where it may. Counts nothing. */
  refusal(key: string, nowMs: number): ShareRefusal | undefined {
    const share = this.#shares.get(key);
    if (share === undefined) return undefined;
    this.#seen(key, share);
    if (share.connections >= this.#limits.connections) return "too many connections";
    return share.bucket.available(nowMs) >= 1 ? undefined : "too many a second";
  }

  /** A connection of `key` has come, that was not to be refused. */
  enter(key: string, nowMs: number): void {
    let share = this.#shares.get(key);
    if (share === undefined) {
      share = { connections: 0, bucket: new TokenBucket(this.#limits.acceptsPerSecond, nowMs) };
      this.#idle++;
    }
    this.#seen(key, share);
    share.bucket.take(nowMs);
    if (share.connections++ === 0) this.#idle--;
  }

  /** A connection of `key` has gone. */
  release(key: string, nowMs: number): void {
    const share = this.#shares.get(key)!;
    if (--share.connections > 0) return;
    this.#idle++;
    if (share.bucket.isFull(nowMs)) this.#delete(key);
    this.#forget();
  }

  #seen(key: string, share: Share): void {
    this.#shares.delete(key);
    this.#shares.set(key, share);
  }

  /** Forgets those that are idle, the ones seen longest ago first, down to what may be remembered. */
  #forget(): void {
    if (this.#idle <= REMEMBERED) return;
    // Busy ones in the way are moved behind: each is passed at most once for each that is forgotten.
    for (const [key, share] of this.#shares) {
      if (share.connections > 0) {
        this.#seen(key, share);
        continue;
      }
      this.#delete(key);
      if (this.#idle <= REMEMBERED) return;
    }
  }

  #delete(key: string): void {
    this.#shares.delete(key);
    this.#idle--;
  }
}

/** What a peer counts as; `undefined` for a Unix peer, which has no address. An IPv4-mapped address is the IPv4 one. */
export function shareKey(fields: SockaddrFields): string | undefined {
  switch (fields.family) {
    case "inet":
      return fields.address.join(".");
    case "inet6": {
      const { address } = fields;
      const isMapped = address.subarray(0, 10).every((byte) => byte === 0) && address[10] === 0xff &&
        address[11] === 0xff;
      return isMapped ? address.subarray(12).join(".") : address.subarray(0, 8).join(":");
    }
    case "unix":
      return undefined;
  }
}
