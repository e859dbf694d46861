/** A rule of this module that did not hold: a bug here, not in the caller's code. */
export class AssertionError extends Error {
  /** Always `"AssertionError"`. */
  override readonly name = "AssertionError";
}

/** Throws {@linkcode AssertionError} unless `condition` holds. One fact per call. */
export function assert(condition: boolean, invariant: string): asserts condition {
  if (!condition) throw new AssertionError(`Invariant violated: ${invariant}`);
}
