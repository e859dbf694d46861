/** `value` if it is there: what has no default must be given. */
export function requiredOption<T>(name: string, value: T | undefined): T {
  if (value === undefined) throw new TypeError(`Cannot do without ${name}: it must be given`);
  return value;
}

/** `value` if it is an integer from `min` to `max`, `fallback` if it is undefined. */
export function integerOption(
  name: string,
  value: number | undefined,
  fallback: number,
  min: number,
  max: number = Number.MAX_SAFE_INTEGER,
): number {
  if (value === undefined) return fallback;
  if (typeof value !== "number") throw new TypeError(`Cannot use ${name} ${shown(value)}: it must be a number`);
  if (!Number.isInteger(value) || value < min || value > max) {
    const range = max === Number.MAX_SAFE_INTEGER ? `at least ${min}` : `${min} to ${max}`;
    throw new RangeError(`Cannot use ${name} ${value}: it must be an integer, ${range}`);
  }
  return value;
}

/** `value` if it is a number from `min` to `max`, `fallback` if it is undefined. */
export function numberOption(
  name: string,
  value: number | undefined,
  fallback: number,
  min: number,
  max: number,
): number {
  if (value === undefined) return fallback;
  if (typeof value !== "number") throw new TypeError(`Cannot use ${name} ${shown(value)}: it must be a number`);
  if (!(value >= min && value <= max)) throw new RangeError(`Cannot use ${name} ${value}: it must be ${min} to ${max}`);
  return value;
}

/** `value` if it is true or false, `fallback` if it is undefined. */
export function booleanOption(name: string, value: boolean | undefined, fallback: boolean): boolean {
  if (value === undefined) return fallback;
  if (typeof value !== "boolean") throw new TypeError(`Cannot use ${name} ${shown(value)}: it must be a boolean`);
  return value;
}

/** `value` if it is one of `choices`, the first of them if it is undefined. */
export function choiceOption<T extends string>(name: string, value: T | undefined, choices: readonly [T, ...T[]]): T {
  if (value === undefined) return choices[0];
  if (!choices.includes(value)) {
    const list = choices.map((choice) => JSON.stringify(choice)).join(" or ");
    throw new TypeError(`Cannot use ${name} ${JSON.stringify(value)}: it must be ${list}`);
  }
  return value;
}

/** `value` if it is a function or undefined. */
export function functionOption<T>(name: string, value: T): T {
  if (value !== undefined && typeof value !== "function") {
    throw new TypeError(`Cannot use ${name} ${shown(value)}: it must be a function`);
  }
  return value;
}

/** Throws for a key of `options` that is not in `known`: a misspelt option must not be silently ignored. */
export function knownOptions(action: string, options: object, known: readonly string[]): void {
  if (typeof options !== "object" || options === null) {
    throw new TypeError(`Cannot ${action}: options must be an object`);
  }
  for (const key of Object.keys(options)) {
    if (!known.includes(key)) throw new TypeError(`Cannot ${action}: there is no option "${key}"`);
  }
}

/** `value` as it would be written: `"80"` is no number, which 80 would not show. */
export function shown(value: unknown): string {
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}
