import type { Host } from "./host_types.ts";

// What every runtime has, and the types package of one of them leaves out.
declare const performance: { now(): number };
declare const queueMicrotask: (task: () => void) => void;
declare const setImmediate: (task: () => void) => unknown;
declare const TextEncoder: new () => { encode(text: string): Uint8Array<ArrayBuffer> };
declare const TextDecoder: new (
  label: string,
  options: { ignoreBOM: boolean },
) => { decode(bytes: Uint8Array): string };

let encoder: { encode(text: string): Uint8Array<ArrayBuffer> } | undefined;
let decoder: { decode(bytes: Uint8Array): string } | undefined;

/** The part of a host that is the same everywhere. */
export const web: Pick<Host, "now" | "macrotask" | "microtask" | "encode" | "decode"> = {
  now(): number {
    return performance.now();
  },
  macrotask(task: () => void): void {
    setImmediate(task);
  },
  microtask(task: () => void): void {
    queueMicrotask(task);
  },
  encode(text: string): Uint8Array<ArrayBuffer> {
    return (encoder ??= new TextEncoder()).encode(text);
  },
  decode(bytes: Uint8Array): string {
    return (decoder ??= new TextDecoder("utf-8", { ignoreBOM: true })).decode(bytes);
  },
};
