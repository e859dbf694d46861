/**
 * Two ends of one stream, each a `Connection` on a loop that is turned by hand or a bare socket, and the model that
 * they are compared with: what was written, what the kernel took, what was delivered, and what may be told next.
 * Imports nothing but the module and its fakes, so that a copy with other limits plays the same programs.
 */
import { Buffer } from "node:buffer";
import { AF, F, MSG, O, SHUT, SO, SOCK, SOL, TCP } from "../../ffi/constants.ts";
import { ERRNO, errnoName, expectValue, SystemError } from "../../ffi/errno.ts";
import { decodeSockaddr, encodeInt, encodeLinger, encodeSockaddr, SOCKADDR_MAX_BYTES } from "../../ffi/layout.ts";
import { realSyscalls, type Syscalls } from "../../ffi/syscalls.ts";
import { Connection } from "../../src/connection.ts";
import { type ConnectionHandlers, resolveConnection } from "../../src/connection_options.ts";
import { REARM_INTERVAL_MS } from "../../src/limits.ts";
import { EventLoop } from "../../src/loop.ts";
import { type Cut, type WatchedCalls, watchedCalls } from "./connection_calls.ts";
import { ManualHost } from "./hosts.ts";

/** What a connection is made to do, between turns or in a handler. Numbers are bytes. */
export type Action =
  | readonly ["write", number]
  /** As a string. */
  | readonly ["write text", number]
  /** With a chunk, unless that is empty. */
  | readonly ["end", number]
  | readonly ["pause" | "resume" | "finish" | "close"]
  | readonly ["close with an error"]
  /** In a handler: it throws, or its promise rejects. */
  | readonly ["throw" | "reject"]
  /** The other end does it, if that is a connection. */
  | readonly ["other", Action];

/** What a bare socket does. */
export type SocketAction =
  | readonly ["send" | "receive", number]
  | readonly ["shutdown" | "close" | "reset"];

/** What may happen. Times are ms of the loop's clock. */
export type Step =
  | readonly ["turn" | "microtask"]
  | readonly ["wait", number]
  | readonly ["ours", Action]
  | readonly ["peer", Action]
  | readonly ["socket", SocketAction];

/** A connection's part. */
export interface Script {
  readonly allowHalfOpen: boolean;
  readonly highWaterBytes: number;
  readonly lowWaterBytes: number;
  /** What its handlers do: `data` and `drain` one entry each time they are called, then nothing. */
  readonly open: readonly Action[];
  readonly data: readonly (readonly Action[])[];
  readonly drain: readonly (readonly Action[])[];
  readonly end: readonly Action[];
  readonly close: readonly Action[];
  /** What becomes of its first calls; the others are whole. */
  readonly sends: readonly Cut[];
  readonly receives: readonly Cut[];
}

/** All that decides how a run goes. */
export interface Program {
  readonly over: "unix" | "tcp";
  readonly trigger: "level" | "edge";
  /** Of the sockets, for each direction. */
  readonly buffers: "default" | "smallest" | "large";
  readonly ours: Script;
  /** A bare socket if absent. */
  readonly peer?: Script | undefined;
  readonly steps: readonly Step[];
}

/** Makes a module under test misbehave, to see that the model notices. */
export interface Sabotage {
  /** Stands between the loop and the kernel. */
  sys?(sys: Syscalls): Partial<Syscalls>;
  /** Stand between connection and model. */
  handlers?(handlers: Required<ConnectionHandlers>): Partial<ConnectionHandlers>;
  /** Called with each, before it is used. */
  connection?(connection: Connection): void;
  loop?(loop: EventLoop): void;
}

/** Most bytes of one direction. */
const STREAM_BYTES = 2 * 1024 * 1024;
/** The same where TCP takes small steps. */
const STREAM_BYTES_SMALL = 64 * 1024;
/** Turns in a row that may be busy with nothing. */
const STILL_TURNS_MAX = 10;
/** Turns until a world has come to rest. */
const TURNS_MAX = 20_000;
/** How long TCP may take over what is under way. */
const DEADLINE_MS = 5_000;
/** Time that may be needed for what waits for a clock. */
const CLOCK_STEPS_MAX = 100;
const MAXSEG_BYTES = 100;
const FLAGS = SOCK.nonblock | SOCK.cloexec;
const BUFFER_BYTES = { default: 0, smallest: 1, large: STREAM_BYTES } as const;

