import {
  type Backend,
  type Functions,
  LIBC_NAME,
  type StreamCalls,
  type SymbolTable,
  UnavailableError,
} from "./backend.ts";
import { MSG } from "./constants.ts";
import type { Host, Parker, ParkerOptions } from "./host_types.ts";
import { BaseParker, ThreadParker, type Threads, type Timers } from "./parker.ts";
import { type Dns, lookUp } from "./resolver.ts";
import { shortened, type ShortTransfer } from "./short_calls.ts";
import { web } from "./web.ts";

interface NodeSignature {
  arguments: readonly string[];
  return: string;
}

/** The part of `node:ffi` that this backend uses; its own types are newer than the ones other runtimes check with. */
interface NodeFFI {
  dlopen(
    path: string | null,
    definitions: Record<string, NodeSignature>,
  ): { functions: unknown; lib: { registerCallback(signature: NodeSignature, callback: unknown): bigint } };
  getCurrentEventLoop?(): bigint;
  toArrayBuffer(pointer: bigint, length: number, copy: boolean): ArrayBuffer;
  getRawPointer(source: ArrayBufferView): bigint;
}

/** Not an import: Deno does not know the specifier, not even in a type. */
function nodeFFI(): NodeFFI {
  const ffi = process.getBuiltinModule("node:ffi") as unknown as NodeFFI | undefined;
  if (ffi !== undefined) return ffi;
  throw new UnavailableError(
    "runtime",
    `Node ${process.versions.node} runs without node:ffi; use Node 26.9 or later (26.1 to 26.8: with --experimental-ffi), ` +
      "and not with --no-experimental-ffi",
  );
}

/** Calls C with `node:ffi`. */
export const backend: Backend = {
  open<const T extends SymbolTable>(table: T): Functions<T> {
    const definitions: Record<string, NodeSignature> = {};
    for (const [name, { parameters, result }] of Object.entries(table)) {
      definitions[name] = { arguments: parameters, return: result };
    }
    return open(LIBC_NAME, definitions).functions as Functions<T>;
  },

  streamCalls({ recv, send }): StreamCalls {
    const signature = { arguments: ["i32", "pointer", "u32"], return: "i32" };
    const { read, write } = open(LIBC_NAME, { read: signature, write: signature }).functions as Record<
      "read" | "write",
      ShortTransfer
    >;
    const { getRawPointer } = nodeFFI();
    return {
      recv: shortened(recv, read, 0, getRawPointer),
      send: shortened(send, write, MSG.nosignal, getRawPointer), // Node ignores SIGPIPE, for its own sockets' sake
    };
  },

  int32At(pointer: unknown, count: number): Int32Array {
    return new Int32Array(nodeFFI().toArrayBuffer(pointer as bigint, 4 * count, false));
  },

  addressOf(view: Uint8Array): bigint {
    return nodeFFI().getRawPointer(view);
  },
};

function open(path: string | null, definitions: Record<string, NodeSignature>): ReturnType<NodeFFI["dlopen"]> {
  try {
    return nodeFFI().dlopen(path, definitions);
  } catch (cause) {
    if ((cause as { code?: string }).code !== "ERR_ACCESS_DENIED") throw cause;
    throw new UnavailableError("permission", "Node runs with --permission; add --allow-ffi", { cause });
  }
}

/** What Node gives besides libc. */
export const host: Host = {
  ...web,
  get parkerDescriptors(): number {
    return canUseLibuv() ? 0 : 5;
  },
  settlingDescriptors(): number {
    return 0;
  },
  diagnose(line: string): void {
    try {
      process.getBuiltinModule("node:fs").writeSync(2, `${line}\n`);
    } catch {
      // Nobody reads the diagnostics, and there is no other place to say so.
    }
  },
  resolve(hostname: string): Promise<string[]> {
    return lookUp(process.getBuiltinModule("node:dns") as Dns, hostname, ({ code }) => {
      if (code !== "ERR_ACCESS_DENIED") return undefined;
      return "Node runs with --permission; add --allow-net, or use an IP address";
    });
  },
  createParker(options: ParkerOptions): Parker {
    const timers = process.getBuiltinModule("node:timers") as unknown as Timers;
    if (canUseLibuv()) return new UvParker(options, timers);
    const { Worker } = process.getBuiltinModule("node:worker_threads") as unknown as Pick<Threads, "Worker">;
    return new ThreadParker(options, timers, { Worker, poll: POLL, sliceMs: SLICE_MS });
  },
};

/**
 * Node aborts when a Worker ends, for whatever reason, while a handle that is not Node's own is open in the Worker's
 * libuv loop. On the main thread it does not mind.
 */
function canUseLibuv(): boolean {
  return process.getBuiltinModule("node:worker_threads").isMainThread && nodeFFI().getCurrentEventLoop !== undefined;
}

/** Node waits for every thread before it ends, so a process that did not close its parker ends this much later. */
const SLICE_MS = 1_000;

const POLL = `process.getBuiltinModule("node:ffi").dlopen("${LIBC_NAME}", {
  poll: { arguments: ["buffer", "u32", "i32"], return: "i32" },
}).functions.poll`;

/** `uv_handle_type` and `enum uv_poll_event`. Source: uv.h of libuv 1. */
const UV_POLL = 8;
const UV_READABLE = 1;

