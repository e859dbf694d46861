/** The C types this module needs; `buffer` is the address of a typed array's first byte, or NULL. */
export type CType = "i32" | "u32" | "buffer" | "pointer";

/** One C function: its parameter types and what it returns. */
export interface Signature {
  /** In the order of the C prototype. */
  readonly parameters: readonly CType[];
  /** A number for `i32`; an opaque value of the runtime for `pointer`. */
  readonly result: "i32" | "pointer";
}

/** C functions by name. */
export type SymbolTable = Readonly<Record<string, Signature>>;

/** What a `buffer` parameter takes; `null` is NULL. */
export type CBuffer = Uint8Array | Uint32Array | Int32Array | null;

type Argument<T extends CType> = T extends "buffer" ? CBuffer : T extends "pointer" ? unknown : number;
type Arguments<T extends readonly CType[]> = { -readonly [I in keyof T]: Argument<T[I]> };

/** The bound form of a {@linkcode SymbolTable}. */
export type Functions<T extends SymbolTable> = {
  readonly [K in keyof T]: (...args: Arguments<T[K]["parameters"]>) => T[K]["result"] extends "i32" ? number : unknown;
};

/** recv(2) or send(2), by their C prototypes. */
export type Transfer = (fd: number, bytes: CBuffer, length: number, flags: number) => number;

/** The calls that move the bytes of stream sockets. On other descriptors they do not do what their names say. */
export interface StreamCalls {
  /** recv(2). */
  readonly recv: Transfer;
  /** send(2). */
  readonly send: Transfer;
}

/** How one runtime calls C. Implemented by deno.ts, bun.ts and node.ts, and by nothing else. */
export interface Backend {
  /** Binds every function of `table` in this process's libc; throws {@linkcode UnavailableError} where the runtime refuses. */
  open<const T extends SymbolTable>(table: T): Functions<T>;
  /** What does the same for stream sockets and is faster here, if there is anything. */
  streamCalls?(libc: StreamCalls): StreamCalls;
  /** The `count` words at `pointer`, live: the array is the memory, which must outlive its use. */
  int32At(pointer: unknown, count: number): Int32Array;
  /** The address of `view`'s first byte. Holds only while `view` is referenced and its buffer neither moved nor detached. */
  addressOf(view: Uint8Array): bigint;
}

/** The name that every libc on Linux answers to, glibc and musl alike. Never a path: a second libc would be loaded. */
export const LIBC_NAME = "libc.so.6";

/** What keeps this process from calling libc. */
export type UnavailableReason = "platform" | "runtime" | "permission";

/**
 * Thrown on first use where libc cannot be called, and where the runtime refuses to resolve a name; the message says what
 * would cure it. Importing never throws.
 */
export class UnavailableError extends Error {
  /** Always `"UnavailableError"`. */
  override readonly name = "UnavailableError";
  /** What is missing: another operating system or CPU, a runtime without FFI, or a permission. */
  readonly reason: UnavailableReason;

  /** `state` completes "Cannot call libc: …", or "Cannot `action`: …", and ends with the cure. */
  constructor(reason: UnavailableReason, state: string, options: ErrorOptions & { action?: string } = {}) {
    super(`Cannot ${options.action ?? "call libc"}: ${state}`, options);
    this.reason = reason;
  }
}
