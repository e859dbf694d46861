import { host } from "../ffi/host.ts";

/**
 * Bytes that many connections are to be sent: one copy, which every queue that has to wait refers to. It lives until
 * the last of them has sent it.
 *
 * ```ts
 * import { serve, SharedBytes } from "@spillway/epoll";
 *
 * const server = serve({ port: 7007 });
 * const news = new SharedBytes("breaking\r\n");
 * for (const connection of server.connections) connection.write(news);
 * ```
 */
export class SharedBytes {
  /** For connections; nobody changes it. */
  readonly bytes: Uint8Array;

  /**
   * Copies `chunk`, a string as UTF-8.
   *
   * @throws {TypeError} If `chunk` is neither a string nor a Uint8Array.
   */
  constructor(chunk: Uint8Array | string) {
    this.bytes = typeof chunk === "string" ? host().encode(chunk) : copyOf(chunk);
  }

  /** How many there are. */
  get byteLength(): number {
    return this.bytes.byteLength;
  }
}

function hasForEach<T>(all: Iterable<T>): all is Iterable<T> & { forEach(task: (each: T) => void): void } {
  return typeof (all as { forEach?: unknown }).forEach === "function";
}

function copyOf(chunk: Uint8Array): Uint8Array {
  if (!(chunk instanceof Uint8Array)) throw new TypeError("Cannot share a chunk: it must be a string or a Uint8Array");
  const copy = new Uint8Array(new ArrayBuffer(chunk.byteLength));
  copy.set(chunk);
  return copy;
}

/**
 * Writes one chunk to many connections, copying it once at most. Each takes its turn as with `write`: those that are
 * slow queue a reference, and are cut by their own limits.
 *
 * @returns How many have room for more; the others follow with `drain`, or are over.
 * @throws {TypeError} If `chunk` is neither a string, nor a Uint8Array, nor {@linkcode SharedBytes}.
 */
export function broadcast(
  connections: Iterable<{ write(chunk: SharedBytes): boolean }>,
  chunk: Uint8Array | string | SharedBytes,
): number {
  const shared = chunk instanceof SharedBytes ? chunk : new SharedBytes(chunk);
  let withRoom = 0;
  const write = (connection: { write(chunk: SharedBytes): boolean }) => {
    if (connection.write(shared)) withRoom++;
  };
  // What has a method for it needs no iterator, which may make an object for each element.
  if (hasForEach(connections)) connections.forEach(write);
  else for (const connection of connections) write(connection);
  return withRoom;
}
