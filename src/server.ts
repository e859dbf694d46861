import { Acceptor, ACCEPTOR_OPTIONS, type AcceptorOptions } from "./acceptor.ts";
import { type Address, formatAddress } from "./address.ts";
import { ConnectionError } from "./close_reason.ts";
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
import { type Connections, ConnectionTable } from "./connections.ts";
import type { AcceptCounters } from "./counters.ts";
import type { OverloadEvent } from "./episode.ts";
import { textOf } from "./error_text.ts";
import { IdleList } from "./idle_list.ts";
import type { Trigger } from "./interest.ts";
import { EventLoop, loopOption } from "./loop.ts";
import { functionOption, integerOption, knownOptions } from "./options.ts";
import { OverloadLog } from "./overload_log.ts";
import {
  discardListener,
  LISTENER_OPTIONS,
  ListenerHandle,
  type ListenerOptions,
  type OpenListener,
  openListener,
  type ServerListener,
} from "./server_listener.ts";

/**
 * One of several places where a server listens, and how it serves those who connect there: options and handlers that are
 * absent here are the server's.
 */
export interface ServerListenerOptions<T = undefined>
  extends ListenerOptions, Omit<ConnectionOptions, "trigger">, ConnectionHandlers<T> {
  /** How the listener and its connections are watched. @default {the server's} */
  trigger?: ServerOptions["trigger"];
  /** Wake one of several threads that wait for the same listener: `Interest.exclusive`. @default {the server's} */
  exclusive?: boolean;
}

/** Options for {@linkcode serve}: where to listen, how to behave, and the handlers. */
export interface ServerOptions<T = undefined>
  extends
    ListenerOptions,
    Omit<AcceptorOptions, "trigger" | "siblingOf">,
    Omit<ConnectionOptions, "trigger">,
    ConnectionHandlers<T> {
  /**
   * Where to listen, if on several places: instead of `port`, `path`, `fd` and what belongs to them. Limits, rates and
   * overload are the server's, over all of them.
   */
  listeners?: readonly ServerListenerOptions<T>[];
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
   * Receives what `close` and `overloaded` throw, where there is no `close` what any handler throws, and why a listener
   * stopped listening by itself. What it throws itself ends the loop. Default: a line on standard error.
   */
  onError?: (error: unknown) => void;
  /** The loop to serve on, which the caller runs. By default the server makes one, runs it beside the runtime, and ends it. */
  loop?: EventLoop;
}

/** Options for {@linkcode Server.stop}. */
export interface StopOptions {
  /** How long queued bytes may take to leave, in ms, before they are dropped by a reset; 0 drops them. @default {5_000} */
  timeoutMs?: number;
}

const KNOWN_OPTIONS: readonly string[] = [
  ...["listeners", "overloaded", "logger", "onError", "loop"],
  ...LISTENER_OPTIONS,
  ...ACCEPTOR_OPTIONS,
  ...CONNECTION_OPTIONS,
  ...CONNECTION_HANDLERS,
];

const KNOWN_LISTENER_OPTIONS: readonly string[] = [
  ...["trigger", "exclusive"],
  ...LISTENER_OPTIONS,
  ...CONNECTION_OPTIONS,
  ...CONNECTION_HANDLERS,
];

/** A listener's options, checked. */
interface Place<T> {
  readonly where: ListenerOptions;
  readonly watched: { readonly trigger: Trigger | undefined; readonly exclusive: boolean | undefined };
  readonly settings: ConnectionSettings<T>;
}

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
 * The listeners are there when this returns. Out of descriptors, clients are refused instead of left waiting: see
 * {@linkcode AcceptorOptions}.
 *
 * @throws {TypeError | RangeError} If an option is wrong, or the descriptor limit leaves room for no client.
 * @throws {SystemError} If the kernel refuses: `code` is EADDRINUSE, EACCES, EADDRNOTAVAIL, ENOENT (the folder of a path), EMFILE.
 * @throws {UnavailableError} If this process cannot call libc.
 */