/** Bytes that tell their place, ASCII so that each piece is text too; the second half is that of the other direction. */
const PATTERN = Buffer.from(new ArrayBuffer(2 * STREAM_BYTES));
const words = new Uint32Array(PATTERN.buffer);
for (let i = 0, state = 4711; i < words.length; i++) {
  state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x6d2b79f5;
  words[i] = (state ^ (state >>> 13)) & 0x7f7f7f7f;
}
const SCRATCH = new Uint8Array(new ArrayBuffer(STREAM_BYTES));

/** One end of the stream. */
abstract class End {
  readonly name: string;
  readonly world: World;
  readonly fd: number;
  /** Where in {@linkcode PATTERN} that which it sends begins. */
  readonly #from: number;
  /** Bytes that the other end is to have. */
  written = 0;
  /** Bytes that the kernel took. */
  sent = 0;
  /** Bytes that the kernel gave. */
  taken = 0;
  /** Bytes that were delivered. */
  received = 0;
  /** Its stream has ended in order: by shutdown(2) or close(2). */
  hasEnded = false;
  /** Its descriptor is closed. */
  isReleased = false;
  /** It was released by a reset, or with bytes unread, which makes it one. */
  isUnclean = false;
  /** It was to be sent by after the other end was released. */
  hasSentLate = false;

  constructor(world: World, name: string, fd: number, from: number) {
    this.world = world;
    this.name = name;
    this.fd = fd;
    this.#from = from;
  }

  get other(): End {
    return this.world.otherThan(this);
  }

  /** `count`, or what is left of its stream. */
  upTo(count: number): number {
    const { over, buffers } = this.world.program;
    const most = over === "tcp" && buffers === "smallest" ? STREAM_BYTES_SMALL : STREAM_BYTES;
    return Math.min(count, most - this.written);
  }

  /** What it sends, from byte `from` of its stream on. */
  pattern(from: number, to: number): Buffer {
    return PATTERN.subarray(this.#from + from, this.#from + to);
  }

  /** `bytes` have been delivered to this end. */
  receive(bytes: Uint8Array): void {
    const from = this.received;
    const to = from + bytes.byteLength;
    if (to > this.other.sent) this.fail(`received ${to} bytes of ${this.other.sent} that were sent`);
    const expected = this.other.pattern(from, to);
    if (!expected.equals(bytes)) {
      const wrongAt = bytes.findIndex((byte, i) => byte !== expected[i]);
      this.fail(`received a wrong byte, number ${from + wrongAt} of the stream`);
    }
    this.received = to;
    this.world.progress++;
  }

  /** Called before the descriptor is closed. */
  released(isReset: boolean): void {
    if (this.isReleased) this.fail("closed its descriptor twice");
    this.isReleased = true;
    // A Unix socket knows no reset but that of unread bytes.
    this.isUnclean = (isReset && this.world.program.over === "tcp") || this.other.sent > this.taken;
    this.hasEnded ||= !this.isUnclean;
    this.world.progress++;
  }

  /** Whether an error of the kernel's is in order. */
  get mayFail(): boolean {
    return this.other.isReleased && (this.other.isUnclean || this.hasSentLate);
  }

  /** Whether what this end sent may be lost on its way. A Unix socket delivers even what a reset follows. */
  get mayLose(): boolean {
    return this.isUnclean && this.world.program.over === "tcp";
  }

  /** Whether this end takes what it is sent, when the world helps. */
  abstract get isReading(): boolean;

  /** What is still to happen before the world is at rest. */
  abstract missing(): string | undefined;

  note(...what: unknown[]): void {
    this.world.trace.push([this.name, ...what]);
  }

  fail(what: string): never {
    this.world.fail(`${this.name}: ${what}`);
  }
}

/** A bare socket. */
class SocketEnd extends End {
  /** It has read the end of the stream, or an error. */
  #isOver = false;

