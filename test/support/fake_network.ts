/** A network that answers when a test says so. */
import { EFD, SO, SOL } from "../../ffi/constants.ts";
import { ERRNO, type ErrnoName } from "../../ffi/errno.ts";
import { decodeSockaddr, encodeInt } from "../../ffi/layout.ts";
import { realSyscalls as real, type Syscalls } from "../../ffi/syscalls.ts";
import { decodeAddress, formatAddress } from "../../src/address.ts";
import { loopback } from "./sockets.ts";

const FULL = new Uint8Array(Uint8Array.of(0xfe, 255, 255, 255, 255, 255, 255, 255).buffer);
const drained = new Uint8Array(new ArrayBuffer(8));

/** One socket of a {@linkcode FakeNetwork}, from connect(2) on. */
export interface FakeAttempt {
  /** As in a URL, `tcp://` left out. */
  readonly address: string;
  readonly fd: number;
  readonly atMs: number;
}

/**
 * The real kernel but for TCP sockets, whose connect(2) stays EINPROGRESS until {@linkcode answer}. Each is an eventfd:
 * full, so that epoll has it unwritable, and drained when the answer is there.
 */
export class FakeNetwork {
  readonly sys: Syscalls;
  /** All that were begun, in order, those that failed at once included. */
  readonly attempts: FakeAttempt[] = [];
  /** Addresses whose connect(2) fails at once. */
  readonly refusals = new Map<string, ErrnoName>();
  /** Sockets that may be open at a time. */
  room: number = Infinity;
  /** Sockets that are open. */
  readonly open = new Set<number>();
  readonly #errors = new Map<number, number>();
  readonly #peers = new Map<number, Uint8Array>();
  readonly #now: () => number;

  constructor(now: () => number = () => 0) {
    this.#now = now;
    const isOurs = (fd: number) => this.open.has(fd);
    this.sys = {
      ...real,
      socket: () => this.#socket(),
      connect: (fd, sockaddr) => this.#connect(fd, sockaddr),
      setsockopt: (fd, ...rest) => isOurs(fd) ? 0 : real.setsockopt(fd, ...rest),
      getsockopt: (fd, level, name, value) => {
        if (!isOurs(fd) || level !== SOL.socket || name !== SO.error) return real.getsockopt(fd, level, name, value);
        value.set(encodeInt(this.#errors.get(fd) ?? 0));
        return 4;
      },
      getpeername: (fd, sockaddr) => isOurs(fd) ? fill(sockaddr, this.#peers.get(fd)!) : real.getpeername(fd, sockaddr),
      getsockname: (fd, sockaddr) => isOurs(fd) ? fill(sockaddr, loopback(1)) : real.getsockname(fd, sockaddr),
      close: (fd) => {
        this.open.delete(fd);
        return real.close(fd);
      },
    };
  }

  /** Has the attempt at `address` succeed, or fail with `errno`. */
  answer(address: string, errno?: ErrnoName): void {
    const attempt = this.attempts.findLast((attempt) => attempt.address === address)!;
    if (errno !== undefined) this.#errors.set(attempt.fd, ERRNO[errno][0]);
    real.read(attempt.fd, drained);
  }

  #socket(): number {
    if (this.open.size >= this.room) return -ERRNO.EMFILE[0];
    const fd = real.eventfd(0, EFD.nonblock | EFD.cloexec);
    real.write(fd, FULL);
    this.#errors.delete(fd);
    this.open.add(fd);
    return fd;
  }

  #connect(fd: number, sockaddr: Uint8Array): number {
    const address = formatAddress(decodeAddress(decodeSockaddr(sockaddr, sockaddr.byteLength))).slice("tcp://".length);
    this.attempts.push({ address, fd, atMs: this.#now() });
    this.#peers.set(fd, sockaddr);
    return -ERRNO[this.refusals.get(address) ?? "EINPROGRESS"][0];
  }
}

function fill(sockaddr: Uint8Array, found: Uint8Array): number {
  sockaddr.set(found);
  return found.byteLength;
}

/** An `AbortSignal` that counts who listens. */
export class TestSignal {
  aborted = false;
  reason: unknown;
  readonly listeners = new Set<() => void>();

  addEventListener(_: "abort", listener: () => void): void {
    this.listeners.add(listener);
  }

  removeEventListener(_: "abort", listener: () => void): void {
    this.listeners.delete(listener);
  }

  abort(reason: unknown): void {
    this.aborted = true;
    this.reason = reason;
    for (const listener of [...this.listeners]) listener();
  }
}