export function serve<T = undefined>(options: ServerOptions<T>): Server<T> {
  return new Server(options);
}

/** Its listeners, their connections, and policy over them. Made by {@linkcode serve}. */
export class Server<T = undefined> {
  /** Where it listens, with the port that the kernel chose; where there are several listeners, the first one's. */
  readonly address: Address;
  /** The loop it runs on. */
  readonly loop: EventLoop;
  readonly #options: ServerOptions<T>;
  readonly #listeners: Set<ServerListener> = new Set();
  /** The first one, open or not. The others are its siblings. */
  readonly #acceptor: Acceptor;
  readonly #connections: ConnectionTable<T> = new ConnectionTable();
  /** Only with `reapIdle`. */
  readonly #idle: IdleList<Connection<T>> | undefined;
  readonly #onError: (error: unknown) => void;
  readonly #overloaded: (event: OverloadEvent) => void;
  /** Settles when a loop of our own has ended and is closed; absent for a loop of the caller's. */
  readonly #finished: Promise<void> | undefined;
  /** Whether a loop of our own has ended. */
  #isOver = false;
  #stopping: Promise<void> | undefined;
  #onEmpty: (() => void) | undefined;

  /** As {@linkcode serve}. */
  constructor(options: ServerOptions<T>) {
    knownOptions("serve", options, KNOWN_OPTIONS);
    this.#options = options;
    const onError = functionOption("onError", options.onError);
    this.#onError = onError ?? ((error) => this.loop.report(error));
    this.#idle = options.overload?.reapIdle === undefined ? undefined : new IdleList();
    functionOption("overloaded", options.overloaded);
    functionOption("logger", options.logger);
    this.#overloaded = this.#reporter(options);
    const places = listenersOf(options).map((listener) => this.#resolve(listener));
    const loop = loopOption(options.loop);
    const isOwnLoop = loop === undefined;
    this.loop = loop ?? new EventLoop({ onError });
    const open: OpenListener[] = [];
    const acceptors: Acceptor[] = [];
    try {
      // All of them before anybody is accepted: a server that fails has served nobody.
      for (const { where } of places) open.push(openListener(where, this.loop));
      for (const [i, place] of places.entries()) acceptors.push(this.#accept(open[i]!, place, acceptors[0]));
    } catch (error) {
      for (const acceptor of acceptors) acceptor.surrender();
      for (const listener of open) discardListener(listener, this.loop);
      if (isOwnLoop) this.loop.close();
      throw error;
    }
    this.address = open[0]!.address;
    this.#acceptor = acceptors[0]!;
    if (isOwnLoop) this.#finished = this.#run();
  }

  /** `address` as text: `tcp://127.0.0.1:7007`, `tcp://[::1]:7007` or `unix:///run/x.sock`. */
  get url(): string {
    return formatAddress(this.address);
  }

  /** Where it listens now, in the order in which that began: without those that were closed, or have failed. */
  get listeners(): readonly ServerListener[] {
    return [...this.#listeners];
  }

  /** The connections there are now. Live: a copy survives what handlers close. */
  get connections(): Connections<T> {
    return this.#connections;
  }

  /** What became of the clients so far: sums over the listeners, those included that are closed. A copy. */
  get counters(): Readonly<AcceptCounters> {
    return this.#acceptor.totals;
  }

  /**
   * Whether overload is under way, at any listener: from the first client there was no room for until a quiet second has
   * passed.
   */
  get isOverloaded(): boolean {
    return this.#acceptor.isOverloaded;
  }

  /** Clients in the backlogs now; `undefined` where the kernel tells of none, as on Unix sockets. */
  get waiting(): number | undefined {
    const known = this.listeners.map(({ waiting }) => waiting).filter((waiting) => waiting !== undefined);
    return known.length === 0 ? undefined : known.reduce((sum, waiting) => sum + waiting, 0);
  }

  /** Descriptors left free for the runtime: what was asked for, or the default that was computed. */
  get headroom(): number {
    return this.#acceptor.headroom;
  }

  /**
   * Listens on one more place, or again where a listener has failed. What `options` do not say is as {@linkcode serve}
   * was told, `port`, `path` and the like apart.
   *
   * @throws {TypeError | RangeError} If an option is wrong, or the server is stopped.
   * @throws {SystemError} As {@linkcode serve}. Nothing has changed then.
   */
  listen(options: ServerListenerOptions<T>): ServerListener {
    if (this.#stopping !== undefined || this.#isOver) {
      throw new RangeError("Cannot listen: the server has been stopped");
    }
    const place = this.#resolve(options);
    const open = openListener(place.where, this.loop);
    try {
      this.#accept(open, place, this.#acceptor);
    } catch (error) {
      discardListener(open, this.loop);
      throw error;
    }
    return this.listeners.at(-1)!;
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
   * Listens no more, sends what is queued and ends every stream, and closes each connection once its peer's kernel has
   * everything, or at the latest after `timeoutMs`. What clients send meanwhile is thrown away.
   *
   * Settles when every descriptor is released and every `close` handler has run, with a loop of the server's own also
   * when that has ended. Called again, it returns the same promise; call it from outside the server's handlers, or do
   * not wait for it there. Rejects with what ended the loop; and with RangeError, everything released, where a loop of the
   * caller's is closed before: then no handler is called any more.
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

  #resolve(listener: ServerListenerOptions<T>): Place<T> {
    knownOptions("listen", listener, KNOWN_LISTENER_OPTIONS);
    const [own, inherited] = [resolveTrigger(listener.trigger), resolveTrigger(this.#options.trigger)];
    const trigger = own.connections ?? inherited.connections;
    const isHandling = CONNECTION_HANDLERS.some((name) => listener[name] !== undefined);
    return {
      where: listener,
      watched: {
        trigger: own.listener ?? inherited.listener,
        exclusive: listener.exclusive ?? this.#options.exclusive,
      },
      settings: resolveConnection(
        { ...overridden(CONNECTION_OPTIONS, listener, this.#options), trigger },
        isHandling ? overridden(CONNECTION_HANDLERS, listener, this.#options) : this.#options,
        (error) => this.#onError(error),
        this.#idle,
      ),
    };
  }

  /** Accepts from `open`. `first` shares what is the whole server's; without it, it is the first. */
  #accept(open: OpenListener, { watched, settings }: Place<T>, first: Acceptor | undefined): Acceptor {
    const shared = first === undefined ? this.#options : { siblingOf: first };
    const acceptor = new Acceptor(this.loop, open.info, { ...shared, ...watched }, {
      accept: (clientFd) => this.#serve(clientFd, settings),
      fail: (error) => {
        handle.close();
        this.#onError(error);
      },
      overloaded: this.#overloaded,
      reap: (minIdleMs) => this.#reap(minIdleMs),
    });
    const handle = new ListenerHandle(open, acceptor, (listener) => this.#listeners.delete(listener));
    this.#listeners.add(handle);
    return acceptor;
  }

  #serve(fd: number, settings: ConnectionSettings<T>): void {
    const connection = new Connection<T>(this.loop, fd, settings, this.#closed);
    this.#connections.add(fd, connection);
    connection.start();
  }

  readonly #closed = (connection: Connection<T>, fd: number): void => {
    this.#connections.remove(fd, connection);
    this.#acceptor.released(fd);
    if (this.#connections.size === 0) this.#onEmpty?.();
  };

  /** Gives the longest idle connection up. */
  #reap(minIdleMs: number): number {
    const oldest = this.#idle?.oldest;
    if (oldest === undefined || oldest.idleMs < minIdleMs) return -1;
    const message = "Cannot keep an idle connection: its descriptor is needed for somebody else (overload.reapIdle)";
    return oldest.surrender(new ConnectionError("overload", message));
  }

  /** Tells the user's handler, or writes lines. */
  #reporter({ overloaded, logger }: ServerOptions<T>): (event: OverloadEvent) => void {
    if (overloaded === undefined) {
      const log = new OverloadLog(() => this.#where(), logger ?? ((line) => this.loop.diagnose(`spillway: ${line}`)));
      return (event) => log.log(event, this.loop.now);
    }
    return (event) => {
      try {
        const result: unknown = overloaded(event);
        if (isPromise(result)) result.then(undefined, (error: unknown) => this.#report(error));
      } catch (error) {
        this.#report(error);
      }
    };
  }

  /** To `onError`. What that throws ends the loop, though nobody may be there to catch it. */
  #report(error: unknown): void {
    try {
      this.#onError(error);
    } catch (thrown) {
      this.loop.report(thrown);
    }
  }

  /** For the log. */
  #where(): string {
    const others = this.#listeners.size - 1;
    return others > 0 ? `${this.url} and ${others} more` : this.url;
  }

  async #run(): Promise<void> {
    try {
      await this.loop.run();
    } finally {
      // After `stop` nothing is left. Else `onError` threw, and whoever waits for `stop` learns why, or somebody stopped
      // the loop: nothing is served any more.
      this.#isOver = true;
      this.#release();
      this.#tellClosed();
      await this.loop.close();
    }
  }

  /** Has the `close` handlers run, though the loop does not. */
  #tellClosed(): void {
    try {
      this.loop.turn(0);
    } catch (error) {
      this.loop.diagnose(`spillway: a handler failed while the server ended: ${textOf(error)}`);
    }
  }

  async #stop(timeoutMs: number): Promise<void> {
    for (const listener of this.listeners) listener.close();
    const told = Promise.withResolvers<void>();
    // One more turn, for the `close` handlers of those that went last.
    this.#onEmpty = () => this.loop.post(told.resolve);
    // A loop of the caller's that is closed takes no more turns.
    const abandon = () => {
      this.#release();
      told.reject(
        new RangeError("Cannot tell of every close: the event loop was closed before the server had stopped"),
      );
    };
    const forgetLoop = this.#finished === undefined ? this.loop.beforeClose(abandon) : undefined;
    if (this.#finished === undefined && this.loop.isClosed) abandon();
    const timer = this.loop.setTimer(timeoutMs, () => this.#release());
    const connections = [...this.#connections];
    for (const connection of connections) connection.finish({ timeoutMs, reason: "stop" });
    if (connections.length === 0) this.#onEmpty!();
    // A loop of our own that ends meanwhile takes no more turns either.
    await (this.#finished === undefined ? told.promise : Promise.race([told.promise, this.#finished]));
    timer.cancel();
    forgetLoop?.();
    if (this.#finished === undefined) return;
    this.loop.stop();
    await this.#finished;
  }

  #release(): void {
    for (const listener of this.listeners) listener.close();
    for (const connection of [...this.#connections]) connection.close(undefined, "stop");
  }
}

function resolveTrigger(trigger: ServerOptions["trigger"]): { listener?: Trigger; connections?: Trigger } {
  if (typeof trigger !== "object") return { listener: trigger, connections: trigger };
  knownOptions("serve", trigger, ["listener", "connections"]);
  return trigger;
}

/** What each listener was told; checked no further. */
function listenersOf<T>(options: ServerOptions<T>): readonly ServerListenerOptions<T>[] {
  const { listeners } = options;
  const given = LISTENER_OPTIONS.filter((name) => options[name] !== undefined);
  if (listeners === undefined) return [Object.fromEntries(given.map((name) => [name, options[name]]))];
  if (!Array.isArray(listeners) || listeners.length === 0) {
    throw new TypeError("Cannot use listeners: it must be an array of one listener at least");
  }
  if (given.length > 0) {
    throw new TypeError(`Cannot serve on both listeners and ${given[0]}: say ${given[0]} in one of the listeners`);
  }
  return listeners;
}

/** What `own` says of each of `names`, or else `inherited`. */
function overridden<K extends string, V extends { [name in K]?: unknown }>(
  names: readonly K[],
  own: V,
  inherited: V,
): Pick<V, K> {
  const entries = names.map((name) => [name, own[name] === undefined ? inherited[name] : own[name]]);
  return Object.fromEntries(entries) as Pick<V, K>;
}
