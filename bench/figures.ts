/** The value that `part` of `values` are below. */
export function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? NaN;
}

/** The one in the middle. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}
