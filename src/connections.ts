import type { Connection } from "./connection.ts";

/** The connections of a server. Live: a copy survives what handlers close. */
export interface Connections<T> extends Iterable<Connection<T>> {
  /** How many there are. */
  readonly size: number;
  /** Whether `connection` is one of them; looks through all. */
  has(connection: Connection<T>): boolean;
  /** Calls `task` for each of them, once, those that are added meanwhile or not. As a loop over them, without its objects. */
  forEach(task: (connection: Connection<T>) => void): void;
}

/** Connections by their descriptor: the kernel hands out the lowest numbers, so an array takes less than any set. */
export class ConnectionTable<T> implements Connections<T> {
  readonly #byFd: (Connection<T> | undefined)[] = [];
  #size = 0;

  /** See {@linkcode Connections}. */
  get size(): number {
    return this.#size;
  }

  /** Adds `connection`, which owns `fd`. */
  add(fd: number, connection: Connection<T>): void {
    // A descriptor that was closed behind our back has left its place taken.
    if (this.#byFd[fd] === undefined) this.#size++;
    this.#byFd[fd] = connection;
  }

  /** Removes `connection`, which has owned `fd`. */
  remove(fd: number, connection: Connection<T>): void {
    if (this.#byFd[fd] !== connection) return;
    this.#byFd[fd] = undefined;
    this.#size--;
  }

  /** See {@linkcode Connections}. */
  has(connection: Connection<T>): boolean {
    return this.#byFd.includes(connection);
  }

  /** See {@linkcode Connections}. */
  forEach(task: (connection: Connection<T>) => void): void {
    this.#byFd.forEach((connection) => {
      if (connection !== undefined) task(connection);
    });
  }

  /** As {@linkcode Connections.forEach}. */
  *[Symbol.iterator](): Iterator<Connection<T>> {
    for (const connection of this.#byFd) {
      if (connection !== undefined) yield connection;
    }
  }
}
