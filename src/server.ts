import { Acceptor, ACCEPTOR_OPTIONS, type AcceptorOptions } from "./acceptor.ts";
import { type Address, formatAddress } from "./address.ts";
import { Connection } from "./connection.ts";
import {
  CONNECTION_HANDLERS,
  CONNECTION_OPTIONS,
  type ConnectionHandlers,
  type ConnectionOptions,
  type ConnectionSettings,
  isPromise,
  resolveConnection,
} from "./connection_options.ts";
import type { AcceptCounters } from "./counters.ts";
import type { OverloadEvent } from "./episode.ts";
import { IdleList } from "./idle_list.ts";
import type { Trigger } from "./interest.ts";
import { BACKLOG } from "./limits.ts";
import type { ListenerInfo } from "./listener.ts";
import { EventLoop } from "./loop.ts";
import { booleanOption, functionOption, integerOption, knownOptions } from "./options.ts";
import { OverloadLog } from "./overload_log.ts";
import { adoptListener, listenOn, localAddress } from "./socket.ts";

/** Where a server listens: one of `port`, `path` and `fd`; without any, on a port that the kernel chooses. */
export interface ListenerOptions {
  /** An IPv4 or IPv6 address, or `"localhost"` for 127.0.0.1; `"0.0.0.0"` or `"::"` for every interface. @default {"127.0.0.1"} */
  hostname?: string;
  /** 0 lets the kernel choose; read the result from `server.address`. @default {0} */
  port?: number;
  /** Path of a Unix socket; beginning with NUL, an abstract name. A file nobody listens on is replaced. */
  path?: string;
  /** A descriptor that listens already, as from socket activation. The server owns it from then on. */
  fd?: number;
  /** Finished handshakes that the kernel queues ahead of us; net.core.somaxconn caps it. @default {511} */
  backlog?: number;
  /** Let other sockets listen on the same address, the kernel spreading clients: SO_REUSEPORT. @default {false} */
  reusePort?: boolean;
}

/** Options for {@linkcode serve}: where to listen, how to behave, and the handlers. */
export interface ServerOptions<T = undefined>
  extends ListenerOptions, Omit<AcceptorOptions, "trigger">, Omit<ConnectionOptions, "trigger">, ConnectionHandlers<T> {
  /** How the listener and the connections are watched. @default {"level"} */
  trigger?: Trigger | {
    /** @default {"level"} */
    listener?: Trigger;
    /** @default {"level"} */
    connections?: Trigger;
  };
  /**
   * Overload begins (`start`), goes on (`summary`, each half minute), or is over (`end`). Without it each is a line, at
   * most three a minute.
   */
  overloaded?: (event: OverloadEvent) => void;
  /** Takes the lines about overload. @default {standard error} */
  logger?: (line: string) => void;
  /**
   * Receives what `close` and `overloaded` throw, and why a listener stopped listening by itself. What it throws itself
   * ends the loop. Default: a line on standard error.
   */
  onError?: (error: unknown) => void;
  /** The loop to serve on, which the caller runs. By default the server makes one, runs it beside the runtime, and ends it. */
  loop?: EventLoop;
}

/** Options for {@linkcode Server.stop}. */
export interface StopOptions {
  /** How long queued bytes may take to leave, in ms; 0 drops them. @default {5_000} */
  timeoutMs?: number;
}

const KNOWN_OPTIONS: readonly string[] = [
  ...["hostname", "port", "path", "fd", "backlog", "reusePort"],
  ...["trigger", "overloaded", "logger", "onError", "loop"],
  ...ACCEPTOR_OPTIONS,
  ...CONNECTION_OPTIONS,
  ...CONNECTION_HANDLERS,
];

/**
 * Listens, and serves what connects.
 *
 * ```ts
 * import { serve } from "@spillway/epoll";
 *
 * const server = serve({
 *   port: 7007,
 *   data(connection, bytes) {
 *     if (!connection.write(bytes)) connection.pause();
 *   },
 *   drain(connection) {
 *     connection.resume();
 *   },
 * });
 * console.log(server.url);
 * ```
 *
 * The listener is there when this returns. Out of descriptors, clients are refused instead of left waiting: see
 * {@linkcode AcceptorOptions}.
 *
 * @throws {TypeError | RangeError} If an option is wrong, or the descriptor limit leaves room for no client.
 * @throws {SystemError} If the kernel refuses: `code` is EADDRINUSE, EACCES, EADDRNOTAVAIL, EMFILE.
 * @throws {UnavailableError} If this process cannot call libc.
 */
