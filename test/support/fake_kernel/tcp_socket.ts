import { EPOLL, SHUT } from "../../../ffi/constants.ts";
import { ERRNO } from "../../../ffi/errno.ts";
import type { InetFields } from "../../../ffi/layout.ts";
import { OpenFile } from "./open_file.ts";
import { type Inheritance, TCP_STATE, type TcpEnd } from "./tcp_end.ts";

/** A TCP socket without a peer: fresh, listening, or no longer listening. */
export class TcpSocket extends OpenFile {
  readonly kind = "socket";
  /** What getsockname(2) says. */
  local: InetFields = { family: "inet", address: new Uint8Array(4), port: 0 };
  /** Most that wait, less one: listen(2). */
  backlog = 0;
  /** SO_LINGER with 0 seconds: inherited by what is accepted. */
  resetsOnClose = false;
  /** Finished handshakes, oldest first. */
  readonly queue: TcpEnd[] = [];
  readonly #pickPort: () => number;
  /** Whether bind(2) named the port: else it is lost when the socket stops listening. */
  #isPortChosen = false;
  #hasPort = false;
  #isListening = false;
  #isReadShut = false;
  #isWriteShut = false;

  /** `pickPort` finds a free one. */
  constructor(statusFlags: number, pickPort: () => number) {
    super("tcp", statusFlags);
    this.#pickPort = pickPort;
  }

  get isListening(): boolean {
    return this.#isListening;
  }

  get state(): number {
    return this.#isListening ? TCP_STATE.listen : TCP_STATE.close;
  }

  /** The kernel takes one more than asked for. */
  get isFull(): boolean {
    return this.queue.length > this.backlog;
  }

  get readiness(): number {
    if (this.#isListening) return this.queue.length > 0 ? EPOLL.in : 0;
    return EPOLL.hup | EPOLL.out | (this.#isReadShut ? EPOLL.in | EPOLL.rdhup : 0);
  }

  /** What is accepted begins with. The kernel copies the whole socket. */
  get inheritance(): Inheritance {
    return { isReadShut: this.#isReadShut, isWriteShut: this.#isWriteShut, resetsOnClose: this.resetsOnClose };
  }

  bind(local: InetFields): number {
    if (this.#hasPort) return -ERRNO.EINVAL[0];
    this.#hasPort = true;
    this.#isPortChosen = local.port !== 0;
    this.local = { ...local, port: local.port || this.#pickPort() };
    return 0;
  }

  listen(backlog: number): number {
    this.backlog = backlog;
    if (this.#isListening) return 0;
    if (!this.#hasPort) this.local = { ...this.local, port: this.#pickPort() };
    this.#hasPort = true;
    this.#isListening = true;
    return 0;
  }

  /** A handshake is finished. */
  enqueue(end: TcpEnd): void {
    this.queue.push(end);
    this.wake(EPOLL.in);
  }

  /** recv(2) of a socket without a peer. */
  recv(): number {
    return this.#isReadShut && !this.#isListening ? 0 : -ERRNO.ENOTCONN[0];
  }

  /** shutdown(2): for reading, a listener's queue is reset, and it listens no longer. inet_shutdown of net/ipv4/af_inet.c. */
  shutdown(how: number): number {
    let result = 0;
    if (!this.#isListening) {
      if (how !== SHUT.wr) this.#isReadShut = true;
      if (how !== SHUT.rd) this.#isWriteShut = true;
      result = -ERRNO.ENOTCONN[0];
    } else if (how !== SHUT.wr) {
      this.#isListening = false;
      this.#hasPort = this.#isPortChosen;
      this.#isReadShut = this.#isWriteShut = false;
      this.#resetQueue();
    }
    this.wake(0);
    return result;
  }

  override release(): void {
    this.#isListening = false;
    this.#resetQueue();
  }

  #resetQueue(): void {
    for (const end of this.queue.splice(0)) end.abort();
  }
}
