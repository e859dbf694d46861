import { ERRNO, type ErrnoName, errnoName } from "../../../ffi/errno.ts";
import type { Syscalls } from "../../../ffi/syscalls.ts";

/** The name of a system call, as in `Syscalls`. */
export type CallName = keyof Syscalls;

/** One call that has returned. */
export interface Call {
  readonly name: CallName;
  readonly args: readonly unknown[];
  readonly result: unknown;
  /** Made by the hook between two calls, not by who is tested. */
  readonly isForeign: boolean;
}

/** A failure that is to come. */
interface Failure {
  readonly errno: number;
  readonly when: (...args: unknown[]) => boolean;
  times: number;
}

const TRACED_CALLS = 80;

/** What was called, how often and with what result; what is to fail; and who runs between two calls. */
export class Journal {
  /** Runs after every call. Its own calls are traced as foreign, neither counted nor failed, and not followed by it. */
  between: ((call: Call) => void) | undefined;
  readonly #counts = new Map<string, number>();
  readonly #failures = new Map<CallName, Failure[]>();
  #calls: Call[] = [];
  #isBetween = false;

  /** Has the next `times` calls fail for which `when` holds. Returns what ends it early. */
  fail(name: CallName, errno: ErrnoName, times: number, when: (...args: unknown[]) => boolean): () => void {
    const failure: Failure = { errno: ERRNO[errno][0], when, times };
    this.#failures.set(name, [...this.#failures.get(name) ?? [], failure]);
    return () => failure.times = 0;
  }

  /** Makes one call of who is tested, or of the hook. */
  record(name: CallName, args: unknown[], run: (...args: unknown[]) => unknown): unknown {
    const isForeign = this.#isBetween;
    const errno = isForeign ? 0 : this.#takeFailure(name, args);
    // close(2) releases the descriptor even where it reports a failure.
    let result = errno === 0 || name === "close" ? run(...args) : -errno;
    if (errno !== 0) result = -errno;
    const call: Call = { name, args, result, isForeign };
    this.#calls.push(call);
    if (this.#calls.length === 2 * TRACED_CALLS) this.#calls = this.#calls.slice(TRACED_CALLS);
    if (isForeign) return result;

    this.#count(name);
    if (typeof result === "number" && result < 0) this.#count(`${name} ${errnoName(-result)}`);
    if (this.between !== undefined) {
      this.#isBetween = true;
      try {
        this.between(call);
      } finally {
        this.#isBetween = false;
      }
    }
    return result;
  }

  /** Calls so far; with `errno`, those that failed with it. */
  count(name: CallName, errno?: ErrnoName): number {
    return this.#counts.get(errno === undefined ? name : `${name} ${errno}`) ?? 0;
  }

  /** Counts from 0 again. */
  resetCounts(): void {
    this.#counts.clear();
  }

  /** The last calls, the oldest first. */
  get calls(): readonly Call[] {
    return this.#calls.slice(-TRACED_CALLS);
  }

  /** The last calls as text, one a line; those of the hook are indented. */
  get trace(): string {
    return this.calls.map(formatCall).join("\n");
  }

  #takeFailure(name: CallName, args: unknown[]): number {
    const failure = this.#failures.get(name)?.find(({ times, when }) => times > 0 && when(...args));
    if (failure === undefined) return 0;
    failure.times--;
    return failure.errno;
  }

  #count(key: string): void {
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }
}

/** `accept4(5, 526336) = -EMFILE`. */
export function formatCall({ name, args, result, isForeign }: Call): string {
  const text = typeof result === "number" && result < 0 ? `-${errnoName(-result)}` : formatValue(result);
  return `${isForeign ? "    " : ""}${name}(${args.map(formatValue).join(", ")}) = ${text}`;
}

function formatValue(value: unknown): string {
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  return typeof value === "object" && value !== null && value.constructor !== Object
    ? value.constructor.name
    : JSON.stringify(value) ?? "undefined";
}
