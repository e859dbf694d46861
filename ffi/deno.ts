import { type Backend, type CType, type Functions, LIBC_NAME, type SymbolTable, UnavailableError } from "./backend.ts";
import type { Host, ParkerOptions } from "./host_types.ts";
import { BaseParker, POLL_RETRY_MS, pollfd, type Timer, type Timers } from "./parker.ts";
import { type Dns, lookUp, type LookupError } from "./resolver.ts";
import { web } from "./web.ts";

const TYPE: Readonly<Record<CType, Deno.NativeType>> = { i32: "i32", u32: "u32", buffer: "buffer", pointer: "pointer" };

/** Calls C with `Deno.dlopen`. */
export const backend: Backend = {
  open<const T extends SymbolTable>(table: T): Functions<T> {
    const definitions: Record<string, Deno.ForeignFunction> = {};
    for (const [name, { parameters, result }] of Object.entries(table)) {
      definitions[name] = { parameters: parameters.map((type) => TYPE[type]), result: TYPE[result] };
    }
    return open(definitions) as unknown as Functions<T>;
  },

  int32At(pointer: unknown, count: number): Int32Array {
    const { getArrayBuffer } = Deno.UnsafePointerView;
    return permitted(() => new Int32Array(getArrayBuffer(pointer as Deno.PointerObject, 4 * count)));
  },

  addressOf(view: Uint8Array): bigint {
    return Deno.UnsafePointer.value(Deno.UnsafePointer.of(view as Uint8Array<ArrayBuffer>));
  },
};

function open<const T extends Deno.ForeignLibraryInterface>(definitions: T): Deno.StaticForeignLibraryInterface<T> {
  return permitted(() => Deno.dlopen(LIBC_NAME, definitions).symbols);
}

/**
 * The result of `use`, which needs --allow-ffi. Without a terminal to ask on, a missing permission is an error at once;
 * a permission for one library takes its name for a path, and does not find it.
 */
function permitted<T>(use: () => T): T {
  try {
    return use();
  } catch (cause) {
    if (Deno.permissions.querySync({ name: "ffi" }).state === "granted") throw cause;
    throw new UnavailableError(
      "permission",
      "Deno refuses foreign functions; run with --allow-ffi (unscoped: errno is read by address)",
      { cause },
    );
  }
}

/** Deno's own modules of Node's name; not an import, which a bundler would hoist. Slow: loads `process` first. */
function builtin(name: string): unknown {
  return (globalThis as unknown as { process: { getBuiltinModule(name: string): unknown } }).process
    .getBuiltinModule(name);
}

/** What Deno gives besides libc. */
export const host: Host = {
  ...web,
  parkerDescriptors: 0,
  settlingDescriptors(): number {
    // Half a second after its start Deno sets up a signal, and panics without two free descriptors (seen on 2.9).
    return web.now() < 1_000 ? 2 : 0;
  },
  diagnose(line: string): void {
    try {
      Deno.stderr.writeSync(web.encode(`${line}\n`));
    } catch {
      // Nobody reads the diagnostics, and there is no other place to say so.
    }
  },
  resolve(hostname: string): Promise<string[]> {
    // Not Deno.resolveDns, which reads no /etc/hosts.
    return lookUp(builtin("node:dns") as Dns, hostname, (error: LookupError) => {
      if (error.code !== "EPERM" || Deno.permissions.querySync({ name: "net" }).state === "granted") return undefined;
      return `Deno refuses; run with --allow-net (or --allow-net=${hostname}, without a port), or use an IP address`;
    });
  },
  createParker(options: ParkerOptions): PollParker {
    return new PollParker(options);
  },
};

/** How long a poll stays in the kernel where it can be unreferenced, and where it cannot. */
const SLICE_MS = 30_000;
const SLICE_HOLDING_MS = 1_000;

/**
 * The part of Deno's core that ends a promise's hold on the process. Internal, so it may be missing in another version:
 * then an unreferenced poll holds the process until its slice is over.
 */
interface Core {
  refOpPromise?(promise: Promise<unknown>): void;
  unrefOpPromise?(promise: Promise<unknown>): void;
}

type Poll = (fds: Int32Array<ArrayBuffer>, count: number, timeoutMs: number) => Promise<number>;

/** Bound by the first parker of this thread; Deno gives a library back only when it is closed. */
let nonblockingPoll: Poll | undefined;

function bindPoll(): Poll {
  return open({ poll: { parameters: ["buffer", "u32", "i32"], result: "i32", nonblocking: true } }).poll;
}

/**
 * Waits with poll(2) as a `nonblocking` foreign call, which Deno runs on a thread of its pool. One poll is under way at
 * a time and serves every park until it returns. errno is not read: it would be another thread's.
 *
 * Not guaranteed: that more than 31 parkers on one JavaScript thread work. Deno's pool has 32 threads; each parked
 * parker holds one, and Deno's own file and name look-ups wait for one.
 */
class PollParker extends BaseParker {
  readonly ready: Promise<void> = Promise.resolve();
  readonly #poll: Poll;
  readonly #core: Core | undefined;
  readonly #fds: Int32Array<ArrayBuffer>;
  #waiting: Promise<void> | undefined;
  #operation: Promise<number> | undefined;
  #retry: Timer | undefined;

  constructor(options: ParkerOptions) {
    // Deno's own timers are those of `node:timers`, which it takes long to load by name.
    super(options, globalThis as unknown as Timers);
    this.#fds = pollfd(options.epollFd);
    this.#poll = nonblockingPoll ??= bindPoll();
    const { internal } = Deno as unknown as { internal: symbol };
    this.#core = (Deno as unknown as Record<symbol, { core?: Core } | undefined>)[internal]?.core;
  }

  protected override watch(): void {
    if (this.#operation !== undefined || this.#retry !== undefined) return;
    const operation = this.#poll(this.#fds, 1, this.#core?.unrefOpPromise ? SLICE_MS : SLICE_HOLDING_MS);
    this.#operation = operation;
    this.#waiting = operation.then(this.#returned);
  }

  protected override hold(keepAlive: boolean): void {
    if (keepAlive) this.#retry?.ref();
    else this.#retry?.unref();
    if (this.#operation === undefined) return;
    if (keepAlive) this.#core?.refOpPromise?.(this.#operation);
    else this.#core?.unrefOpPromise?.(this.#operation);
  }

  protected override async end(): Promise<void> {
    this.timers.clearTimeout(this.#retry);
    if (this.#operation === undefined) return;
    this.options.nudge();
    this.hold(true);
    await this.#waiting;
  }

  readonly #returned = (ready: number): void => {
    this.#operation = undefined;
    if (!this.parked) return;
    if (ready > 0) return this.fire();
    // By a timer also at the end of a slice: a poll that cannot be unreferenced lets an unreferenced parker's process
    // end here.
    this.#retry = this.timers.setTimeout(() => {
      this.#retry = undefined;
      if (!this.parked) return;
      this.watch();
      this.hold(this.holds);
    }, ready === 0 ? 0 : POLL_RETRY_MS);
    this.hold(this.holds);
  };
}
