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
import { type CloseReason, ConnectionError } from "../../src/close_reason.ts";
import { type Chunk, Connection } from "../../src/connection.ts";
import { type ConnectionHandlers, type ConnectionOptions, resolveConnection } from "../../src/connection_options.ts";
import { FINISH_CHECK_MS, NO_MEMORY_MS, READ_BUDGET_BYTES, REARM_INTERVAL_MS } from "../../src/limits.ts";
import { EventLoop } from "../../src/loop.ts";
import { SharedBytes } from "../../src/shared_bytes.ts";
import { type Cut, type WatchedCalls, watchedCalls } from "./connection_calls.ts";
import { ManualHost } from "./hosts.ts";

/** What a connection is made to do, between turns or in a handler. Numbers are bytes. */
export type Action =
  | readonly ["write" | "write text" | "write shared", number]
  /** In three pieces, one of them empty. */
  | readonly ["writev", number]
  | readonly ["cork" | "uncork"]
  /** With a chunk, unless that is empty. */
  | readonly ["end", number]
  | readonly ["pause" | "resume" | "finish" | "close" | "abort"]
  /** Without waiting for the peer to have everything, and for a reason of its own. */
  | readonly ["finish at once"]
  | readonly ["close with an error"]
  /** Gives as much of what came last back. */
  | readonly ["unread", number]
  /** Counts what is unfinished. */
  | readonly ["progress", number]
  | readonly ["set handlers"]
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

/** Limits of a connection. What is absent is unlimited. */
export type Limits = Pick<
  ConnectionOptions,
  | "maxQueuedBytes"
  | "slowReaderMs"
  | "idleTimeoutMs"
  | "readTimeoutMs"
  | "writeTimeoutMs"
  | "handshakeTimeoutMs"
  | "bytesInPerSecond"
  | "bytesOutPerSecond"
>;

