/** Counts what a run costs in bytes, so that tests need no clock. */

/** The bytes that built-in methods of arrays went through. */
export interface Work {
  /** By `set` and `copyWithin`. */
  copiedBytes: number;
  /** By `indexOf`, up to what it found. */
  searchedBytes: number;
  /** The size of each buffer that was made. */
  readonly allocatedBytes: number[];
}

/** Runs `run`, which must be synchronous, and counts. */
export function workOf(run: () => void): Work {
  const work: Work = { copiedBytes: 0, searchedBytes: 0, allocatedBytes: [] };
  const prototype = Uint8Array.prototype;
  const { set, copyWithin, indexOf } = prototype;
  const RealBuffer = globalThis.ArrayBuffer;
  prototype.set = function (source, offset) {
    work.copiedBytes += source.length;
    return set.call(this, source, offset);
  };
  prototype.copyWithin = function (this: Uint8Array, target: number, start: number, end = this.length) {
    work.copiedBytes += end - start;
    return copyWithin.call(this, target, start, end);
  } as typeof copyWithin;
  prototype.indexOf = function (value, from = 0) {
    const found = indexOf.call(this, value, from);
    work.searchedBytes += (found === -1 ? this.length : found + 1) - from;
    return found;
  };
  globalThis.ArrayBuffer = new Proxy(RealBuffer, {
    construct(target, args: [number]) {
      work.allocatedBytes.push(args[0]);
      return new target(...args);
    },
  });
  try {
    run();
  } finally {
    globalThis.ArrayBuffer = RealBuffer;
    // Inherited from %TypedArray% they were, and are so again.
    for (const name of ["set", "copyWithin", "indexOf"] as const) Reflect.deleteProperty(prototype, name);
  }
  return work;
}

/** `bytes`, which count in `reads` how often an element of theirs is read. */
export function countedBytes(bytes: Uint8Array): { bytes: Uint8Array; reads: () => number } {
  let reads = 0;
  const counted = new Proxy(bytes, {
    get(target, key) {
      if (typeof key === "string" && /^\d+$/.test(key)) reads++;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  return { bytes: counted, reads: () => reads };
}
