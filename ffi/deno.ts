import {
  type Backend,
  type CType,
  type Functions,
  LIBC_NAME,
  type SymbolTable,
  UnavailableError,
} from "./backend.ts";

const TYPE: Readonly<Record<CType, Deno.NativeType>> = { i32: "i32", u32: "u32", buffer: "buffer", pointer: "pointer" };

/** Calls C with `Deno.dlopen`. */
export const backend: Backend = {
  open<const T extends SymbolTable>(table: T): Functions<T> {
    const definitions: Record<string, Deno.ForeignFunction> = {};
    for (const [name, { parameters, result }] of Object.entries(table)) {
      definitions[name] = { parameters: parameters.map((type) => TYPE[type]), result: TYPE[result] };
    }
    try {
      return Deno.dlopen(LIBC_NAME, definitions).symbols as unknown as Functions<T>;
    } catch (cause) {
      // Without a terminal to ask on, a missing permission is an error at once.
      if (!(cause instanceof Deno.errors.NotCapable)) throw cause;
      throw new UnavailableError(
        "permission",
        "Deno refuses foreign functions; run with --allow-ffi (unscoped: errno is read by address)",
        { cause },
      );
    }
  },

  int32At(pointer: unknown): Int32Array {
    return new Int32Array(Deno.UnsafePointerView.getArrayBuffer(pointer as Deno.PointerObject, 4));
  },

  addressOf(view: Uint8Array): bigint {
    return Deno.UnsafePointer.value(Deno.UnsafePointer.of(view as Uint8Array<ArrayBuffer>));
  },
};