  get isReading(): boolean {
    return this.world.isHelping && !this.isReleased;
  }

  act([kind, count = 0]: SocketAction): void {
    if (this.isReleased) return;
    switch (kind) {
      case "send":
        return this.#send(this.upTo(count));
      case "receive":
        this.receiveUpTo(count);
        return;
      case "shutdown":
        if (this.hasEnded) return;
        this.note("shutdown");
        this.hasEnded = true;
        realSyscalls.shutdown(this.fd, SHUT.wr);
        return;
      case "reset":
        this.note("reset");
        realSyscalls.setsockopt(this.fd, SOL.socket, SO.linger, encodeLinger(true, 0));
        return this.#close(true);
      case "close":
        this.note("close");
        return this.#close(false);
    }
  }

  /** Returns whether it got anything. */
  receiveUpTo(count: number): boolean {
    if (this.isReleased || this.#isOver || count === 0) return false;
    let got = 0;
    while (got < count) {
      const received = realSyscalls.recv(this.fd, SCRATCH.subarray(0, count - got), MSG.dontwait);
      if (received > 0) {
        this.taken += received;
        got += received;
        this.receive(SCRATCH.subarray(0, received));
        continue;
      }
      if (received !== -ERRNO.EAGAIN[0]) this.#over(-received);
      break;
    }
    if (got > 0) this.note("received", got);
    return got > 0;
  }

  missing(): string | undefined {
    if (!this.isReading || this.#isOver) return undefined;
    if (this.received < this.other.sent && !this.other.mayLose) return "bytes do not reach the socket";
    const isOver = this.other.hasEnded || this.other.isReleased;
    return isOver ? "the end of the stream does not reach the socket" : undefined;
  }

  #send(count: number): void {
    if (this.hasEnded || this.#isOver) return;
    const sent = realSyscalls.send(this.fd, this.pattern(this.sent, this.sent + count), MSG.nosignal);
    if (this.other.isReleased) this.hasSentLate = true;
    this.note("sends", count, "of which the kernel took", sent);
    if (sent > 0) this.written = this.sent += sent;
    if (sent < 0 && sent !== -ERRNO.EAGAIN[0] && !this.other.isReleased) this.fail(`send failed with ${name(-sent)}`);
  }

  /** Nothing more comes. */
  #over(errno: number): void {
    const { other } = this;
    this.#isOver = true;
    this.note(errno === 0 ? "received the end of the stream" : `received ${name(errno)}`);
    if (errno !== 0 && !this.mayFail) this.fail(`receiving failed with ${name(errno)}`);
    if (errno === 0 && !other.hasEnded && !this.mayFail) this.fail("the stream ended before its time");
    if (!other.mayLose && !this.hasSentLate && this.received !== other.sent) {
      this.fail(`${other.sent - this.received} bytes were lost before the end of the stream`);
    }
  }

  #close(isReset: boolean): void {
    this.released(isReset);
    realSyscalls.close(this.fd);
  }
}

/** Where a connection is in its life; it never goes back. */
const RANK = { open: 0, ending: 1, ended: 2, closed: 3 } as const;

/** A connection of ours. */
class ConnectionEnd extends End implements WatchedCalls {
  readonly connection: Connection;
  readonly #script: Script;
  #sends = 0;
  #receives = 0;
  #datas = 0;
  #drains = 0;
  #rank = 0;
  #isOpenTold = false;
  #isEndTold = false;
  #isCloseTold = false;
  #isPaused = false;
  /** `write` said false, and `drain` has not followed. */
  #isDrainDue = false;
  #isFinishing = false;
  #hasCalledEnd = false;
  #isLingerZero = false;
  /** Who closed it on purpose, and with what. */
  #closedWith: { readonly error: unknown } | undefined;
  /** What promises of handlers were rejected with. */
  readonly #rejections: unknown[] = [];

