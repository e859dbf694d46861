/** A host whose clock, tasks and parker a test moves by hand. */
import { type Host, host, type Parker, type ParkerOptions, ResolveError } from "../../ffi/host.ts";

/** The addresses that `names` has for `hostname`. */
export function resolveIn(names: ReadonlyMap<string, readonly string[]>, hostname: string): Promise<string[]> {
  const addresses = names.get(hostname);
  if (addresses === undefined) return Promise.reject(new ResolveError(hostname, "ENOTFOUND"));
  return Promise.resolve([...addresses]);
}

/** The parker of a {@linkcode ManualHost}. */
export class ManualParker implements Parker {
  readonly ready: Promise<void>;
  readonly #options: ParkerOptions;
  /** The timeout of the pending park, if there is one. */
  parkedMs: number | undefined;
  isReferenced = true;
  isClosed = false;

  constructor(options: ParkerOptions, ready: Promise<void>) {
    this.#options = options;
    this.ready = ready;
  }

  park(timeoutMs: number): void {
    if (this.parkedMs !== undefined) throw new Error("Cannot park: a park is pending");
    this.parkedMs = timeoutMs;
  }

  unpark(): void {
    this.parkedMs = undefined;
  }

  /** Ends the pending park, as an event or its timeout would. */
  fire(): void {
    if (this.parkedMs === undefined) throw new Error("Cannot fire: nothing is parked");
    this.parkedMs = undefined;
    this.#options.wake();
  }

  ref(): void {
    this.isReferenced = true;
  }

  unref(): void {
    this.isReferenced = false;
  }

  close(): Promise<void> {
    this.isClosed = true;
    return Promise.resolve();
  }
}

/** The real host but for time, tasks and parking. */
export class ManualHost implements Host {
  readonly #host: Host = host();
  parkerDescriptors = 2;
  clockMs = 1_000;
  /** What was handed over to run after the runtime's round. */
  readonly macrotasks: (() => void)[] = [];
  /** Lines of {@linkcode Host.diagnose}. */
  readonly lines: string[] = [];
  readonly parkers: ManualParker[] = [];
  /** What names resolve to. */
  readonly names = new Map<string, readonly string[]>();
  /** What a parker's `ready` is. */
  ready: Promise<void> = Promise.resolve();

  /** The only parker there is. */
  get parker(): ManualParker {
    if (this.parkers.length !== 1) throw new Error(`Cannot return the parker: there are ${this.parkers.length}`);
    return this.parkers[0]!;
  }

  settlingDescriptors(): number {
    return 0;
  }

  now(): number {
    return this.clockMs;
  }

  macrotask(task: () => void): void {
    this.macrotasks.push(task);
  }

  microtask(task: () => void): void {
    this.#host.microtask(task);
  }

  encode(text: string): Uint8Array<ArrayBuffer> {
    return this.#host.encode(text);
  }

  decode(bytes: Uint8Array): string {
    return this.#host.decode(bytes);
  }

  diagnose(line: string): void {
    this.lines.push(line);
  }

  resolve(hostname: string): Promise<string[]> {
    return resolveIn(this.names, hostname);
  }

  createParker(options: ParkerOptions): ManualParker {
    const parker = new ManualParker(options, this.ready);
    this.parkers.push(parker);
    return parker;
  }

  /** Runs the macrotasks that are waiting, and returns how many there were. */
  runMacrotasks(): number {
    const tasks = this.macrotasks.splice(0);
    for (const task of tasks) task();
    return tasks.length;
  }

  /** Runs macrotasks until there are none: a running loop has parked or ended. */
  settle(): void {
    for (let rounds = 0; this.runMacrotasks() > 0; rounds++) {
      if (rounds === 1_000) throw new Error("Cannot settle: the loop does not park");
    }
  }
}
