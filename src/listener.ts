import { F, O, POLL, SOL, TCP } from "../ffi/constants.ts";
import { ERRNO } from "../ffi/errno.ts";
import { decodeTcpInfo, PollSet, TCP_INFO_BYTES } from "../ffi/layout.ts";
import type { Syscalls } from "../ffi/syscalls.ts";
import { isListening } from "./socket.ts";

/** The listener that an acceptor takes over. */
export interface ListenerInfo {
  /** Non-blocking. Closed by the acceptor's `close`. */
  readonly fd: number;
  /** What listen(2) was told. */
  readonly backlog: number;
  /**
   * TCP on an explicitly chosen port, with SO_REUSEADDR: as the last resort its queue may be reset by shutting it down.
   * A port from the kernel would change, and without the option listen(2) fails while a client is connected.
   */
  readonly canResetQueue: boolean;
  /** Where it is, for the text of errors. */
  readonly url?: string;
}

/** What can be asked about a listener and its queue when accept4(2) has failed: errno alone decides nothing for good. */
export class Listener implements ListenerInfo {
  /** Borrowed. */
  readonly fd: number;
  /** What listen(2) was told. */
  readonly backlog: number;
  /** See {@linkcode ListenerInfo}. */
  readonly canResetQueue: boolean;
  /** See {@linkcode ListenerInfo}. */
  readonly url: string | undefined;
  readonly #sys: Syscalls;
  readonly #tcpInfo: Uint8Array = new Uint8Array(new ArrayBuffer(TCP_INFO_BYTES));
  readonly #pollSet: PollSet = new PollSet(1);

  /** Makes no call yet. */
  constructor({ fd, backlog, canResetQueue, url }: ListenerInfo, sys: Syscalls) {
    this.fd = fd;
    this.backlog = backlog;
    this.canResetQueue = canResetQueue;
    this.url = url;
    this.#sys = sys;
  }

  /** Clients in the queue; `undefined` where the kernel does not tell, as on Unix sockets. TCP_INFO, tcp(7). */
  get waiting(): number | undefined {
    const length = this.#sys.getsockopt(this.fd, SOL.tcp, TCP.info, this.#tcpInfo);
    return length < 0 ? undefined : decodeTcpInfo(this.#tcpInfo).unacked;
  }

  /** Whether the queue is not empty; works for every kind of socket. */
  get isSomebodyWaiting(): boolean {
    this.#pollSet.set(0, this.fd, POLL.in);
    return this.#sys.poll(this.#pollSet, 1, 0) !== 0;
  }

  /** Whether it is a listening socket still. */
  get isListening(): boolean {
    try {
      return isListening(this.fd, "accept connections", this.#sys);
    } catch {
      return false; // EBADF or ENOTSOCK: it was closed behind our back
    }
  }

  /** Whether no descriptor (EMFILE), or no file (ENFILE), is to be had: asked once more, in another way. */
  isTableFull(errno: number): boolean {
    const fd = errno === ERRNO.ENFILE[0]
      ? this.#sys.open("/dev/null", O.rdonly | O.cloexec)
      : this.#sys.fcntl(this.fd, F.dupfdCloexec, 0);
    if (fd < 0) return true;
    this.#sys.close(fd);
    return false;
  }
}
