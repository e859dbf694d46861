import type { Backend } from "./backend.ts";
import { AF, MSG, POLL, SOCK } from "./constants.ts";
import { ERRNO, SystemError } from "./errno.ts";
import { IO_URING_ENTER, IO_URING_SETUP, LIBC, MEMORY } from "./symbols.ts";

// The little of io_uring(7) that is used here. Source: <linux/io_uring.h>. On both supported CPUs the numbers of the
// system calls are the same, and memory is little-endian.

const CALL = { setup: 425, enter: 426 } as const;
/** IORING_SETUP_COOP_TASKRUN: the thread is woken where it sleeps, and not interrupted where it runs. Since Linux 5.19. */
const SETUP_COOP_TASKRUN = 1 << 8;
/** Words of `struct io_uring_params`: `flags`, and where things are in the memory of the queues, in bytes. */
const PARAMS = { flags: 2, head: 10, tail: 11, array: 16, eventsHead: 20, eventsTail: 21, words: 30 } as const;
/** IORING_OFF_SQ_RING, for both queues, and IORING_OFF_SQES: offsets for mmap(2). */
const OFFSET = { queues: 0, requests: 0x1000_0000 } as const;
/** IORING_OP_POLL_ADD and IORING_OP_SEND. */
const OP = { poll: 6, send: 26 } as const;
/** IOSQE_IO_LINK: the next request waits for this one. IOSQE_CQE_SKIP_SUCCESS: only its failure makes an event. */
const FLAG = { link: 1 << 2, quiet: 1 << 6 } as const;
/** Of a `struct io_uring_sqe`. */
const REQUEST_BYTES = 64;
const REQUESTS = 2;
/** Each mapping takes less, where there are two requests. */
const MAPPED_BYTES = 4096;
/** PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE. */
const [PROTECTION, MAPPING] = [0x1 | 0x2, 0x1 | 0x8000];
const MAP_FAILED = 2n ** 64n - 1n;

function bind(backend: Backend) {
  const { socketpair, close, __errno_location } = LIBC;
  const functions = backend.open({ ...MEMORY, socketpair, close, __errno_location });
  return {
    ...functions,
    ioUringSetup: backend.open(IO_URING_SETUP).syscall,
    ioUringEnter: backend.open(IO_URING_ENTER).syscall,
    int32At: backend.int32At,
    addressOf: backend.addressOf,
    errno: backend.int32At(functions.__errno_location(), 1),
  };
}

type Calls = ReturnType<typeof bind>;

/** Bound by the first ring of a JavaScript thread, which errno belongs to. */
let bound: Calls | undefined;

/**
 * Tells of a descriptor by a byte on a socket, for a runtime that watches sockets and nothing else. The kernel polls the
 * descriptor and then sends the byte, in the thread that armed the ring; no other thread takes part.
 */
export class PollRing {
  /** How many descriptors it holds, its socket among them. */
  static readonly DESCRIPTORS = 3;

  /** Where the byte arrives: a non-blocking stream socket. Whoever takes it closes it. */
  readonly socket: number;
  readonly #calls: Calls;
  readonly #fd: number;
  readonly #sender: number;
  /** Memory that is shared with the kernel: both queues, and the requests. Untouched once it is unmapped. */
  readonly #mappings: readonly [unknown, unknown];
  readonly #queues: Int32Array;
  /** Where things are in `#queues`. */
  readonly #at: Readonly<Record<"head" | "tail" | "eventsHead" | "eventsTail", number>>;
  /** What is sent. The kernel has its address. */
  readonly #byte: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(64));

  /**
   * Opens a ring that polls `fd`, which stays the caller's. `undefined` where there is no io_uring for this process: an
   * older kernel than 5.19, kernel.io_uring_disabled, or a filter of system calls, as containers have.
   *
   * @throws {SystemError} If there is no descriptor left.
   */
  static open(backend: Backend, fd: number): PollRing | undefined {
    const calls = bound ??= bind(backend);
    const params = new Uint32Array(new ArrayBuffer(4 * PARAMS.words));
    params[PARAMS.flags] = SETUP_COOP_TASKRUN;
    const ringFd = calls.ioUringSetup(CALL.setup, REQUESTS, params);
    if (ringFd < 0) {
      expectRoom(calls.errno[0]!, "io_uring_setup");
      return undefined;
    }
    const queues = calls.mmap(null, MAPPED_BYTES, PROTECTION, MAPPING, ringFd, OFFSET.queues);
    const requests = calls.mmap(null, MAPPED_BYTES, PROTECTION, MAPPING, ringFd, OFFSET.requests);
    const sockets = new Int32Array(new ArrayBuffer(8));
    const isMapped = hasMapped(queues) && hasMapped(requests);
    if (isMapped && calls.socketpair(AF.unix, SOCK.stream | SOCK.nonblock | SOCK.cloexec, 0, sockets) === 0) {
      return new PollRing(calls, [ringFd, sockets[0]!, sockets[1]!], [queues, requests], params, fd);
    }
    const errno = calls.errno[0]!;
    for (const mapping of [queues, requests]) if (hasMapped(mapping)) calls.munmap(mapping, MAPPED_BYTES);
    calls.close(ringFd);
    expectRoom(errno, "socketpair");
    return undefined;
  }

