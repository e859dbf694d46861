import { ERRNO, SystemError } from "../ffi/errno.ts";
import { encodeSockaddr } from "../ffi/layout.ts";
import { type Address, encodeAddress, formatAddress } from "./address.ts";
import { assert } from "./assert.ts";
import { Interest } from "./interest.ts";
import { CONNECT_RETRY_MAX_MS, CONNECT_RETRY_MIN_MS } from "./limits.ts";
import type { EventLoop } from "./loop.ts";
import type { Source } from "./poller.ts";
import { localAddress, remoteAddress, resetOnClose, sendAtOnce, socketError, streamSocket } from "./socket.ts";
import type { Timer } from "./timers.ts";
import type { Token } from "./token.ts";

/** What would help where there is no descriptor, by errno. */
const CURES: Readonly<Record<number, string>> = {
  [ERRNO.EMFILE[0]]: "raise this process's limit of descriptors (ulimit -n), or connect when some are free",
  [ERRNO.ENFILE[0]]: "raise the system's limit of open files (fs.file-max), or connect when some are free",
};

/** What would help where `errno` says that there is no descriptor; `undefined` for any other errno. */
export function descriptorCure(errno: number): string | undefined {
  return CURES[errno];
}

/** One connect(2) to one address, and its socket, which it owns until {@linkcode Attempt.take}. */
export class Attempt implements Source {
  /** Where to. */
  readonly address: Address;
  readonly #loop: EventLoop;
  readonly #action: string;
  readonly #onEnd: (attempt: Attempt, error: unknown) => void;
  #sockaddr: Uint8Array = new Uint8Array();
  /** -1 before `start` and once it is somebody else's or closed. */
  #fd = -1;
  #token: Token | undefined;
  #retry: Timer | undefined;
  #retryMs: number = CONNECT_RETRY_MIN_MS;

  /** @param onEnd Called once, in a turn: `error` is absent if it is connected. Not called after `close`. */
  constructor(loop: EventLoop, address: Address, onEnd: (attempt: Attempt, error: unknown) => void) {
    this.#loop = loop;
    this.address = address;
    this.#onEnd = onEnd;
    this.#action = `connect to ${JSON.stringify(formatAddress(address))}`;
  }

  /** Begins. Returns why it failed at once: then `onEnd` is not called, and nothing is left to close. */
  start(): unknown {
    const { sys } = this.#loop;
    try {
      const fields = encodeAddress("connect to", this.address);
      this.#sockaddr = encodeSockaddr(fields);
      const fd = streamSocket(fields.family, sys);
      if (fd < 0) return new SystemError(this.#action, "socket", -fd, descriptorCure(-fd));
      this.#fd = fd;
      if (fields.family !== "unix") sendAtOnce(fd, this.#action, sys);
      this.#connect();
      return undefined;
    } catch (error) {
      this.close();
      return error;
    }
  }

  /** The connected socket: the caller's from now on. */
  take(): number {
    const fd = this.#fd;
    assert(fd !== -1 && this.#token === undefined, "what is taken is connected, and nobody else's");
    this.#fd = -1;
    return fd;
  }

  /** Gives up. Safe twice, and after `take`. */
  close(): void {
    this.#retry?.cancel();
    this.#unregister();
    if (this.#fd === -1) return;
    this.#loop.sys.close(this.#fd);
    this.#fd = -1;
  }

  /** For the poller: the kernel has made up its mind. */
  onReady(): void {
    this.#unregister();
    this.#end(this.#outcome());
  }

  #end(error: unknown): void {
    if (error !== undefined) this.close();
    this.#onEnd(this, error);
  }

  #connect(): void {
    const isUnix = this.address.transport === "unix";
    let result: number;
    do {
      result = this.#loop.sys.connect(this.#fd, this.#sockaddr);
      // Interrupted, a Unix socket is as before, while TCP goes on like EINPROGRESS: connect(2), ERRORS.
    } while (isUnix && result === -ERRNO.EINTR[0]);
    switch (-result) {
      case 0: // told in a turn like any other, so that no handler runs inside another's stack
      case ERRNO.EINPROGRESS[0]:
      case ERRNO.EINTR[0]:
        return this.#watch();
      case ERRNO.EAGAIN[0]:
        // The listener's queue is full, and nothing tells when it is not. For TCP it is no such thing: no port is free.
        if (isUnix) return this.#connectLater();
    }
    throw new SystemError(this.#action, "connect", -result);
  }

  #connectLater(): void {
    this.#retry = this.#loop.setTimer(this.#retryMs, () => {
      try {
        this.#connect();
      } catch (error) {
        this.#end(error);
      }
    });
    this.#retryMs = Math.min(2 * this.#retryMs, CONNECT_RETRY_MAX_MS);
  }

  #watch(): void {
    const token = this.#loop.poller.add(this.#fd, Interest.writable, this);
    if (typeof token === "number") throw new SystemError(this.#action, "epoll_ctl", -token);
    this.#token = token;
  }

  #unregister(): void {
    if (this.#token === undefined) return;
    this.#loop.poller.remove(this.#token);
    this.#token = undefined;
  }

  /** Why it failed, or `undefined` if it is connected. */
  #outcome(): unknown {
    const { sys } = this.#loop;
    try {
      const errno = socketError(this.#fd, sys);
      if (errno !== 0) return new SystemError(this.#action, "connect", errno);
      if (this.address.transport === "unix") return undefined;
      const remote = remoteAddress(this.#fd, sys);
      if (remote === undefined) return new SystemError(this.#action, "connect", ERRNO.ENOTCONN[0]);
      if (formatAddress(remote) !== formatAddress(localAddress(this.#fd, sys))) return undefined;
      // Nobody listens, but the kernel chose for us the very port we asked for, and the socket has met itself: TCP's
      // simultaneous open, RFC 9293, section 3.5. By a reset, or else the port would not be free for a minute.
      resetOnClose(this.#fd, sys);
      return new SystemError(this.#action, "connect", ERRNO.ECONNREFUSED[0]);
    } catch (error) {
      return error;
    }
  }
}
