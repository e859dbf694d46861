import { CommandError } from "./database.ts";
import { integer } from "./numbers.ts";

const MAX = 2n ** 63n - 1n;
const MIN = -(2n ** 63n);

/** How an amount of time is meant. */
export interface TimeUnit {
  readonly unitMs: bigint;
  /** Since 1970, and not since now. */
  readonly isAbsolute: boolean;
}

/**
 * The time that `amount` says, in ms since 1970.
 *
 * @throws {CommandError} If it is less than `least` or more than 64 bits of milliseconds.
 */
export function expiryTime(amount: string, { unitMs, isAbsolute }: TimeUnit, command: string, least: bigint): number {
  const ms = integer(amount) * unitMs;
  const time = isAbsolute ? ms : ms + BigInt(Date.now());
  if (ms < least || ms < MIN || ms > MAX || time > MAX) {
    throw new CommandError(`ERR invalid expire time in '${command}' command`);
  }
  return Number(time);
}