/** A connection's part. */
export interface Script {
  readonly allowHalfOpen: boolean;
  readonly highWaterBytes: number;
  readonly lowWaterBytes: number;
  /** Which the peer may exceed. */
  readonly limits: Limits;
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
  /** Of the loop. */
  readonly maxQueuedBytes?: number | undefined;
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
/** How long TCP may take over the next of what is under way. */
const DEADLINE_MS = 20_000;
/** Time that may be needed for what waits for a clock. */
const CLOCK_STEPS_MAX = 100;
const THROTTLED_STEP_MS = 500;
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
    return this.world.program.over === "tcp" && (this.isUnclean || this.other.hasSentLate);
  }

  /** Whether this end takes what it is sent, when the world helps. */
  abstract get isTaking(): boolean;

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

  get isTaking(): boolean {
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
    if (!this.isTaking || this.#isOver) return undefined;
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
    if (!other.mayLose && this.received !== other.sent) {
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
  readonly #sabotage: Sabotage;
  /** Bytes that were written, also in vain. */
  #offered = 0;
  /** Bytes in its queue when the descriptor was closed. */
  #queuedAtLast = 0;
  /** Whether the queues of the loop held too much then. */
  #wasOver = false;
  #lacksMemory = false;
  #sends = 0;
  #receives = 0;
  #datas = 0;
  #drains = 0;
  #rank = 0;
  #isOpenTold = false;
  #isEndTold = false;
  #isCloseTold = false;
  #isPaused = false;
  /** When the descriptor was closed. */
  #wasPaused = false;
  /** `write` said false, and `drain` has not followed. */
  #isDrainDue = false;
  /** When the queue reached the high-water mark; undefined once it has fallen to the low one. */
  #overSinceMs: number | undefined;
  /** What finish() was called for. */
  #finishReason: CloseReason | undefined;
  #hasCalledEnd = false;
  /** The kernel refused our stream. */
  #hasSendFailed = false;
  #corks = 0;
  /** Of the handlers that are told. */
  #generation = 0;
  #isLingerZero = false;
  /** Who closed it on purpose, and with what. */
  #closedWith: { readonly error: unknown; readonly reason: CloseReason } | undefined;
  /** What promises of handlers were rejected with. */
  readonly #rejections: unknown[] = [];

  constructor(world: World, name: string, fd: number, from: number, script: Script, sabotage: Sabotage) {
    super(world, name, fd, from);
    this.#script = script;
    this.#sabotage = sabotage;
    const { allowHalfOpen, highWaterBytes, lowWaterBytes, limits } = script;
    const { loop, program: { trigger } } = world;
    const settings = resolveConnection(
      { trigger, allowHalfOpen, highWaterBytes, lowWaterBytes, ...limits },
      this.#handlers(),
      (error) => loop.report(error),
    );
    this.connection = new Connection(loop, fd, settings);
    sabotage.connection?.(this.connection);
  }

  /** Whether its last send was refused for lack of memory. */
  get lacksMemory(): boolean {
    return this.#lacksMemory;
  }

  get isThrottled(): boolean {
    const { bytesInPerSecond, bytesOutPerSecond } = this.#script.limits;
    return bytesInPerSecond !== undefined || bytesOutPerSecond !== undefined;
  }

  get isFinishing(): boolean {
    return this.#isFinishing && this.connection.state !== "closed";
  }

  get isTaking(): boolean {
    return this.connection.state !== "closed" && (this.#isFinishing || !this.#isPaused);
  }

  /** Returns whether the handler is to reject. */
  act(action: Action): boolean {
    const { connection } = this;
    const { state } = connection;
    switch (action[0]) {
      case "write":
      case "write text":
      case "write shared":
      case "writev": {
        const chunk = this.#chunk(action[1]);
        this.#offered += chunk.byteLength;
        if (state === "open") this.written += chunk.byteLength;
        const hasRoom = action[0] === "writev"
          ? connection.writev(inPieces(chunk))
          : connection.write(CHUNKS[action[0]](chunk));
        chunk.fill(0); // the caller's own again
        this.note(action[0], chunk.byteLength, "said", hasRoom, "queued", connection.queuedBytes);
        const { highWaterBytes } = this.#script;
        if (hasRoom !== (connection.state === "open" && connection.queuedBytes < highWaterBytes)) {
          this.fail(`write said ${hasRoom} with ${connection.queuedBytes} bytes queued`);
        }
        if (!hasRoom && connection.state === "open") this.#isDrainDue = true;
        this.#lookWhetherOver();
        if (connection.state === "open" && connection.queuedBytes > (this.#script.limits.maxQueuedBytes ?? Infinity)) {
          this.fail(`keeps ${connection.queuedBytes} bytes`);
        }
        break;
      }
      case "end": {
        const chunk = this.#chunk(action[1]);
        this.#offered += chunk.byteLength;
        if (state === "open") this.written += chunk.byteLength;
        if (state === "open") this.#hasCalledEnd = true;
        this.#corks = 0;
        this.note("end", chunk.byteLength);
        if (chunk.byteLength > 0) connection.end(chunk);
        else connection.end();
        this.#lookWhetherOver();
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
        this.note("resume");
        this.#isPaused = false;
        connection.resume();
        break;
      case "finish":
      case "finish at once":
        this.note(action[0]);
        if (state !== "closed") this.#finishReason ??= action[0] === "finish" ? "close" : "stop";
        this.#corks = 0;
        if (action[0] === "finish") connection.finish();
        else connection.finish({ timeoutMs: 0, reason: "stop" });
        if (connection.state === "open") this.fail("is open after finish()");
        break;
      case "close":
      case "close with an error": {
        const error = action[0] === "close" ? undefined : new Error("of close()");
        this.note(action[0]);
        if (state !== "closed") this.#closedWith = { error, reason: "close" };
        connection.close(error);
        if (connection.state !== "closed") this.fail(`is ${connection.state} after close()`);
        break;
      }
      case "abort":
        this.note("abort");
        if (state !== "closed") this.#closedWith = { error: undefined, reason: "abort" };
        connection.abort();
        if (connection.state !== "closed") this.fail(`is ${connection.state} after abort()`);
        break;
      case "cork":
        this.note("cork");
        if (state === "open") this.#corks++;
        connection.cork();
        break;
      case "uncork":
        this.note("uncork");
        this.#corks = Math.max(0, this.#corks - 1);
        connection.uncork();
        break;
      case "unread": {
        // Nothing is delivered any more after these.
        if (state === "closed" || this.#isEndTold || this.#isFinishing) break;
        const count = Math.min(action[1], this.received);
        this.note("unread", count);
        this.received -= count;
        const bytes = Uint8Array.from(this.other.pattern(this.received, this.received + count));
        connection.unread(bytes);
        bytes.fill(0); // the caller's own again
        break;
      }
      case "progress":
        connection.progress(action[1]);
        break;
      case "set handlers":
        this.note("set handlers");
        this.#generation++;
        connection.setHandlers(this.#handlers());
        break;
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

  /** What a handler has held up goes on. Returns whether there was anything. */
  help(): boolean {
    if (this.connection.state === "closed" || (!this.#isPaused && this.#corks === 0)) return false;
    while (this.#corks > 0) this.act(["uncork"]);
    if (this.#isPaused) this.act(["resume"]);
    return true;
  }

  /** What must always hold. */
  check(): void {
    const { state, queuedBytes } = this.connection;
    if (RANK[state] < this.#rank) this.fail(`became ${state} again`);
    this.#rank = RANK[state];
    const queued = state === "closed" || this.#hasSendFailed ? 0 : this.written - this.sent;
    if (queuedBytes !== queued) this.fail(`queuedBytes is ${queuedBytes}, ${queued} bytes are queued`);
    const { bytesSent, bytesReceived, bytesDropped } = this.connection;
    const dropped = this.#offered - this.sent - queuedBytes;
    if (bytesDropped !== dropped) this.fail(`bytesDropped is ${bytesDropped}, ${dropped} bytes were dropped`);
    if (bytesSent !== this.sent) this.fail(`bytesSent is ${bytesSent}, ${this.sent} bytes were sent`);
    if (bytesReceived !== this.taken) this.fail(`bytesReceived is ${bytesReceived}, ${this.taken} bytes were received`);
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
    if (this.#hasSendFailed) return "does not close after its stream has failed";
    if (other.isUnclean && !this.#isPaused) return "the peer's reset is not noticed";
    if (other.isReleased && queuedBytes > 0 && this.#corks === 0) return "bytes are queued for a peer that has gone";
    if (this.#isFinishing && (other.isTaking || other.isReleased)) return "finish() does not close";
    if (other.isTaking && this.#corks === 0) {
      if (queuedBytes > 0) return "queued bytes are not sent";
      if (state === "ending") return "the stream is not ended";
      if (this.#isEndTold && !this.#script.allowHalfOpen) return "does not close after the end of the peer's stream";
    }
    if (this.#isEndTold && state === "ended") return "does not close though both streams have ended";
    if (this.#isDrainDue && state === "open" && queuedBytes <= this.#script.lowWaterBytes) return "drain is not told";
    if (!this.#isPaused && !this.#isFinishing && !this.#isEndTold) {
      if (this.received < other.sent) return "bytes are not delivered";
      if (other.hasEnded) return "end is not told";
    }
    return undefined;
  }

  nextCut(call: "send" | "recv"): Cut {
    const { sends, receives } = this.#script;
    const cut = (call === "send" ? sends[this.#sends++] : receives[this.#receives++]) ?? "whole";
    if (call === "send") this.#lacksMemory = cut === "ENOBUFS";
    // A socket whose peer has gone refuses for good.
    if (cut === "whole" || (this.other.isReleased && cut !== "EINTR")) return "whole";
    this.world.progress++;
    // Where edges are waited for, a kernel that is full or empty would report the next one.
    if (cut !== "EINTR" && (call === "recv" || cut === "EAGAIN")) this.world.isUnfair = true;
    this.note(call, "is cut to", cut);
    return cut;
  }

  onSend(result: number): void {
    if (this.other.isReleased) this.hasSentLate = true;
    if (result < 0 && result !== -ERRNO.EAGAIN[0]) this.#hasSendFailed = true;
    if (result <= 0) return;
    this.sent += result;
    this.world.progress++;
    if (this.sent > this.written) this.fail(`sent ${this.sent} bytes of ${this.written}`);
    if (this.written - this.sent <= this.#script.lowWaterBytes) this.#overSinceMs = undefined;
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
    this.#wasPaused = this.#isPaused;
    this.#queuedAtLast = this.written - this.sent;
    const otherQueuedBytes = this.other instanceof ConnectionEnd ? this.other.connection.queuedBytes : 0;
    this.#wasOver = this.#queuedAtLast + otherQueuedBytes > (this.world.program.maxQueuedBytes ?? Infinity);
    this.released(this.#isLingerZero);
  }

  #lookWhetherOver(): void {
    if (this.written - this.sent >= this.#script.highWaterBytes) this.#overSinceMs ??= this.world.elapsedMs;
  }

  get #isFinishing(): boolean {
    return this.#finishReason !== undefined;
  }

  #chunk(count: number): Uint8Array {
    const { written } = this;
    const length = this.upTo(count);
    const chunk = SCRATCH.subarray(0, length);
    chunk.set(this.pattern(written, written + length));
    return chunk;
  }

  #handlers(): ConnectionHandlers {
    const handlers = this.#toldHandlers(this.#generation);
    return { ...handlers, ...this.#sabotage.handlers?.(handlers) };
  }

  /** @param generation Of these. */
  #toldHandlers(generation: number): Required<ConnectionHandlers> {
    const script = this.#script;
    return {
      open: () =>
        this.#told(generation, "open", script.open, () => {
          if (this.#isOpenTold) this.fail("open is told twice");
          this.#isOpenTold = true;
        }),
      data: (_, bytes) =>
        this.#told(generation, `data ${bytes.byteLength}`, script.data[this.#datas++], () => {
          this.#checkReading("data");
          if (bytes.byteLength === 0) this.fail("data is told of nothing");
          this.receive(bytes);
        }),
      drain: () =>
        this.#told(generation, "drain", script.drain[this.#drains++], () => {
          const { state, queuedBytes } = this.connection;
          if (!this.#isDrainDue) this.fail("drain is told though write did not say false");
          if (state !== "open") this.fail(`drain is told to a connection that is ${state}`);
          if (queuedBytes > script.lowWaterBytes) this.fail(`drain is told with ${queuedBytes} bytes queued`);
          this.#isDrainDue = false;
        }),
      end: () =>
        this.#told(generation, "end", script.end, () => {
          this.#checkReading("end");
          if (!this.other.hasEnded) this.fail("end is told though the peer's stream has not ended");
          if (this.received !== this.other.sent && !this.other.mayLose) {
            this.fail(`end is told ${this.other.sent - this.received} bytes early`);
          }
          this.#isEndTold = true;
        }),
      close: (_, error, reason) =>
        this.#told(generation, `close (${reason}) ${error ?? ""}`, script.close, () => {
          this.#isCloseTold = true;
          this.world.told.push(error);
          this.#checkClose(error, reason);
        }),
    } as Required<ConnectionHandlers>;
  }

  /** Checks that `event` may be told, and reacts to it. */
  #told(generation: number, event: string, actions: readonly Action[] = [], check: () => void): unknown {
    const { world } = this;
    this.note("is told", event);
    world.progress++;
    if (generation !== this.#generation) this.fail(`${event} is told to handlers that were replaced`);
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
      world.thrown.push(error);
      if (this.connection.state !== "closed") this.#rejections.push(error);
      const rejected = Promise.reject(error);
      rejected.catch(() => {}); // a bug may be that nobody looks at it
      return rejected;
    } catch (error) {
      this.note("throws", (error as Error).message);
      world.thrown.push(error);
      if (this.connection.state !== "closed") this.#closedWith = { error, reason: "handler error" };
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

  #checkClose(error: unknown, reason: CloseReason): void {
    const { other } = this;
    if (this.connection.state !== "closed") this.fail(`close is told to a connection that is ${this.connection.state}`);
    if (this.#closedWith !== undefined) {
      if (error !== this.#closedWith.error) this.fail(`close is told with ${error}, not ${this.#closedWith.error}`);
      if (reason !== this.#closedWith.reason) this.fail(`the reason is "${reason}", not "${this.#closedWith.reason}"`);
      return;
    }
    if (this.#rejections.includes(error)) {
      if (reason !== "handler error") this.fail(`the reason is "${reason}", though a handler's promise was rejected`);
      return;
    }
    if (error === undefined) {
      const haveBothEnded = this.#isEndTold && (this.#hasCalledEnd || !this.#script.allowHalfOpen);
      if (!haveBothEnded && !this.#isFinishing && !other.isReleased) this.fail("closed for no reason");
      if (this.sent !== this.written) this.fail(`dropped ${this.written - this.sent} bytes`);
      const expected = this.#finishReason ?? "end";
      if (this.#isFinishing && this.isUnclean && !other.isUnclean) this.#checkDiscarded();
      if (reason !== expected) this.fail(`the reason is "${reason}", not "${expected}"`);
    } else if (error instanceof ConnectionError) {
      return this.#checkLimit(reason);
    } else if (!(error instanceof SystemError) || !(this.mayFail || (other.isReleased && this.sent < this.written))) {
      this.fail(`closed with ${error}`);
    } else if (reason !== "reset") {
      this.fail(`the reason is "${reason}", not "reset"`);
    }
    const isExcused = other.mayLose || this.#wasPaused || this.#isFinishing;
    if (this.received !== other.sent && !isExcused) this.fail(`lost ${other.sent - this.received} bytes of the peer`);
  }

  /** Checks that what finish() left unread could not have been read. */
  #checkDiscarded(): void {
    const { other, world } = this;
    // Over TCP more may be under way; and a turn reads no more than its budget.
    if (world.program.over === "tcp" || world.isUnfair || other.sent - this.received > READ_BUDGET_BYTES) return;
    this.fail("finish() left bytes unread, which makes the close a reset");
  }

  /** Checks that a limit was exceeded, as well as can be told from here. */
  #checkLimit(reason: CloseReason): void {
    const { limits } = this.#script;
    const { maxQueuedBytes = Infinity, slowReaderMs = Infinity } = limits;
    const { elapsedMs } = this.world;
    if (reason === "slow reader") {
      const isSlow = this.#overSinceMs !== undefined && elapsedMs - this.#overSinceMs >= slowReaderMs;
      if (!isSlow && this.#queuedAtLast <= maxQueuedBytes && !this.#wasOver) {
        this.fail(`cut off with ${this.#queuedAtLast} bytes queued`);
      }
    } else if (reason !== "timeout") {
      this.fail(`the reason is "${reason}", though a limit was exceeded`);
    } else if (!TIMEOUTS.some((name) => elapsedMs >= (limits[name] ?? Infinity))) {
      this.fail(`timed out after ${elapsedMs} ms`);
    }
  }
}

/** Ours. */
const TIMEOUTS = ["idleTimeoutMs", "readTimeoutMs", "writeTimeoutMs", "handshakeTimeoutMs"] as const;

/** The forms in which one chunk may be written. */
const CHUNKS: Record<"write" | "write text" | "write shared", (chunk: Uint8Array) => Chunk> = {
  "write": (chunk) => chunk,
  "write text": (chunk) => Buffer.from(chunk).toString("latin1"),
  "write shared": (chunk) => new SharedBytes(chunk),
};

function inPieces(chunk: Uint8Array): Chunk[] {
  const half = chunk.byteLength >> 1;
  return [chunk.subarray(0, half), "", CHUNKS["write shared"](chunk.subarray(half))];
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
  /** What handlers threw, and what their promises were rejected with. */
  readonly thrown: unknown[] = [];
  /** What `close` was told. */
  readonly told: unknown[] = [];
  readonly #host: ManualHost = new ManualHost();
  readonly #startedAtMs: number = this.#host.clockMs;
  readonly #errors: unknown[] = [];
  readonly #ends: readonly [ConnectionEnd, ConnectionEnd | SocketEnd];
  #failure: Error | undefined;

  constructor(program: Program, sabotage: Sabotage) {
    this.program = program;
    const sys = watchedCalls((fd) => this.#connections.find((end) => end.fd === fd && !end.isReleased));
    this.loop = new EventLoop(
      { onError: (error) => this.#errors.push(error), maxQueuedBytes: program.maxQueuedBytes },
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

  /** What the clock has moved since it began. */
  get elapsedMs(): number {
    return this.#host.clockMs - this.#startedAtMs;
  }

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
    const [, peer] = this.#ends;
    this.trace.push(["at rest"]);
    await this.#rest();
    this.trace.push(["with readers"]);
    this.isHelping = true;
    await this.#rest();
    this.trace.push(["ended"]);
    if (peer instanceof SocketEnd) peer.act(["shutdown"]);
    for (const end of this.#connections) end.act(["end", 0]);
    await this.#rest();
    for (const end of this.#connections) if (!end.isReleased) end.fail("does not close");
    if (this.loop.poller.size !== 1) this.fail(`${this.loop.poller.size - 1} connections are still watched`);
    // Nothing is swallowed, and nothing told twice.
    for (const error of this.thrown) {
      const times = [...this.#errors, ...this.told].filter((told) => told === error).length;
      if (times !== 1) this.fail(`${error} was told ${times} times`);
    }
    const foreign = this.#errors.filter((error) => !this.thrown.includes(error));
    if (foreign.length > 0) this.fail(`onError was handed ${foreign.join(", ")}`);
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
      if (hasProgressed) deadline = clockSteps = 0;
      if (quiet < 2) continue;
      if (this.isHelping && this.#connections.filter((end) => end.help()).length > 0) continue;
      const missing = this.#missing();
      if (missing === undefined) return;
      const clockStepMs = this.#clockStepMs();
      if (this.program.over === "unix") {
        // Without a clock, what is not there now never comes.
        if (clockStepMs === 0 || clockSteps++ === CLOCK_STEPS_MAX) this.fail(missing);
      } else {
        deadline ||= performance.now() + DEADLINE_MS;
        if (performance.now() > deadline) this.fail(missing);
        this.loop.turn(1);
      }
      this.#host.clockMs += clockStepMs;
    }
  }

  /**
   * How much time has to pass before anything can happen: until sources are armed anew, a rate lets bytes pass, the kernel
   * is asked for memory again, or a finish is looked at.
   */
  #clockStepMs(): number {
    if (this.isUnfair && this.program.trigger === "edge") return REARM_INTERVAL_MS;
    if (this.#connections.some(({ isThrottled }) => isThrottled)) return THROTTLED_STEP_MS;
    if (this.#connections.some(({ lacksMemory }) => lacksMemory)) return NO_MEMORY_MS;
    return this.#connections.some(({ isFinishing }) => isFinishing) ? FINISH_CHECK_MS : 0;
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
