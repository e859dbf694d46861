import { type Backend, type CType, type Functions, LIBC_NAME, type SymbolTable } from "./backend.ts";

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