  constructor(world: World, name: string, fd: number, from: number, script: Script, sabotage: Sabotage) {
    super(world, name, fd, from);
    this.#script = script;
    const { allowHalfOpen, highWaterBytes, lowWaterBytes } = script;
    const { loop, program: { trigger } } = world;
    const handlers = this.#handlers();
    const settings = resolveConnection(
      { trigger, allowHalfOpen, highWaterBytes, lowWaterBytes },
      { ...handlers, ...sabotage.handlers?.(handlers) },
      (error) => loop.report(error),
    );
    this.connection = new Connection(loop, fd, settings);
    sabotage.connection?.(this.connection);
  }

  get isFinishing(): boolean {
    return this.#isFinishing && this.connection.state !== "closed";
  }

  get isReading(): boolean {
    return this.connection.state !== "closed" && !this.#isPaused && !this.#isFinishing;
  }

  /** Returns whether the handler is to reject. */
  act(action: Action): boolean {
    const { connection } = this;
    const { state } = connection;
    switch (action[0]) {
      case "write":
      case "write text": {
        const chunk = this.#chunk(action[1]);
        if (state === "open") this.written += chunk.byteLength;
        const hasRoom = connection.write(action[0] === "write" ? chunk : Buffer.from(chunk).toString("latin1"));
        chunk.fill(0); // the caller's own again
        this.note("write", chunk.byteLength, "said", hasRoom, "queued", connection.queuedBytes);
        const { highWaterBytes } = this.#script;
        if (hasRoom !== (connection.state === "open" && connection.queuedBytes < highWaterBytes)) {
          this.fail(`write said ${hasRoom} with ${connection.queuedBytes} bytes queued`);
        }
        if (!hasRoom && connection.state === "open") this.#isDrainDue = true;
        break;
      }
      case "end": {
        const chunk = this.#chunk(action[1]);
        if (state === "open") this.written += chunk.byteLength;
        if (state === "open") this.#hasCalledEnd = true;
        this.note("end", chunk.byteLength);
        if (chunk.byteLength > 0) connection.end(chunk);
        else connection.end();
        chunk.fill(0);
        if (connection.state === "open") this.fail("is open after end()");
        break;
      }
      case "pause":
        this.note("pause");
        this.#isPaused = true;
        connection.pause();
        break;
      case "resume":
        this.resume();
        break;
      case "finish":
        this.note("finish");
        this.#isFinishing = true;
        connection.finish();
        if (connection.state === "open") this.fail("is open after finish()");
        break;
      case "close":
      case "close with an error": {
        const error = action[0] === "close" ? undefined : new Error("of close()");
        this.note(action[0]);
        if (state !== "closed") this.#closedWith = { error };
        connection.close(error);
        if (connection.state !== "closed") this.fail(`is ${connection.state} after close()`);
        break;
      }
      case "throw":
        throw new Error("of a handler");
      case "reject":
        return true;
      case "other":
        if (this.other instanceof ConnectionEnd) this.other.act(action[1]);
        break;
    }
    this.check();
    return false;
  }

  resume(): void {
    this.note("resume");
    this.#isPaused = false;
    this.connection.resume();
  }

