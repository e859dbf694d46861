import { type Backend, type CType, type Functions, LIBC_NAME, type SymbolTable } from "./backend.ts";
import type { Host, ParkerOptions } from "./host_types.ts";
import { ThreadParker, type Threads, type Timers } from "./parker.ts";
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

  int32At(pointer: unknown): Int32Array {
    return new Int32Array(bunFFI().toArrayBuffer(pointer as import("bun:ffi").Pointer, 0, 4));
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
  parkerDescriptors: 2,
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
  createParker(options: ParkerOptions): ThreadParker {
    const { Worker } = process.getBuiltinModule("node:worker_threads") as unknown as Pick<Threads, "Worker">;
    return new ThreadParker(options, process.getBuiltinModule("node:timers") as unknown as Timers, {
      Worker,
      poll: POLL,
      sliceMs: SLICE_MS,
    });
  },
};

/** Bun ends while a thread of its is in a foreign call, so this only says how long a forgotten parker keeps one. */
const SLICE_MS = 30_000;

const POLL = `process.getBuiltinModule("bun:ffi").dlopen("${LIBC_NAME}", {
  poll: { args: ["ptr", "u32", "i32"], returns: "i32" },
}).symbols.poll`;
