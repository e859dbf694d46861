import { type Backend, type CType, type Functions, LIBC_NAME, type SymbolTable } from "./backend.ts";
import type { Host, Parker, ParkerOptions } from "./host_types.ts";
import { BaseParker, POLL_RETRY_MS, ThreadParker, type Threads, type Timer, type Timers } from "./parker.ts";
import { PollRing } from "./poll_ring.ts";
import { type Dns, lookUp } from "./resolver.ts";
import { web } from "./web.ts";

type BunFFI = typeof import("bun:ffi");

const TYPE: Readonly<Record<CType, "i32" | "u32" | "ptr">> = { i32: "i32", u32: "u32", buffer: "ptr", pointer: "ptr" };

/** Not an import: a bundler would hoist it to the top of a single file and break the other runtimes. */
function bunFFI(): BunFFI {
  return process.getBuiltinModule("bun:ffi") as unknown as BunFFI;
}

/** Calls C with `bun:ffi`. */
export const backend: Backend = {
  open<const T extends SymbolTable>(table: T): Functions<T> {
    const definitions: Record<string, { args: ("i32" | "u32" | "ptr")[]; returns: "i32" | "u32" | "ptr" }> = {};
    for (const [name, { parameters, result }] of Object.entries(table)) {
      definitions[name] = { args: parameters.map((type) => TYPE[type]), returns: TYPE[result] };
    }
    return bunFFI().dlopen(LIBC_NAME, definitions).symbols as unknown as Functions<T>;
  },

  int32At(pointer: unknown, count: number): Int32Array {
    return new Int32Array(bunFFI().toArrayBuffer(pointer as import("bun:ffi").Pointer, 0, 4 * count));
  },

  addressOf(view: Uint8Array): bigint {
    return BigInt(bunFFI().ptr(view));
  },
};

/** The encoder's own array could move once its address has reached C: it may be small. */
function encode(text: string): Uint8Array<ArrayBuffer> {
  const encoded = web.encode(text);
  const bytes = new Uint8Array(new ArrayBuffer(encoded.byteLength));
  bytes.set(encoded);
  return bytes;
}

/** What Bun gives besides libc. */
export const host: Host = {
  ...web,
  parkerDescriptors: PollRing.DESCRIPTORS, // a ThreadParker's are fewer
  settlingDescriptors(): number {
    return 0;
  },
  encode,
  diagnose(line: string): void {
    try {
      process.getBuiltinModule("node:fs").writeSync(2, `${line}\n`);
    } catch {
      // Nobody reads the diagnostics, and there is no other place to say so.
    }
  },
  resolve(hostname: string): Promise<string[]> {
    return lookUp(process.getBuiltinModule("node:dns") as Dns, hostname, () => undefined);
  },
  createParker(options: ParkerOptions): Parker {
    const timers = process.getBuiltinModule("node:timers") as unknown as Timers;
    const ring = PollRing.open(backend, options.epollFd);
    if (ring !== undefined) return new RingParker(options, timers, ring);
    const { Worker } = process.getBuiltinModule("node:worker_threads") as unknown as Pick<Threads, "Worker">;
    return new ThreadParker(options, timers, { Worker, poll: POLL, sliceMs: SLICE_MS });
  },
};

/** Bun ends while a thread of its is in a foreign call, so this only says how long a forgotten parker keeps one. */
const SLICE_MS = 30_000;

const POLL = `process.getBuiltinModule("bun:ffi").dlopen("${LIBC_NAME}", {
  poll: { args: ["ptr", "u32", "i32"], returns: "i32" },
}).symbols.poll`;

/** The part of Bun's sockets that is used here. Its types have no `connect` that takes a descriptor. */
interface BunSockets {
  connect(options: { readonly fd: number; readonly socket: { readonly data: () => void } }): Promise<BunSocket>;
}

interface BunSocket {
  ref(): void;
  unref(): void;
  terminate(): void;
}

/** How often a ring is asked whether its byte is lost, while it is waited for. */
const CHECK_MS = 1_000;

/** Has Bun's own loop watch for the byte of a {@linkcode PollRing}. One byte is under way at a time and serves every park. */
class RingParker extends BaseParker {
  readonly ready: Promise<void>;
  readonly #ring: PollRing;
  #socket: BunSocket | undefined;
  readonly #check: Timer;
  #isArmed = false;
  /** Settles the promise of `end`. */
  #onAnswer: (() => void) | undefined;

  constructor(options: ParkerOptions, timers: Timers, ring: PollRing) {
    super(options, timers);
    this.#ring = ring;
    this.#check = timers.setInterval(() => {
      if (this.#isArmed && this.#ring.takeFailure()) this.#answered();
    }, CHECK_MS);
    this.#check.unref();
    this.ready = this.#watchSocket();
  }

  protected override watch(): void {
    if (this.#isArmed) return;
    this.#isArmed = true;
    if (!this.#ring.arm()) this.timers.setTimeout(this.#answered, POLL_RETRY_MS);
  }

  protected override hold(keepAlive: boolean): void {
    if (keepAlive) this.#socket?.ref();
    else this.#socket?.unref();
  }

  protected override async end(): Promise<void> {
    await this.ready.catch(() => {}); // whoever waits for it is told; then Bun has no socket, and nothing is answered
    if (this.#isArmed && this.#socket !== undefined) {
      this.hold(true);
      const answered = new Promise<void>((resolve) => this.#onAnswer = resolve);
      this.options.nudge();
      await answered;
    }
    this.#socket?.terminate();
    this.timers.clearInterval(this.#check); // before the ring's memory is gone
    this.#ring.close();
  }

  async #watchSocket(): Promise<void> {
    const { connect } = (globalThis as unknown as { Bun: BunSockets }).Bun;
    this.#socket = await connect({ fd: this.#ring.socket, socket: { data: this.#answered } });
    this.hold(this.holds);
  }

  readonly #answered = (): void => {
    this.#isArmed = false;
    this.#onAnswer?.();
    this.fire();
  };
}
