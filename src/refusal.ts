import { MSG, SHUT } from "../ffi/constants.ts";
import type { Syscalls } from "../ffi/syscalls.ts";
import { FAREWELL_MAX_BYTES } from "./limits.ts";
import { resetOnClose } from "./socket.ts";

/**
 * How a client is refused: `"fin"`, an orderly end of stream; `"rst"`, a reset (on a Unix socket a plain close); or any
 * other text or bytes, a farewell in the protocol's own words, then an orderly end.
 */
export type Refuse = "fin" | "rst" | (string & Record<never, never>) | Uint8Array;

/** Most of a client's unread bytes that are thrown away before it is refused; with more, the close becomes a reset. */
const DRAIN_BYTES = 1024 * 1024;

// Its pages are only ever written for Unix sockets: on TCP the kernel throws the bytes away by itself (MSG_TRUNC).
let drainBuffer: Uint8Array | undefined;

/** Tells a client that it is refused. Makes no descriptor and closes none: the caller closes, or replaces, the client's. */
export class Refusal {
  readonly #sys: Syscalls;
  readonly #farewell: Uint8Array | undefined;
  readonly #isReset: boolean;
  readonly #drain: Uint8Array = drainBuffer ??= new Uint8Array(new ArrayBuffer(DRAIN_BYTES));

  /**
   * `encode` makes UTF-8 of a farewell.
   *
   * @throws {RangeError} If the farewell is longer than {@linkcode FAREWELL_MAX_BYTES}.
   */
  constructor(refuse: Refuse, encode: (text: string) => Uint8Array, sys: Syscalls) {
    this.#sys = sys;
    this.#isReset = refuse === "rst";
    if (refuse === "fin" || refuse === "rst") return;
    const farewell = typeof refuse === "string" ? encode(refuse) : refuse.slice();
    if (farewell.byteLength > FAREWELL_MAX_BYTES) {
      throw new RangeError(
        `Cannot use a farewell of ${farewell.byteLength} bytes: at most ${FAREWELL_MAX_BYTES} are sure to be sent whole`,
      );
    }
    if (farewell.byteLength > 0) this.#farewell = farewell;
  }

  /**
   * Three calls at most, none of which waits. A close with unread bytes is a reset, which can overtake the farewell: so
   * they are thrown away last. tcp(7), RFC 9293, section 3.6.1.
   */
  tell(fd: number): void {
    if (this.#isReset) return resetOnClose(fd, this.#sys);
    if (this.#farewell !== undefined) {
      // A new connection has room for it. A client that has gone already needs no telling.
      this.#sys.send(fd, this.#farewell, MSG.nosignal | MSG.dontwait);
      this.#sys.shutdown(fd, SHUT.wr);
    }
    this.#sys.recv(fd, this.#drain, MSG.trunc | MSG.dontwait);
  }
}
