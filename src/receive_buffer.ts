import { RECEIVE_BUFFER_BYTES, RECEIVE_VIEWS } from "./limits.ts";

/**
 * What the connections of a loop receive into: one buffer for all, and views of its first bytes, kept so that to hand
 * some over allocates nothing. Whoever gets a view has it on loan: the next read overwrites what is in it.
 */
export class ReceiveBuffer {
  #bytes: Uint8Array = new Uint8Array(new ArrayBuffer(RECEIVE_BUFFER_BYTES));
  /** By the lower bits of their length. */
  readonly #views: (Uint8Array | undefined)[] = new Array(RECEIVE_VIEWS).fill(undefined);

  /** All of it. If user code detached it (by transferring it to another thread), this is a new one. */
  get bytes(): Uint8Array {
    if (this.#bytes.byteLength === 0) this.#bytes = new Uint8Array(new ArrayBuffer(RECEIVE_BUFFER_BYTES));
    return this.#bytes;
  }

  /** Its first `length` bytes, 1 or more. */
  first(length: number): Uint8Array {
    const place = length % RECEIVE_VIEWS;
    const view = this.#views[place];
    if (view !== undefined && view.byteLength === length) return view; // one that was detached has no bytes
    return this.#views[place] = this.bytes.subarray(0, length);
  }
}
