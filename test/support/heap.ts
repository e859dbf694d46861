/** How much of the heap is in use, once everything nobody needs is gone. */
import process from "node:process";
import v8 from "node:v8";
import vm from "node:vm";

let collect: (() => void) | undefined;

/** Bytes of objects that are reachable, after collections of garbage. */
export function heapBytes(): number {
  collect ??= findCollector();
  for (let i = 0; i < 3; i++) collect();
  return process.memoryUsage().heapUsed;
}

function findCollector(): () => void {
  // deno-lint-ignore no-explicit-any
  const { Bun } = globalThis as any;
  if (Bun !== undefined) return () => Bun.gc(true);
  v8.setFlagsFromString("--expose-gc");
  return vm.runInNewContext("gc");
}