  private constructor(
    calls: Calls,
    [ringFd, socket, sender]: readonly [number, number, number],
    mappings: readonly [unknown, unknown],
    params: Uint32Array,
    fd: number,
  ) {
    this.#calls = calls;
    this.#fd = ringFd;
    this.socket = socket;
    this.#sender = sender;
    this.#mappings = mappings;
    const [queues, requests] = mappings.map((address) => calls.int32At(address, MAPPED_BYTES / 4));
    this.#queues = queues!;
    const word = (param: number) => params[param]! / 4;
    this.#at = {
      head: word(PARAMS.head),
      tail: word(PARAMS.tail),
      eventsHead: word(PARAMS.eventsHead),
      eventsTail: word(PARAMS.eventsTail),
    };
    // Always the same two, in the same places: a queue of two begins anew with each pair.
    for (let i = 0; i < REQUESTS; i++) this.#queues[word(PARAMS.array) + i] = i;
    this.#describe(new DataView(requests!.buffer), fd);
  }

  /**
   * Has a byte sent once the descriptor is readable, which it may be already. Not to be called again before it has come.
   *
   * @returns Whether that will happen. If not, for want of memory, a later call may go well; a byte too many may come then.
   */
  arm(): boolean {
    const [queues, at] = [this.#queues, this.#at];
    // Requests that were not taken the last time are still queued.
    if (this.#queued === 0) Atomics.add(queues, at.tail, REQUESTS);
    this.#calls.ioUringEnter(CALL.enter, this.#fd, this.#queued, 0, 0, 0, 0);
    const hasFailed = this.takeFailure();
    return this.#queued === 0 && !hasFailed;
  }

  /** Whether a request has failed since this was asked last, for want of memory: its byte does not come. */
  takeFailure(): boolean {
    const [queues, at] = [this.#queues, this.#at];
    const events = Atomics.load(queues, at.eventsTail);
    return Atomics.exchange(queues, at.eventsHead, events) !== events;
  }

  /** Closes all but its socket. What it was armed for is forgotten. */
  close(): void {
    this.#calls.close(this.#fd);
    this.#calls.close(this.#sender);
    for (const mapping of this.#mappings) this.#calls.munmap(mapping, MAPPED_BYTES);
  }

  /** How many requests the kernel has not taken. Both counters begin anew after 2^32. */
  get #queued(): number {
    return (Atomics.load(this.#queues, this.#at.tail) - Atomics.load(this.#queues, this.#at.head)) | 0;
  }

  /** Polls `fd`, and then sends the byte. */
  #describe(requests: DataView, fd: number): void {
    requests.setUint8(0, OP.poll); // opcode
    requests.setUint8(1, FLAG.link | FLAG.quiet); // flags
    requests.setInt32(4, fd, true); // fd
    requests.setUint32(28, POLL.in, true); // poll32_events
    requests.setUint8(REQUEST_BYTES, OP.send);
    requests.setUint8(REQUEST_BYTES + 1, FLAG.quiet);
    requests.setInt32(REQUEST_BYTES + 4, this.#sender, true);
    requests.setBigUint64(REQUEST_BYTES + 16, this.#calls.addressOf(this.#byte), true); // addr
    requests.setUint32(REQUEST_BYTES + 24, 1, true); // len
    requests.setUint32(REQUEST_BYTES + 28, MSG.nosignal, true); // msg_flags
  }
}

function hasMapped(address: unknown): boolean {
  return BigInt(address as number | bigint) !== MAP_FAILED;
}

/** For any other errno there is another way to wait. */
function expectRoom(errno: number, syscall: string): void {
  if (errno !== ERRNO.EMFILE[0] && errno !== ERRNO.ENFILE[0]) return;
  throw new SystemError("watch an epoll descriptor", syscall, errno);
}
