import type { Acceptor } from "./acceptor.ts";
import { type Address, formatAddress } from "./address.ts";
import type { AcceptCounters } from "./counters.ts";
import { BACKLOG } from "./limits.ts";
import type { ListenerInfo } from "./listener.ts";
import type { EventLoop } from "./loop.ts";
import { booleanOption, integerOption } from "./options.ts";
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
  /** Let other sockets listen on the same port, the kernel spreading clients: SO_REUSEPORT. @default {false} */
  reusePort?: boolean;
}

/** The keys of {@linkcode ListenerOptions}. */
export const LISTENER_OPTIONS: readonly (keyof ListenerOptions)[] = [
  ...["hostname", "port", "path", "fd", "backlog", "reusePort"] as const,
];

/** One of the places where a server listens. */
export interface ServerListener {
  /** Where it is, with the port that the kernel chose. */
  readonly address: Address;
  /** `address` as text: `tcp://127.0.0.1:7007`, `tcp://[::1]:7007` or `unix:///run/x.sock`. */
  readonly url: string;
  /** What became of the clients that came here. Live. */
  readonly counters: Readonly<AcceptCounters>;
  /** Clients in its backlog now; `undefined` where the kernel does not tell, as on Unix sockets, and once closed. */
  readonly waiting: number | undefined;
  /**
   * Takes no clients here any more: those in the backlog are reset by the kernel, a Unix socket's file is removed.
   * Connections that came here live on, and so does the rest of the server. Safe twice.
   */
  close(): void;
}

/** A listener that nobody accepts from yet. */
export interface OpenListener {
  /** For the acceptor, which takes its descriptor over. */
  readonly info: ListenerInfo;
  /** Where it is. */
  readonly address: Address;
  /** A file to be removed with it. */
  readonly socketPath: string | undefined;
  /** Whether the descriptor was the caller's. */
  readonly isAdopted: boolean;
}

/** Makes or adopts a listener. One that cannot be used leaves nothing open, and an adopted one is the caller's still. */
export function openListener(options: ListenerOptions, loop: EventLoop): OpenListener {
  const { hostname = "127.0.0.1", port, path, fd } = options;
  const given = Object.entries({ port, path, fd }).filter(([, value]) => value !== undefined).map(([name]) => name);
  if (given.length > 1) throw new TypeError(`Cannot serve on both ${given.join(" and ")}: give one of them`);
  if (options.hostname !== undefined && (path ?? fd) !== undefined) {
    throw new TypeError(`Cannot serve on both ${given[0]} and hostname: only a port has one`);
  }
  const backlog = integerOption("backlog", options.backlog, BACKLOG, 1, 2 ** 31 - 1);
  const reusePort = booleanOption("reusePort", options.reusePort, false);
  if (reusePort && (path ?? fd) !== undefined) {
    throw new TypeError(
      `Cannot use reusePort with ${given[0]}: only a port that the server binds itself can be shared`,
    );
  }
  if (fd !== undefined) {
    adoptListener(integerOption("fd", fd, -1, 0, 2 ** 31 - 1), loop.sys);
    const address = localAddress(fd, loop.sys);
    // Whether its port was chosen explicitly is not to be seen.
    const info = { fd, backlog, canResetQueue: false, url: formatAddress(address) };
    return { info, address, socketPath: undefined, isAdopted: true };
  }
  const wanted: Address = path !== undefined
    ? { transport: "unix", path }
    : { transport: "tcp", hostname, port: port === undefined ? 0 : port };
  const ownFd = listenOn(wanted, { backlog, reusePort }, loop.sys);
  const socketPath = path === undefined || path.startsWith("\0") ? undefined : path; // an abstract name is no file
  const canResetQueue = path === undefined && port !== undefined && port !== 0;
  let address: Address;
  try {
    address = localAddress(ownFd, loop.sys);
  } catch (error) {
    loop.sys.close(ownFd);
    throw error;
  }
  const info = { fd: ownFd, backlog, canResetQueue, url: formatAddress(address) };
  return { info, address, socketPath, isAdopted: false };
}

/** Undoes {@linkcode openListener}: the descriptor is closed, unless it was the caller's. */
export function discardListener({ info, socketPath, isAdopted }: OpenListener, loop: EventLoop): void {
  removeFile(socketPath, loop);
  if (!isAdopted) loop.sys.close(info.fd);
}

/** A listener that is accepted from. */
export class ListenerHandle implements ServerListener {
  readonly address: Address;
  readonly #acceptor: Acceptor;
  readonly #loop: EventLoop;
  readonly #onClosed: (listener: ServerListener) => void;
  /** Absent once removed. */
  #socketPath: string | undefined;

  /** `onClosed` is called by each `close`. */
  constructor(open: OpenListener, acceptor: Acceptor, onClosed: (listener: ServerListener) => void) {
    this.address = open.address;
    this.#acceptor = acceptor;
    this.#loop = acceptor.loop;
    this.#onClosed = onClosed;
    this.#socketPath = open.socketPath;
  }

  get url(): string {
    return formatAddress(this.address);
  }

  get counters(): Readonly<AcceptCounters> {
    return this.#acceptor.counters;
  }

  get waiting(): number | undefined {
    return this.#acceptor.waiting;
  }

  close(): void {
    // First: once nobody listens on it, another process may replace the file by its own.
    removeFile(this.#socketPath, this.#loop);
    this.#socketPath = undefined;
    this.#acceptor.close();
    this.#onClosed(this);
  }
}

function removeFile(path: string | undefined, loop: EventLoop): void {
  if (path !== undefined) loop.sys.unlink(path);
}