  /** What must always hold. */
  check(): void {
    const { state, queuedBytes } = this.connection;
    if (RANK[state] < this.#rank) this.fail(`became ${state} again`);
    this.#rank = RANK[state];
    const queued = state === "closed" ? 0 : this.written - this.sent;
    if (queuedBytes !== queued) this.fail(`queuedBytes is ${queuedBytes}, ${queued} bytes are queued`);
    if (this.connection.isPaused !== this.#isPaused) this.fail(`isPaused is ${this.connection.isPaused}`);
    if (state === "closed" && !this.isReleased) this.fail("is closed but has its descriptor");
    if (state !== "closed" && this.isReleased) this.fail(`is ${state} without its descriptor`);
  }

  missing(): string | undefined {
    const { other } = this;
    const { state, queuedBytes } = this.connection;
    if (!this.#isOpenTold) return "open is not told";
    if (state === "closed") return this.#isCloseTold ? undefined : "close is not told";
    if (this.#rejections.length > 0) return "a rejected promise of a handler does not close";
    if (other.isUnclean && !this.#isPaused) return "the peer's reset is not noticed";
    if (other.isReleased && queuedBytes > 0) return "bytes are queued for a peer that has gone";
    if (other.isReading) {
      if (queuedBytes > 0) return "queued bytes are not sent";
      if (state === "ending") return "the stream is not ended";
      if (this.#isFinishing) return "finish() does not close";
      if (this.#isEndTold && !this.#script.allowHalfOpen) return "does not close after the end of the peer's stream";
    }
    if (this.#isEndTold && state === "ended") return "does not close though both streams have ended";
    if (this.#isDrainDue && state === "open" && queuedBytes <= this.#script.lowWaterBytes) return "drain is not told";
    if (this.isReading && !this.#isEndTold) {
      if (this.received < other.sent) return "bytes are not delivered";
      if (other.hasEnded) return "end is not told";
    }
    return undefined;
  }

  nextCut(call: "send" | "recv"): Cut {
    const { sends, receives } = this.#script;
    const cut = (call === "send" ? sends[this.#sends++] : receives[this.#receives++]) ?? "whole";
    // A socket whose peer has gone refuses for good.
    if (cut === "whole" || (this.other.isReleased && cut !== "EINTR")) return "whole";
    this.world.progress++;
    // Where edges are waited for, a kernel that is full or empty would report the next one.
    if (cut !== "EINTR" && (call === "recv" || typeof cut === "string")) this.world.isUnfair = true;
    this.note(call, "is cut to", cut);
    return cut;
  }

  onSend(bytes: number): void {
    if (this.other.isReleased) this.hasSentLate = true;
    this.sent += bytes;
    if (bytes > 0) this.world.progress++;
    if (this.sent > this.written) this.fail(`sent ${this.sent} bytes of ${this.written}`);
  }

  onReceive(bytes: number): void {
    this.taken += bytes;
    if (bytes > 0) this.world.progress++;
  }

  onShutdown(): void {
    if (this.sent !== this.written) this.fail(`ended its stream ${this.written - this.sent} bytes early`);
    this.hasEnded = true;
    this.world.progress++;
  }

  onLinger(): void {
    this.#isLingerZero = true;
  }

  onRelease(): void {
    this.released(this.#isLingerZero);
  }

  #chunk(count: number): Uint8Array {
    const { written } = this;
    const length = this.upTo(count);
    const chunk = SCRATCH.subarray(0, length);
    chunk.set(this.pattern(written, written + length));
    return chunk;
  }

  #handlers(): Required<ConnectionHandlers> {
    const script = this.#script;
    return {
      open: () =>
        this.#told("open", script.open, () => {
          if (this.#isOpenTold) this.fail("open is told twice");
          this.#isOpenTold = true;
        }),
      data: (_, bytes) =>
        this.#told(`data ${bytes.byteLength}`, script.data[this.#datas++], () => {
          this.#checkReading("data");
          if (bytes.byteLength === 0) this.fail("data is told of nothing");
          this.receive(bytes);
        }),
      drain: () =>
        this.#told("drain", script.drain[this.#drains++], () => {
          const { state, queuedBytes } = this.connection;
          if (!this.#isDrainDue) this.fail("drain is told though write did not say false");
          if (state !== "open") this.fail(`drain is told to a connection that is ${state}`);
          if (queuedBytes > script.lowWaterBytes) this.fail(`drain is told with ${queuedBytes} bytes queued`);
          this.#isDrainDue = false;
        }),
      end: () =>
        this.#told("end", script.end, () => {
          this.#checkReading("end");
          if (!this.other.hasEnded) this.fail("end is told though the peer's stream has not ended");
          if (this.received !== this.other.sent && !this.other.mayLose) {
            this.fail(`end is told ${this.other.sent - this.received} bytes early`);
          }
          this.#isEndTold = true;
        }),
      close: (_, error) =>
        this.#told(`close ${error ?? ""}`, script.close, () => {
          this.#isCloseTold = true;
          this.#checkClose(error);
        }),
    } as Required<ConnectionHandlers>;
  }

  /** Checks that `event` may be told, and reacts to it. */
  #told(event: string, actions: readonly Action[] = [], check: () => void): unknown {
    const { world } = this;
    this.note("is told", event);
    world.progress++;
    if (this.#isCloseTold) this.fail(`${event} is told after close`);
    if (event !== "open" && !this.#isOpenTold) this.fail(`${event} is told before open`);
    if (world.telling !== undefined) this.fail(`${event} is told inside of ${world.telling}`);
    check();
    this.check();
    world.telling = event;
    try {
      let isRejecting = false;
      for (const action of actions) if (this.act(action)) isRejecting = true;
      if (!isRejecting) return undefined;
      this.note("rejects");
      const error = new Error("of a handler's promise");
      if (this.#isCloseTold) world.expectedErrors++;
      else if (this.connection.state !== "closed") this.#rejections.push(error);
      const rejected = Promise.reject(error);
      rejected.catch(() => {}); // a bug may be that nobody looks at it
      return rejected;
    } catch (error) {
      this.note("throws", (error as Error).message);
      if (this.#isCloseTold) world.expectedErrors++;
      else if (this.connection.state !== "closed") this.#closedWith = { error };
      throw error;
    } finally {
      world.telling = undefined;
    }
  }

  #checkReading(event: string): void {
    if (this.#isEndTold) this.fail(`${event} is told after end`);
    if (this.#isPaused) this.fail(`${event} is told while reading is paused`);
    if (this.#isFinishing) this.fail(`${event} is told after finish()`);
    if (this.connection.state === "closed") this.fail(`${event} is told to a closed connection`);
  }

  #checkClose(error: unknown): void {
    const { other } = this;
    if (this.connection.state !== "closed") this.fail(`close is told to a connection that is ${this.connection.state}`);
    if (this.#closedWith !== undefined) {
      if (error !== this.#closedWith.error) this.fail(`close is told with ${error}, not ${this.#closedWith.error}`);
      return;
    }
    if (this.#rejections.includes(error)) return;
    if (error === undefined) {
      const haveBothEnded = this.#isEndTold && (this.#hasCalledEnd || !this.#script.allowHalfOpen);
      if (!haveBothEnded && !this.#isFinishing && !other.isReleased) this.fail("closed for no reason");
      if (this.sent !== this.written && !other.isReleased) this.fail(`dropped ${this.written - this.sent} bytes`);
    } else if (!(error instanceof SystemError) || !this.mayFail) {
      this.fail(`closed with ${error}`);
    }
    const isExcused = other.mayLose || this.hasSentLate || this.#isPaused || this.#isFinishing;
    if (this.received !== other.sent && !isExcused) this.fail(`lost ${other.sent - this.received} bytes of the peer`);
  }
}

/** One run. */
export class World {
  readonly program: Program;
  readonly loop: EventLoop;
  readonly trace: unknown[][] = [];
  /** Grows with everything that brings the world nearer to rest. */
  progress = 0;
  /** The handler that is running. */
  telling: string | undefined;
  /** Whether a call was cut short in a way in which no kernel does it. */
  isUnfair = false;
  /** Whether bare sockets take what they are sent, and connections are resumed. */
  isHelping = false;
  /** What close handlers threw. */
  expectedErrors = 0;
  readonly #host: ManualHost = new ManualHost();
  readonly #errors: unknown[] = [];
  readonly #ends: readonly [ConnectionEnd, ConnectionEnd | SocketEnd];
  #failure: Error | undefined;

  constructor(program: Program, sabotage: Sabotage) {
    this.program = program;
    const sys = watchedCalls((fd) => this.#connections.find((end) => end.fd === fd && !end.isReleased));
    this.loop = new EventLoop(
      { onError: (error) => this.#errors.push(error) },
      { ...sys, ...sabotage.sys?.(sys) },
      this.#host,
    );
    sabotage.loop?.(this.loop);
    const [oursFd, peerFd] = program.over === "unix" ? socketPair(program) : tcpPair(program);
    const ours = new ConnectionEnd(this, "ours", oursFd, 0, program.ours, sabotage);
    const peer = program.peer === undefined
      ? new SocketEnd(this, "peer", peerFd, STREAM_BYTES)
      : new ConnectionEnd(this, "peer", peerFd, STREAM_BYTES, program.peer, sabotage);
    this.#ends = [ours, peer];
    this.#connections = peer instanceof ConnectionEnd ? [ours, peer] : [ours];
  }

  #connections: readonly ConnectionEnd[] = [];

  otherThan(end: End): End {
    return end === this.#ends[0] ? this.#ends[1] : this.#ends[0];
  }

  /** Plays the program, and comes to rest. */
  async play(): Promise<void> {
    for (const end of this.#connections) end.connection.start();
    this.#check();
    for (const step of this.program.steps) {
      await this.#step(step);
      this.#check();
    }
    const [ours, peer] = this.#ends;
    this.trace.push(["at rest"]);
    await this.#rest();
    this.trace.push(["with readers"]);
    this.isHelping = true;
    await this.#rest();
    this.trace.push(["ended"]);
    if (peer instanceof SocketEnd) peer.act(["shutdown"]);
    for (const end of this.#connections) end.act(["end", 0]);
    await this.#rest();
    if (this.#connections.every((end) => end.isFinishing)) {
      this.trace.push(["cut off, as neither reads any more"]);
      ours.act(["close"]);
      await this.#rest();
    }
    for (const end of this.#connections) if (!end.isReleased) end.fail("does not close");
    if (this.loop.poller.size !== 1) this.fail(`${this.loop.poller.size - 1} connections are still watched`);
    if (this.#errors.length !== this.expectedErrors) this.fail(`onError was handed ${this.#errors.join(", ")}`);
    if (peer instanceof SocketEnd) peer.act(["close"]);
  }

  /** Releases what is left. */
  async close(): Promise<void> {
    for (const { fd, isReleased } of this.#ends) if (!isReleased) realSyscalls.close(fd);
    await this.loop.close();
  }

  /** Ends the run. What is thrown inside a handler would end but its connection. */
  fail(what: string): never {
    this.#failure ??= new Error(`${what}\n${this.trace.map((entry) => entry.join(" ")).join("\n")}`);
    throw this.#failure;
  }

  async #step(step: Step): Promise<void> {
    const [ours, peer] = this.#ends;
    switch (step[0]) {
      case "turn":
        this.trace.push(["turn"]);
        this.loop.turn(0);
        return;
      case "microtask":
        await undefined;
        return;
      case "wait":
        this.#host.clockMs += step[1];
        return;
      case "ours":
        return void ours.act(step[1]);
      case "peer":
        if (peer instanceof ConnectionEnd) peer.act(step[1]);
        return;
      case "socket":
        if (peer instanceof SocketEnd) peer.act(step[1]);
        return;
    }
  }

  /** Takes turns until nothing happens any more, by when nothing may be missing. */
  async #rest(): Promise<void> {
    let deadline = 0;
    let clockSteps = 0;
    for (let turns = 0, still = 0, quiet = 0;; turns++) {
      const before = this.progress;
      const [, peer] = this.#ends;
      if (this.isHelping && peer instanceof SocketEnd) peer.receiveUpTo(STREAM_BYTES);
      const hasHappened = this.loop.turn(0);
      await undefined;
      this.#check();
      const hasProgressed = this.progress !== before;
      still = hasHappened && !hasProgressed ? still + 1 : 0;
      if (still > STILL_TURNS_MAX || turns > TURNS_MAX) this.fail("the loop spins");
      quiet = hasHappened || hasProgressed ? 0 : quiet + 1;
      if (quiet < 2) continue;
      if (this.#resume()) continue;
      const missing = this.#missing();
      if (missing === undefined) return;
      if (this.#isWaitingForClock() && clockSteps++ < CLOCK_STEPS_MAX) {
        this.#host.clockMs += REARM_INTERVAL_MS;
        continue;
      }
      if (this.program.over === "unix") this.fail(missing); // what is not there now never comes
      deadline ||= performance.now() + DEADLINE_MS;
      if (performance.now() > deadline) this.fail(missing);
      this.loop.turn(1);
    }
  }

  /** A connection that a handler paused is resumed, where the world helps. */
  #resume(): boolean {
    if (!this.isHelping) return false;
    const paused = this.#connections.filter(({ connection }) => connection.isPaused && connection.state !== "closed");
    for (const end of paused) end.resume();
    return paused.length > 0;
  }

  #isWaitingForClock(): boolean {
    return this.isUnfair && this.program.trigger === "edge";
  }

  #missing(): string | undefined {
    for (const end of this.#ends) {
      const missing = end.missing();
      if (missing !== undefined) return `${end.name}: ${missing}`;
    }
    return undefined;
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure;
    for (const end of this.#connections) end.check();
  }
}

/** Plays `program` in a world of its own; rejects where a connection differs from the model. */
export async function play(program: Program, sabotage: Sabotage = {}): Promise<void> {
  const world = new World(program, sabotage);
  try {
    await world.play();
  } finally {
    await world.close();
  }
}

function name(errno: number): string {
  return errnoName(errno);
}

function socketPair(program: Program): [number, number] {
  const pair = new Int32Array(new ArrayBuffer(8));
  expectValue(realSyscalls.socketpair(AF.unix, SOCK.stream | FLAGS, 0, pair), "make a pair", "socketpair");
  for (const fd of pair) setBuffers(fd, program);
  return [pair[0]!, pair[1]!];
}

function tcpPair(program: Program): [number, number] {
  const listener = tcpSocket(program);
  realSyscalls.setsockopt(listener, SOL.socket, SO.reuseaddr, encodeInt(1));
  const anyPort = encodeSockaddr({ family: "inet", address: new Uint8Array([127, 0, 0, 1]), port: 0 });
  expectValue(realSyscalls.bind(listener, anyPort), "bind to loopback", "bind");
  expectValue(realSyscalls.listen(listener, 1), "listen", "listen");
  const sockaddr = new Uint8Array(new ArrayBuffer(SOCKADDR_MAX_BYTES));
  const length = expectValue(realSyscalls.getsockname(listener, sockaddr), "read an address", "getsockname");
  const client = tcpSocket(program);
  const address = encodeSockaddr(decodeSockaddr(sockaddr, length));
  expectValue(realSyscalls.connect(client, address), "connect", "connect");
  expectValue(realSyscalls.fcntl(client, F.setfl, O.nonblock), "make a socket non-blocking", "fcntl");
  const server = expectValue(realSyscalls.accept4(listener, FLAGS), "accept", "accept4");
  realSyscalls.close(listener);
  return [server, client];
}

/** Blocking, as only so does connect(2) wait. An accepted socket has the options of its listener. */
function tcpSocket(program: Program): number {
  const fd = expectValue(realSyscalls.socket(AF.inet, SOCK.stream | SOCK.cloexec, 0), "make a socket", "socket");
  realSyscalls.setsockopt(fd, SOL.tcp, TCP.nodelay, encodeInt(1));
  // With windows smaller than a segment the kernel waits for a timer each time.
  if (program.buffers === "smallest") realSyscalls.setsockopt(fd, SOL.tcp, TCP.maxseg, encodeInt(MAXSEG_BYTES));
  setBuffers(fd, program);
  return fd;
}

/** The kernel caps what is too large, and raises what is too small: socket(7). */
function setBuffers(fd: number, { buffers }: Program): void {
  if (buffers === "default") return;
  for (const option of [SO.sndbuf, SO.rcvbuf]) {
    realSyscalls.setsockopt(fd, SOL.socket, option, encodeInt(BUFFER_BYTES[buffers]));
  }
}
