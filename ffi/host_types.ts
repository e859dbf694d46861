/**
 * Watches an epoll descriptor for a loop whose thread belongs to the runtime, and wakes the loop when there is
 * something to do. An epoll descriptor is itself pollable: poll(2) and epoll(7) report it readable while it has events.
 */
export interface Parker {
  /**
   * Settles when whatever helps with waiting exists, and with it every descriptor it will ever hold. Wait for it before
   * the first accept: with a full table a helper thread cannot be made, and two runtimes die trying.
   */
  readonly ready: Promise<void>;
  /**
   * Asks for one call of `wake`, as a task of its own on this thread: when the epoll descriptor is readable, or
   * `timeoutMs` has passed (`Infinity`: never), whichever is first. Early wakes are allowed, lost ones are not; a timeout
   * is never early. At most one park is pending.
   *
   * @throws {Error} If the parker is closed.
   */
  park(timeoutMs: number): void;
  /** Takes the pending park back: `wake` is not called until the next `park`. */
  unpark(): void;
  /** Whether a pending park keeps the process alive. A parker begins referenced. */
  ref(): void;
  /** See {@linkcode Parker.ref}. */
  unref(): void;
  /**
   * Ends the helper and settles once nothing of it waits for the epoll descriptor any more. The caller closes the
   * descriptor after that, not before: closing it wakes nobody. Safe at any time, and twice. A parker that is never
   * closed costs its helper, and in a Worker of Node it delays the Worker's end by up to a second.
   */
  close(): Promise<void>;
}

/** What {@linkcode Host.createParker} needs. */
export interface ParkerOptions {
  /** The descriptor to watch. Borrowed; stays open until `close` has settled. */
  readonly epollFd: number;
  /** Called for each park that was not taken back. Must not throw. */
  readonly wake: () => void;
  /** Makes the epoll descriptor readable, so that a helper blocked in the kernel returns. Callable until `close` settles. */
  readonly nudge: () => void;
}

/** What a runtime gives besides libc. Implemented by deno.ts, bun.ts and node.ts, and by nothing else. */
export interface Host {
  /** How many descriptors a parker holds at most, its helper's included. Counted as ours before clients are admitted. */
  readonly parkerDescriptors: number;
  /** How many descriptors the runtime is about to open for itself, whatever this process does. */
  settlingDescriptors(): number;
  /** Milliseconds of the monotonic clock, with a fraction. */
  now(): number;
  /** Runs `task` after the runtime has had a round of its own: timers, promises, I/O, signals. Keeps the process alive. */
  macrotask(task: () => void): void;
  /** Runs `task` when the current JavaScript job is done, before the runtime goes on. */
  microtask(task: () => void): void;
  /** UTF-8. The result is new and may be kept. */
  encode(text: string): Uint8Array<ArrayBuffer>;
  /** The text of `bytes` as UTF-8; what is not valid becomes U+FFFD. */
  decode(bytes: Uint8Array): string;
  /** Writes one line to the process's standard error. */
  diagnose(line: string): void;
  /**
   * The IP addresses of a name, in the resolver's order, each once: what getaddrinfo(3) finds, /etc/hosts included. Off
   * this thread, and beyond recall: the process stays until the resolver is done.
   *
   * Rejects with a `ResolveError` that names the host and the cause, and with an `UnavailableError` that names the flag
   * where the runtime refuses.
   */
  resolve(hostname: string): Promise<string[]>;
  /** See {@linkcode Parker}. */
  createParker(options: ParkerOptions): Parker;
}
