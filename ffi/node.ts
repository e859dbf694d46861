import { type Backend, type Functions, LIBC_NAME, type SymbolTable, UnavailableError } from "./backend.ts";

/** The part of `node:ffi` that this backend uses; its own types are newer than the ones other runtimes check with. */
interface NodeFFI {
  dlopen(
    path: string | null,
    definitions: Record<string, { arguments: readonly string[]; return: string }>,
  ): { functions: unknown };
  toArrayBuffer(pointer: bigint, length: number, copy: boolean): ArrayBuffer;
  getRawPointer(source: ArrayBufferView): bigint;
}

/** Not an import: Deno does not know the specifier, not even in a type. */
function nodeFFI(): NodeFFI {
  const ffi = process.getBuiltinModule("node:ffi") as unknown as NodeFFI | undefined;
  if (ffi !== undefined) return ffi;
  throw new UnavailableError(
    "runtime",
    `Node ${process.versions.node} runs without node:ffi; use Node 26.9 or later (26.1 to 26.8: --experimental-ffi)`,
  );
}

/** Calls C with `node:ffi`. */
export const backend: Backend = {
  open<const T extends SymbolTable>(table: T): Functions<T> {
    const definitions: Record<string, { arguments: readonly string[]; return: string }> = {};
    for (const [name, { parameters, result }] of Object.entries(table)) {
      definitions[name] = { arguments: parameters, return: result };
    }
    try {
      return nodeFFI().dlopen(LIBC_NAME, definitions).functions as Functions<T>;
    } catch (cause) {
      if ((cause as { code?: string }).code !== "ERR_ACCESS_DENIED") throw cause;
      throw new UnavailableError("permission", "Node runs with --permission; add --allow-ffi", { cause });
    }
  },

  int32At(pointer: unknown): Int32Array {
    return new Int32Array(nodeFFI().toArrayBuffer(pointer as bigint, 4, false));
  },

  addressOf(view: Uint8Array): bigint {
    return nodeFFI().getRawPointer(view);
  },
};
