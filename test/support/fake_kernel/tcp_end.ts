import { EPOLL, MSG, SHUT } from "../../../ffi/constants.ts";
import { ERRNO } from "../../../ffi/errno.ts";
import type { InetFields } from "../../../ffi/layout.ts";
import { OpenFile } from "./open_file.ts";

/** `tcpi_state`. Source: net/tcp_states.h. */
export const TCP_STATE = { established: 1, finWait2: 5, close: 7, closeWait: 8, listen: 10 } as const;

/** What a connection has from its listener. */
export interface Inheritance {
  readonly isReadShut: boolean;
  readonly isWriteShut: boolean;
  readonly resetsOnClose: boolean;
}

/**
 * One end of a TCP connection. What it sends arrives at once and is acknowledged at once, so that of the states of
 * tcp(7) only those are left in which it waits for somebody.
 */
export class TcpEnd extends OpenFile {
  readonly kind = "stream";
  readonly local: InetFields;
  readonly remote: InetFields;
  /** The other end. */
  peer!: TcpEnd;
  /** accept4(2) has handed it out. */
  isAccepted = false;
  /** SO_LINGER with 0 seconds: close resets. socket(7). */
  resetsOnClose = false;
  /** Most bytes that the other end has not read. */
  readonly bufferBytes: number;
  #received: Uint8Array = new Uint8Array(0);
  #state: number = TCP_STATE.established;
  #isReadShut = false;
  #isWriteShut = false;
  /** The peer has ended its stream: for recv(2) that comes before any error. */
  #isDone = false;
  /** SO_ERROR. */
  #error = 0;
  /** A send was refused, or poll(2) saw no room: told once there is. */
  #needsSpace = false;

  constructor(local: InetFields, remote: InetFields, bufferBytes: number, statusFlags: number) {
    super("tcp", statusFlags);
    this.local = local;
    this.remote = remote;
    this.bufferBytes = bufferBytes;
  }

  /** A listener that was shut down while it did not listen hands that down to what it accepts. */
  inherit({ isReadShut, isWriteShut, resetsOnClose }: Inheritance): void {
    this.#isReadShut = isReadShut;
    this.resetsOnClose = resetsOnClose;
    if (isWriteShut) this.#finish();
  }

  get state(): number {
    return this.#state;
  }

  /** Both ends have ended it, or one has reset it. */
  get isClosed(): boolean {
    return this.#state === TCP_STATE.close;
  }

  /** SO_ERROR, not cleared. */
  get error(): number {
    return this.#error;
  }

  get unreadBytes(): number {
    return this.#received.byteLength;
  }

  /** tcp_poll of net/ipv4/tcp.c. */
  get readiness(): number {
    const isOver = this.isClosed || (this.#isReadShut && this.#isWriteShut);
    const isWritable = this.#isWriteShut || this.#hasSpace();
    if (!isWritable) this.#needsSpace = true;
    return (isOver ? EPOLL.hup : 0) |
      (this.#isReadShut ? EPOLL.in | EPOLL.rdhup : 0) |
      (this.#received.byteLength > 0 ? EPOLL.in : 0) |
      (isWritable ? EPOLL.out : 0) |
      (this.#error === 0 ? 0 : EPOLL.err);
  }

  takeError(): number {
    const error = this.#error;
    this.#error = 0;
    return error;
  }

  /** send(2). */
  send(bytes: Uint8Array): number {
    if (this.#isWriteShut || this.isClosed) return -(this.takeError() || ERRNO.EPIPE[0]);
    const room = this.bufferBytes - this.peer.unreadBytes;
    if (room <= 0 && bytes.byteLength > 0) {
      this.#needsSpace = true;
      return -ERRNO.EAGAIN[0];
    }
    const sent = bytes.slice(0, room);
    if (sent.byteLength > 0) this.peer.#arrive(sent);
    return sent.byteLength;
  }

  /** recv(2): the bytes, or `-errno`. Bytes come first, then end of stream, then an error, which is told once. */
  recv(length: number, flags: number): Uint8Array | number {
    if (this.#received.byteLength > 0) {
      const bytes = this.#received.slice(0, length);
      if (flags & MSG.peek) return bytes;
      this.#received = this.#received.slice(length);
      this.peer.#spaceFreed();
      return bytes;
    }
    if (this.#isDone) return 0;
    if (this.#error !== 0) return -this.takeError();
    return this.#isReadShut ? 0 : -ERRNO.EAGAIN[0];
  }

  /** shutdown(2). Wakes whoever polls, also where there was nothing to shut. */
  shutdown(how: number): number {
    const { isClosed } = this;
    if (how !== SHUT.wr) this.#isReadShut = true;
    if (how !== SHUT.rd) this.#finish();
    this.wake(0);
    return isClosed ? -ERRNO.ENOTCONN[0] : 0;
  }

  /** close(2): with unread bytes or a linger of 0 seconds a reset, else an orderly end. tcp_close of net/ipv4/tcp.c. */
  override release(): void {
    const isAborted = this.#received.byteLength > 0 || this.resetsOnClose;
    this.#received = new Uint8Array(0);
    this.#isReadShut = true;
    if (isAborted) this.abort();
    else this.#finish();
  }

  /** Ends the connection with a reset; this end is told nothing. */
  abort(): void {
    if (this.isClosed) return;
    this.#state = TCP_STATE.close;
    this.#isReadShut = this.#isWriteShut = true;
    this.peer.#resetByPeer();
  }

  /** Sends the end of the stream, once. */
  #finish(): void {
    this.#isWriteShut = true;
    const { peer } = this;
    if (this.#state === TCP_STATE.established) [this.#state, peer.#state] = [TCP_STATE.finWait2, TCP_STATE.closeWait];
    else if (this.#state === TCP_STATE.closeWait) this.#state = peer.#state = TCP_STATE.close;
    else return;
    peer.#isDone = peer.#isReadShut = true;
    peer.wake(0);
  }

  #arrive(bytes: Uint8Array): void {
    // Closed, or as good as closed: nobody will ever read it. tcp_rcv_state_process of net/ipv4/tcp_input.c, in FIN-WAIT-2.
    if (this.#isReadShut && this.#isWriteShut) {
      const { peer } = this;
      this.#resetByPeer();
      peer.#resetByPeer();
      return;
    }
    const all = new Uint8Array(this.#received.byteLength + bytes.byteLength);
    all.set(this.#received);
    all.set(bytes, this.#received.byteLength);
    this.#received = all;
    this.wake(EPOLL.in);
  }

  #resetByPeer(): void {
    if (this.isClosed) return;
    this.#error = this.#state === TCP_STATE.closeWait ? ERRNO.EPIPE[0] : ERRNO.ECONNRESET[0];
    this.#state = TCP_STATE.close;
    this.#isReadShut = this.#isWriteShut = true;
    this.wake(0);
  }

  /** sk_stream_is_writeable of net/sock.h: a third of the buffer is free. */
  #hasSpace(): boolean {
    const queued = this.peer.unreadBytes;
    return this.bufferBytes - queued >= queued >> 1;
  }

  #spaceFreed(): void {
    if (!this.#needsSpace || !this.#hasSpace()) return;
    this.#needsSpace = false;
    this.wake(EPOLL.out);
  }
}