export function serve<T = undefined>(options: ServerOptions<T>): Server<T> {
  return new Server(options);
}

/** A listener, its connections, and policy over them. Made by {@linkcode serve}. */
export class Server<T = undefined> {
  /** Where it listens, with the port that the kernel chose. */
  readonly address: Address;
  /** The loop it runs on. */
  readonly loop: EventLoop;
  readonly #acceptor: Acceptor;
  readonly #settings: ConnectionSettings<T>;
  readonly #connections: Set<Connection<T>> = new Set();
  /** Only with `reapIdle`. */
  readonly #idle: IdleList<Connection<T>> | undefined;
  readonly #onError: (error: unknown) => void;
  /** Settles when a loop of our own has ended and is closed; absent for a loop of the caller's. */
  readonly #finished: Promise<void> | undefined;
  /** To be removed when the listener closes. */
  readonly #socketPath: string | undefined;
  #stopping: Promise<void> | undefined;
  #onEmpty: (() => void) | undefined;

  /** As {@linkcode serve}. */
  constructor(options: ServerOptions<T>) {
    knownOptions("serve", options, KNOWN_OPTIONS);
    const triggers = resolveTrigger(options.trigger);
    const onError = functionOption("onError", options.onError);
    this.#onError = onError ?? ((error) => this.loop.report(error));
    this.#idle = options.overload?.reapIdle === undefined ? undefined : new IdleList();
    this.#settings = resolveConnection(
      { ...options, trigger: triggers.connections },
      options,
      (error) => this.#onError(error),
      this.#idle,
    );
    functionOption("overloaded", options.overloaded);
    functionOption("logger", options.logger);
    const isOwnLoop = options.loop === undefined;
    this.loop = options.loop ?? new EventLoop({ onError });
    let listener: ListenerInfo | undefined;
    try {
      listener = listen(options, this.loop);
      this.address = localAddress(listener.fd, this.loop.sys);
      this.#acceptor = new Acceptor(this.loop, listener, { ...options, trigger: triggers.listener }, {
        accept: (clientFd) => this.#serve(clientFd),
        fail: (error) => this.#onError(error),
        overloaded: this.#reporter(options),
        reap: (minIdleMs) => this.#reap(minIdleMs),
      });
    } catch (error) {
      if (listener !== undefined && options.fd === undefined) {
        this.loop.sys.close(listener.fd);
        if (isFilePath(options.path)) this.loop.sys.unlink(options.path);
      }
      if (isOwnLoop) this.loop.close();
      throw error;
    }
    this.#socketPath = isFilePath(options.path) ? options.path : undefined;
    if (isOwnLoop) this.#finished = this.#run();
  }

  /** `address` as text: `tcp://127.0.0.1:7007`, `tcp://[::1]:7007` or `unix:///run/x.sock`. */
  get url(): string {
    return formatAddress(this.address);
  }

  /** The connections there are now. Live: a copy survives what handlers close. */
  get connections(): ReadonlySet<Connection<T>> {
    return this.#connections;
  }

  /** What became of the clients so far. */
  get counters(): Readonly<AcceptCounters> {
    return this.#acceptor.counters;
  }

  /** Whether overload is under way: from the first client there was no room for until a quiet second has passed. */
  get isOverloaded(): boolean {
    return this.#acceptor.isOverloaded;
  }

  /** Clients in the backlog now; `undefined` where the kernel does not tell, as on Unix sockets. */
  get waiting(): number | undefined {
    return this.#acceptor.waiting;
  }

  /** Descriptors left free for the runtime: what was asked for, or the default that was computed. */
  get headroom(): number {
    return this.#acceptor.headroom;
  }

  /** Keeps the process alive. The default, for a loop of the server's own. */
  ref(): void {
    this.loop.ref();
  }

  /** Lets the process end while nobody is connected or busy. */
  unref(): void {
    this.loop.unref();
  }

  /**
   * Listens no more, lets queued bytes leave, and closes every connection: those with nothing queued at once, the others
   * when the kernel has taken it all, or at the latest after `timeoutMs`. What clients send meanwhile is not read.
   *
   * Settles when every descriptor is released and every `close` handler has run, with a loop of the server's own also
   * when that has ended. Called again, it returns the same promise; call it from outside the server's handlers, or do
   * not wait for it there.
   */
  stop(options: StopOptions = {}): Promise<void> {
    knownOptions("stop", options, ["timeoutMs"]);
    const timeoutMs = integerOption("timeoutMs", options.timeoutMs, 5_000, 0, 2 ** 31 - 1);
    return this.#stopping ??= this.#stop(timeoutMs);
  }

  /** As {@linkcode Server.stop}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #serve(fd: number): void {
    const connection = new Connection<T>(this.loop, fd, this.#settings, this.#closed);
    this.#connections.add(connection);
    connection.start();
  }

  readonly #closed = (connection: Connection<T>, fd: number): void => {
    this.#connections.delete(connection);
    this.#acceptor.released(fd);
    if (this.#connections.size === 0) this.#onEmpty?.();
  };

  /** Gives the longest idle connection up. */
  #reap(minIdleMs: number): number {
    const oldest = this.#idle?.oldest;
    if (oldest === undefined || this.loop.now - oldest.busyAtMs < minIdleMs) return -1;
    return oldest.surrender(new RangeError(`Cannot keep an idle connection: its descriptor is needed`));
  }

  /** Tells the user's handler, or writes lines. */
  #reporter({ overloaded, logger }: ServerOptions<T>): (event: OverloadEvent) => void {
    if (overloaded === undefined) {
      const log = new OverloadLog(this.url, logger ?? ((line) => this.loop.diagnose(`spillway: ${line}`)));
      return (event) => log.log(event, this.loop.now);
    }
    return (event) => {
      try {
        const result: unknown = overloaded(event);
        if (isPromise(result)) result.then(undefined, this.#onError);
      } catch (error) {
        this.#onError(error);
      }
    };
  }

  async #run(): Promise<void> {
    try {
      await this.loop.run();
    } catch (error) {
      // `onError` threw: nothing is served any more. Whoever waits for `stop` learns why.
      this.#release();
      await this.loop.close();
      throw error;
    }
    await this.loop.close();
  }

  async #stop(timeoutMs: number): Promise<void> {
    this.#acceptor.close();
    if (this.#socketPath !== undefined) this.loop.sys.unlink(this.#socketPath);
    const empty = new Promise<void>((resolve) => this.#onEmpty = resolve);
    const timer = this.loop.setTimer(timeoutMs, () => this.#release());
    for (const connection of [...this.#connections]) connection.finish({ timeoutMs, reason: "stop" });
    if (this.#connections.size > 0) await empty;
    timer.cancel();
    // One more turn, for the `close` handlers of those that went last.
    const turned = new Promise<void>((resolve) => this.loop.post(resolve));
    if (this.#finished === undefined) return await turned;
    await Promise.race([turned, this.#finished]); // a loop that `onError` has ended takes no more turns
    this.loop.stop();
    await this.#finished;
  }

  #release(): void {
    this.#acceptor.close();
    for (const connection of [...this.#connections]) connection.close(undefined, "stop");
  }
}

function resolveTrigger(trigger: ServerOptions["trigger"]): { listener?: Trigger; connections?: Trigger } {
  if (typeof trigger !== "object") return { listener: trigger, connections: trigger };
  knownOptions("serve", trigger, ["listener", "connections"]);
  return trigger;
}

/** A path that is in the file system, unlike an abstract name. */
function isFilePath(path: string | undefined): path is string {
  return path !== undefined && !path.startsWith("\0");
}

/** Makes or adopts the listener. */
function listen(options: ListenerOptions, loop: EventLoop): ListenerInfo {
  const { hostname, port, path, fd } = options;
  const given = Object.entries({ port, path, fd }).filter(([, value]) => value !== undefined).map(([name]) => name);
  if (given.length > 1) throw new TypeError(`Cannot serve on both ${given.join(" and ")}: give one of them`);
  const backlog = integerOption("backlog", options.backlog, BACKLOG, 1, 2 ** 31 - 1);
  const reusePort = booleanOption("reusePort", options.reusePort, false);
  if (fd !== undefined) {
    adoptListener(integerOption("fd", fd, -1, 0, 2 ** 31 - 1), loop.sys);
    // Whether its port was chosen explicitly is not to be seen.
    return { fd, backlog, canResetQueue: false };
  }
  const address: Address = path !== undefined
    ? { transport: "unix", path }
    : { transport: "tcp", hostname: hostname ?? "127.0.0.1", port: port ?? 0 };
  const canResetQueue = path === undefined && port !== undefined && port !== 0;
  return { fd: listenOn(address, { backlog, reusePort }, loop.sys), backlog, canResetQueue };
}
