/**
 * A kernel in memory: descriptors and their limits, listeners and the clients in their queues, epoll, and time. Stands
 * in for `realSyscalls`; single-threaded and deterministic. test/fake_kernel.test.ts compares it with the real one.
 *
 * Not modelled, and thrown at: calls that would block, Unix and IPv6 sockets, connect(2) from inside, messages, pipes,
 * and epoll instances that watch each other. Two sockets may be bound to one port without an error.
 */
import { O, POLL } from "../../ffi/constants.ts";
import type { ErrnoName } from "../../ffi/errno.ts";
import type { InetFields } from "../../ffi/layout.ts";
import type { Syscalls } from "../../ffi/syscalls.ts";
import { FakeCalls } from "./fake_kernel/calls.ts";
import { FakeClient } from "./fake_kernel/client.ts";
import { FakeClock } from "./fake_kernel/clock.ts";
import { DescriptorTable } from "./fake_kernel/descriptor_table.ts";
import { EpollInstance } from "./fake_kernel/epoll.ts";
import { type Call, type CallName, Journal } from "./fake_kernel/journal.ts";
import { type FileKind, IdleFile } from "./fake_kernel/open_file.ts";
import { TcpEnd } from "./fake_kernel/tcp_end.ts";
import { TcpSocket } from "./fake_kernel/tcp_socket.ts";
export { type ClientState, FakeClient } from "./fake_kernel/client.ts";
export { type Call, type CallName, formatCall } from "./fake_kernel/journal.ts";

const LOOPBACK = new Uint8Array([127, 0, 0, 1]);
/** A SYN that finds the queue full is sent again 1, 3, 7, ... seconds after it: tcp(7), tcp_syn_retries. */
const SYN_RETRY_MS = 1_000;
const SYN_RETRIES = 6;

/** What a {@linkcode FakeKernel} starts with. */
export interface FakeKernelOptions {
  /** Soft RLIMIT_NOFILE. @default {256} */
  soft?: number;
  /** Hard RLIMIT_NOFILE. @default {soft} */
  hard?: number;
  /** Numbers that are open already: those of the runtime. @default {0, 1, 2} */
  occupied?: readonly number[];
  /** Most open files in the system, this process's included. @default {unlimited} */
  fileMax?: number;
  /** Most bytes on their way in one direction of a connection. @default {1 MiB} */
  bufferBytes?: number;
}

/** See the top of this file. `{ ...kernel, close: other }` is a kernel too. */
export class FakeKernel extends FakeCalls {
  readonly #bufferBytes: number;

  constructor(options: FakeKernelOptions = {}) {
    const { soft = 256, hard = soft, occupied = [0, 1, 2], fileMax = Infinity, bufferBytes = 1024 * 1024 } = options;
    super(new DescriptorTable({ soft, hard }), new FakeClock(), new Journal());
    this.#bufferBytes = bufferBytes;
    for (const fd of occupied) this.occupy(fd);
    this.table.fileMax = fileMax;
  }

  // What a test does to it.

  /** Milliseconds. Moves when somebody waits. */
  get now(): number {
    return this.clock.now;
  }

  /** Has `task` run, by the kernel, once somebody waits past `ms` from now. */
  after(ms: number, task: () => void): void {
    this.clock.after(ms, task);
  }

  /** Lets `ms` pass. */
  advance(ms: number): void {
    this.clock.advance(ms);
  }

  /** Makes `fd` somebody else's: the runtime's. It is closed with {@linkcode close}. */
  occupy(fd: number): void {
    this.table.install(fd, new IdleFile("somebody else's", O.rdwr), true);
  }

  /** A non-blocking listener on loopback; its port is chosen by the kernel where it is 0. */
  createListener({ backlog = 511, port = 4711 }: { backlog?: number; port?: number } = {}): number {
    const socket = this.createSocket(O.rdwr | O.nonblock);
    socket.bind({ family: "inet", address: LOOPBACK, port });
    socket.listen(backlog);
    return this.table.open(true, () => socket);
  }

  /**
   * A client that connects to `listenerFd`. One that finds the queue full tries again, 1, 3, 7, 15, 31 and 63 seconds
   * after, as far as somebody waits that long.
   */
  connectClient(listenerFd: number): FakeClient {
    const file = this.table.get(listenerFd);
    if (!(file instanceof TcpSocket)) throw new Error(`Cannot connect to descriptor ${listenerFd}: it is no listener`);
    const client = new FakeClient();
    this.#handshake(client, file, 0);
    return client;
  }

