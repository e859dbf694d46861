/**
 * A test blocked in a foreign call cannot be timed out from JavaScript: SIGALRM ends its file's worker process instead.
 */
import process from "node:process";

const FILE_ALARM_SECONDS = Number(process.env.TEST_FILE_ALARM ?? 300);

/** The part of `node:ffi` that is used here; Deno's type check does not know the module. */
interface NodeFFI {
  dlopen(path: string, definitions: object): { functions: { alarm(seconds: number): number } };
}

const builtin = process.getBuiltinModule as (id: string) => unknown;
if (process.versions.bun) {
  const { dlopen } = builtin("bun:ffi") as typeof import("bun:ffi");
  dlopen("libc.so.6", { alarm: { args: ["u32"], returns: "u32" } }).symbols.alarm(FILE_ALARM_SECONDS);
} else if (process.versions.deno) {
  Deno.dlopen("libc.so.6", { alarm: { parameters: ["u32"], result: "u32" } }).symbols.alarm(FILE_ALARM_SECONDS);
} else {
  const { dlopen } = builtin("node:ffi") as NodeFFI;
  dlopen("libc.so.6", { alarm: { arguments: ["u32"], return: "u32" } }).functions.alarm(FILE_ALARM_SECONDS);
}