interface Uv {
  uv_handle_size(type: number): bigint;
  uv_poll_init(loop: bigint, handle: bigint, fd: number): number;
  uv_poll_start(handle: bigint, events: number, callback: bigint): number;
  uv_poll_stop(handle: bigint): number;
  uv_ref(handle: bigint): void;
  uv_unref(handle: bigint): void;
  uv_close(handle: bigint, callback: bigint): void;
  malloc(size: bigint): bigint;
  free(memory: bigint): void;
}

/** libuv as it is linked into Node, and the two callbacks that serve every parker; never released. */
interface Libuv {
  /** Node still runs the loop after its `exit` event, but aborts when that calls back. */
  isExiting: boolean;
  readonly uv: Uv;
  readonly loop: bigint;
  /** `uv_poll_cb`. */
  readonly onPoll: bigint;
  /** `uv_close_cb`. */
  readonly onClose: bigint;
  readonly parkers: Map<bigint, UvParker>;
}

let libuv: Libuv | undefined;

function bindLibuv(): Libuv {
  const { functions, lib } = open(null, {
    uv_handle_size: { arguments: ["i32"], return: "u64" },
    uv_poll_init: { arguments: ["pointer", "pointer", "i32"], return: "i32" },
    uv_poll_start: { arguments: ["pointer", "i32", "pointer"], return: "i32" },
    uv_poll_stop: { arguments: ["pointer"], return: "i32" },
    uv_ref: { arguments: ["pointer"], return: "void" },
    uv_unref: { arguments: ["pointer"], return: "void" },
    uv_close: { arguments: ["pointer", "pointer"], return: "void" },
    malloc: { arguments: ["u64"], return: "pointer" },
    free: { arguments: ["pointer"], return: "void" },
  });
  const uv = functions as Uv;
  const parkers = new Map<bigint, UvParker>();
  const bound: Libuv = {
    isExiting: false,
    uv,
    loop: nodeFFI().getCurrentEventLoop!(),
    onPoll: lib.registerCallback(
      { arguments: ["pointer", "i32", "i32"], return: "void" },
      (handle: bigint) => parkers.get(handle)?.onPoll(),
    ),
    onClose: lib.registerCallback(
      { arguments: ["pointer"], return: "void" },
      (handle: bigint) => parkers.get(handle)?.onClose(),
    ),
    parkers,
  };
  // First, so that a parker that is closed by another listener knows.
  process.prependListener("exit", () => {
    bound.isExiting = true;
    for (const handle of parkers.keys()) uv.uv_poll_stop(handle);
  });
  return bound;
}

function doNothing(): void {}

/** Lets the libuv loop that Node runs on watch the descriptor, so there is nothing to hand over between threads. */
class UvParker extends BaseParker {
  readonly ready: Promise<void> = Promise.resolve();
  readonly #libuv: Libuv;
  /** A `uv_poll_t` in memory of C: libuv uses it until the loop is gone, and no garbage collector must know of it. */
  readonly #handle: bigint;
  #started = false;
  #held = true;
  #onClosed: (() => void) | undefined;

  constructor(options: ParkerOptions, timers: Timers) {
    super(options, timers);
    this.#libuv = libuv ??= bindLibuv();
    const { uv, loop, parkers } = this.#libuv;
    this.#handle = uv.malloc(uv.uv_handle_size(UV_POLL));
    const result = uv.uv_poll_init(loop, this.#handle, options.epollFd);
    if (result < 0) {
      uv.free(this.#handle);
      throw new Error(`Cannot watch the epoll descriptor: uv_poll_init returned ${result}`);
    }
    parkers.set(this.#handle, this);
  }

  protected override watch(): void {
    const { uv, onPoll, isExiting } = this.#libuv;
    if (this.#started || isExiting) return;
    const result = uv.uv_poll_start(this.#handle, UV_READABLE, onPoll);
    if (result < 0) throw new Error(`Cannot watch the epoll descriptor: uv_poll_start returned ${result}`);
    this.#started = true;
  }

  protected override hold(keepAlive: boolean): void {
    if (keepAlive === this.#held) return;
    this.#held = keepAlive;
    if (keepAlive) this.#libuv.uv.uv_ref(this.#handle);
    else this.#libuv.uv.uv_unref(this.#handle);
  }

  protected override end(): Promise<void> {
    if (this.#libuv.isExiting) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onClosed = resolve;
    this.hold(true);
    this.#libuv.uv.uv_close(this.#handle, this.#libuv.onClose);
    return promise;
  }

  /**
   * Called by libuv, where an exception would be fatal. It stays started after a wake, so that parking again costs no
   * system call; one that comes while nothing is parked stops it.
   */
  onPoll(): void {
    if (!this.parked) {
      this.#libuv.uv.uv_poll_stop(this.#handle);
      this.#started = false;
      return;
    }
    // To Node this is no task: the promises that it settles go on when the next one is over.
    this.timers.setImmediate(doNothing);
    this.fire();
  }

  /** Called by libuv once it is done with the handle. */
  onClose(): void {
    this.timers.setImmediate(() => {
      const { uv, parkers } = this.#libuv;
      parkers.delete(this.#handle);
      uv.free(this.#handle);
      this.#onClosed?.();
    });
  }
}