  /** Has the next `times` calls for which `when` holds return `-errno` and do nothing; a failing close closes. */
  fail<K extends CallName>(
    name: K,
    errno: ErrnoName,
    times: number = 1,
    when: (...args: Parameters<Syscalls[K]>) => boolean = () => true,
  ): () => void {
    return this.journal.fail(name, errno, times, when as (...args: unknown[]) => boolean);
  }

  /** Has `callback` run after every call: another thread, a client. Calls that it makes are neither counted nor failed. */
  onBetween(callback: ((call: Call) => void) | undefined): void {
    this.journal.between = callback;
  }

  /** Open files of all processes that the system allows. */
  set fileMax(files: number) {
    this.table.fileMax = files;
  }

  /** Open files of other processes. */
  set foreignFiles(files: number) {
    this.table.foreignFiles = files;
  }

  // What a test sees of it.

  /** How often `name` was called; with `errno`, how often it failed so. */
  count(name: CallName, errno?: ErrnoName): number {
    return this.journal.count(name, errno);
  }

  /** Counts from 0 again. */
  resetCounts(): void {
    this.journal.resetCounts();
  }

  /** The last calls, the oldest first. */
  get calls(): readonly Call[] {
    return this.journal.calls;
  }

  /** {@linkcode calls} as text, for a test that fails. Those of the hook are indented. */
  get trace(): string {
    return this.journal.trace;
  }

  /** The open numbers, ascending. */
  get descriptors(): number[] {
    return this.table.numbers;
  }

  /** The number that the next descriptor gets; `Infinity` where the table is full. */
  get lowestFree(): number {
    const fd = this.table.lowestFree();
    return fd < 0 ? Infinity : fd;
  }

  /** Open files of this process: fewer than descriptors, where some are duplicates. */
  get fileCount(): number {
    return this.table.fileCount;
  }

  /** What `fd` refers to, and how many descriptors refer to the same; `undefined` if it is closed. */
  describe(fd: number): { kind: FileKind; name: string; descriptors: number } | undefined {
    const file = this.table.get(fd);
    return file && { kind: file.kind, name: file.name, descriptors: file.descriptors };
  }

  /** Clients in the queue of a listener. */
  queueLength(listenerFd: number): number {
    return (this.table.get(listenerFd) as TcpSocket).queue.length;
  }

  /** What any epoll instance watches `fd` for, as EPOLL bits; 0 for nothing. */
  interestIn(fd: number): number {
    const file = this.table.get(fd);
    let interest = 0;
    for (const epollFd of this.table.numbers) {
      const epoll = this.table.get(epollFd);
      if (file !== undefined && epoll instanceof EpollInstance) interest |= epoll.interestIn(fd, file);
    }
    return interest;
  }

  /** Waits until `fd` is readable, no longer than `timeoutMs`, as another thread would: no call is recorded. */
  waitReadable(fd: number, timeoutMs: number): boolean {
    const isReadable = () => (this.readiness(fd) & POLL.in) !== 0;
    return this.wait(timeoutMs, () => isReadable() || undefined) ?? false;
  }

  #handshake(client: FakeClient, listener: TcpSocket, tries: number): void {
    if (client.state !== "connecting") return; // it went away
    if (!listener.isListening) return client.fail("refused");
    if (listener.isFull) {
      if (tries === SYN_RETRIES) this.after(SYN_RETRY_MS << tries, () => client.fail("timed out"));
      else this.after(SYN_RETRY_MS << tries, () => this.#handshake(client, listener, tries + 1));
      return;
    }
    const near: InetFields = { family: "inet", address: LOOPBACK, port: this.pickPort() };
    // A listener on every address is reached through this one.
    const local = listener.local.address.every((byte) => byte === 0)
      ? { ...listener.local, address: LOOPBACK }
      : listener.local;
    const here = new TcpEnd(local, near, this.#bufferBytes, O.rdwr);
    const there = new TcpEnd(near, local, this.#bufferBytes, O.rdwr | O.nonblock);
    [here.peer, there.peer] = [there, here];
    client.connect(there);
    here.inherit(listener.inheritance);
    listener.enqueue(here);
  }
}
