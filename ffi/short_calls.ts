/**
 * recv(2) and send(2) of stream sockets for Node, which calls C functions of up to three parameters from compiled code,
 * and others, as these are, by a generic path that took 0.6 µs more (26.10). Without flags the two are read(2) and
 * write(2), on a stream socket: not on one of datagrams, for which nothing is something to send.
 */
import type { CBuffer, Transfer } from "./backend.ts";

/** `read` and `write`, which take the address of the bytes: to find it takes as long as the rest of the call. */
export type ShortTransfer = (fd: number, address: bigint, length: number) => number;

/** Of larger buffers the address is not kept: who keeps it keeps the buffer. */
const KEPT_MAX_BYTES = 64 * 1024;

/** The address of the buffer that was asked for last, if it is asked for again: receive buffers always are. */
class LastAddress {
  readonly #addressOf: (bytes: ArrayBufferView) => bigint;
  /** Stays where it is: only small ones move, and none whose address was asked for. */
  #bytes: CBuffer = null;
  #address = 0n;

  constructor(addressOf: (bytes: ArrayBufferView) => bigint) {
    this.#addressOf = addressOf;
  }

  of(bytes: NonNullable<CBuffer>): bigint {
    if (bytes === this.#bytes) return this.#address;
    const address = this.#addressOf(bytes);
    if (bytes.byteLength > KEPT_MAX_BYTES) return address;
    this.#bytes = bytes;
    return this.#address = address;
  }
}

/** `call`, or where its flags are `flags`, which the short one stands for, that. */
export function shortened(
  call: Transfer,
  short: ShortTransfer,
  flags: number,
  addressOf: (bytes: ArrayBufferView) => bigint,
): Transfer {
  const last = new LastAddress(addressOf);
  return (fd, bytes, length, given) =>
    given === flags && bytes !== null ? short(fd, last.of(bytes), length) : call(fd, bytes, length, given);
}
