/** That a connection was given up without being closed: its descriptor is lost to the process. */
export class LeakError extends Error {
  /** The descriptor. It is still open, and nobody closes it: the number may be in other hands by the time of a report. */
  readonly fd: number;

  /** `origin`'s stack is where the connection was made. */
  constructor(fd: number, how: string, origin: Error) {
    super(`A connection on descriptor ${fd} was never closed: ${how}. Call close() or finish(); it was made here`);
    this.name = "LeakError";
    this.fd = fd;
    const [, ...frames] = (origin.stack ?? "").split("\n");
    this.stack = [`${this.name}: ${this.message}`, ...frames].join("\n");
  }
}

/** A connection that has been made. Must not lead to the connection itself, nor to its loop. */
interface Made {
  /** Its number, as it was given. */
  readonly fd: number;
  /** Where it was made. */
  readonly origin: Error;
  readonly report: (leak: LeakError) => void;
  /** Closed, or told of. */
  isOver: boolean;
}

/** Outlives the loops, which may be dropped as well. Made when it is asked for: importing does nothing. */
let registry: FinalizationRegistry<Made> | undefined;

function tell(made: Made, how: string): void {
  if (made.isOver) return;
  made.isOver = true;
  made.report(new LeakError(made.fd, how, made.origin));
}

/**
 * Finds connections that nobody closed: those the garbage collector took, and those that a closed loop leaves behind.
 * For development: it takes a stack trace for each connection. It only tells; closing a number that may be in other
 * hands by then would break somebody else's connection.
 */
export class LeakWatch {
  readonly #report: (leak: LeakError) => void;
  readonly #byConnection: WeakMap<object, Made> = new WeakMap();
  readonly #living: Set<Made> = new Set();

  /** `report` is called for each leak, not while user code runs. It must not lead to the loop, or nothing is collected. */
  constructor(report: (leak: LeakError) => void) {
    this.#report = report;
    registry ??= new FinalizationRegistry((made) => tell(made, "it was dropped, and the garbage collector took it"));
  }

  /** `connection` has been made, just now and here. */
  made(connection: object, fd: number): void {
    const made: Made = { fd, origin: new Error(), report: this.#report, isOver: false };
    this.#byConnection.set(connection, made);
    this.#living.add(made);
    registry!.register(connection, made, made);
  }

  /** `connection` has released its descriptor, or handed it over. */
  released(connection: object): void {
    const made = this.#byConnection.get(connection);
    if (made === undefined) return;
    made.isOver = true;
    this.#living.delete(made);
    registry!.unregister(made);
  }

  /** Nobody serves what is left. */
  loopClosed(): void {
    for (const made of this.#living) tell(made, "its event loop was closed");
    this.#living.clear();
  }
}
