import { F } from "../ffi/constants.ts";
import { SystemError } from "../ffi/errno.ts";
import { ResolveError } from "../ffi/host.ts";
import { type Address, encodeAddress, formatAddress, isIpAddress, type TcpAddress } from "./address.ts";
import { Attempt, descriptorCure } from "./attempt.ts";
import { Connection } from "./connection.ts";
import {
  CONNECTION_HANDLERS,
  CONNECTION_OPTIONS,
  type ConnectionHandlers,
  type ConnectionOptions,
  type ConnectionSettings,
  resolveConnection,
} from "./connection_options.ts";
import { ATTEMPT_DELAY_MIN_MS, ATTEMPT_DELAY_MS, CONNECT_TIMEOUT_MS, TIMER_MAX_MS } from "./limits.ts";
import { EventLoop, loopOption } from "./loop.ts";
import { functionOption, integerOption, knownOptions, shown } from "./options.ts";
import type { Timer } from "./timers.ts";

/** The part of the platform's `AbortSignal` that is used here. */
export interface AbortSignalLike {
  /** Whether it was aborted. */
  readonly aborted: boolean;
  /** What {@linkcode connect} then rejects with. */
  readonly reason: unknown;
  /** Called once for each attempt to connect. */
  addEventListener(type: "abort", listener: () => void): void;
  /** Called once the attempt is over. */
  removeEventListener(type: "abort", listener: () => void): void;
}

/**
 * Options for {@linkcode connect}: where to, how long to try, how the connection is to behave, and its handlers. Times
 * are ms.
 */
export interface ConnectOptions<T = undefined> extends ConnectionOptions, ConnectionHandlers<T> {
  /**
   * An IP address or a name. A name is looked up by the runtime's resolver, for which Deno needs `--allow-net` and Node,
   * if it runs with `--permission`, too. `"localhost"` needs neither: it is 127.0.0.1, then ::1. @default {"127.0.0.1"}
   */
  hostname?: string;
  /** 1 to 65535. This or `path` is required. */
  port?: number;
  /** Path of a Unix socket; beginning with NUL, an abstract name. */
  path?: string;
  /** How long all of it may take, resolving included; 0: as long as the kernel tries, which is minutes. @default {10_000} */
  timeoutMs?: number;
  /**
   * How long an address has to answer before the next one is tried beside it, 10 or more; 0: each only after the one
   * before has failed. @default {250}
   */
  attemptDelayMs?: number;
  /** Ends the attempt, which then rejects with the signal's reason. Means nothing to a connection that there is. */
  signal?: AbortSignalLike;
  /**
   * The loop to connect on, which the caller runs. By default there is one for this connection alone, which runs beside the
   * runtime and is closed after the connection: fit for a few, since each costs an epoll instance and what parks it.
   */
  loop?: EventLoop;
  /**
   * Receives what `close` throws, or without it what any handler throws. What it throws itself ends the loop. Default:
   * the loop's own `onError`, a line on standard error.
   */
  onError?: (error: unknown) => void;
}

const KNOWN_OPTIONS: readonly string[] = [
  ...["hostname", "port", "path", "timeoutMs", "attemptDelayMs", "signal", "loop", "onError", "trigger"],
  ...CONNECTION_OPTIONS,
  ...CONNECTION_HANDLERS,
];

/** No connection within `timeoutMs`, or to none of the addresses that a name has. Compare `code`, never `message`. */
export class ConnectError extends AggregateError {
  /** Always `"ConnectError"`. */
  override readonly name = "ConnectError";
  /** `"ETIMEDOUT"` for a timeout; otherwise that of the first address, such as `"ECONNREFUSED"`. */
  readonly code: string;

  /** `errors` has why each address failed, in the order in which they were tried; empty where none has yet. */
  constructor(code: string, errors: readonly unknown[], message: string) {
    super(errors, message);
    this.code = code;
  }
}

/**
 * Connects by TCP or to a Unix socket.
 *
 * ```ts
 * import { connect } from "@spillway/epoll";
 *
 * const connection = await connect({
 *   hostname: "localhost",
 *   port: 7007,
 *   data(connection, bytes) {
 *     console.log(new TextDecoder().decode(bytes));
 *     connection.end();
 *   },
 * });
 * connection.write("hello");
 * ```
 *
 * The addresses of a name are tried one after the other, families in turn, each with a head start of `attemptDelayMs`,
 * and the first to answer wins: Happy Eyeballs, RFC 8305. Whatever comes of it, nothing of the others is left.
 *
 * Settles after `open` was called, in a turn of the loop; a connection that `open` closed is returned all the same, and
 * `close` says why. Events may follow before the caller goes on: with handlers nothing is missed, and who sets them only
 * then has `open` pause. A loop that is not run makes no progress: then `signal` and the loop's end are what ends this.
 * With `runBlocking` promises stand still and no name is looked up; `open` is told even so.
 *
 * Rejects, once all is released, with
 * - `TypeError` or `RangeError`: an option is wrong, or the loop is closed;
 * - {@linkcode SystemError}: the one address refuses (ECONNREFUSED, ENETUNREACH, ENOENT), or there is no descriptor
 *   (EMFILE);
 * - {@linkcode ConnectError}: all addresses of a name failed, or the time is over (ETIMEDOUT);
 * - {@linkcode ResolveError}: a name has no address;
 * - {@linkcode UnavailableError}: this process cannot call libc, or must not look names up;
 * - the signal's reason.
 */
export async function connect<T = undefined>(options: ConnectOptions<T>): Promise<Connection<T>> {
  knownOptions("connect", options, KNOWN_OPTIONS);
  const onError = functionOption("onError", options.onError);
  let loop = loopOption(options.loop);
  const plan: Plan<T> = {
    target: resolveTarget(options),
    timeoutMs: integerOption("timeoutMs", options.timeoutMs, CONNECT_TIMEOUT_MS, 0, TIMER_MAX_MS),
    attemptDelayMs: resolveDelay(options.attemptDelayMs),
    signal: resolveSignal(options.signal),
    settings: resolveConnection(options, options, onError ?? ((error) => loop!.report(error))),
  };
  if (plan.signal?.aborted) throw plan.signal.reason;
  if (loop !== undefined) {
    if (loop.isClosed) throw new RangeError(`Cannot ${actionOf(plan.target)}: the event loop is closed`);
    return await new Connector(loop, plan).connect();
  }
  try {
    loop = new EventLoop({ onError });
    assertDescriptors(loop, loop.descriptorsToCome + loop.settlingDescriptors + 1);
  } catch (error) {
    await loop?.close();
    throw withCure(plan.target, error);
  }
  return await connectAlone(loop, plan);
}

/** {@linkcode ConnectOptions}, checked, with its defaults. */
interface Plan<T> {
  /** Its hostname may be a name. */
  readonly target: Address;
  readonly timeoutMs: number;
  readonly attemptDelayMs: number;
  readonly signal: AbortSignalLike | undefined;
  readonly settings: ConnectionSettings<T>;
}

/** The attempts for one call of {@linkcode connect}, of which at most one becomes a connection. */
class Connector<T> {
  readonly #loop: EventLoop;
  readonly #plan: Plan<T>;
  readonly #onClosed: () => void;
  readonly #outcome: PromiseWithResolvers<Connection<T>> = Promise.withResolvers();
  #addresses: readonly Address[] = [];
  /** Why each of the addresses failed. */
  readonly #errors: Map<Address, unknown> = new Map();
  readonly #attempts: Set<Attempt> = new Set();
  #latest: Attempt | undefined;
  /** How many addresses were tried. */
  #tried = 0;
  /** The next address waits for a descriptor: one that an attempt under way holds. */
  #isStarved = false;
  #delay: Timer | undefined;
  #timeout: Timer | undefined;
  #forgetLoop: (() => void) | undefined;
  #connection: Connection<T> | undefined;
  #isSettled = false;

  /** @param onClosed Called when the connection that came of it has released its descriptor. */
  constructor(loop: EventLoop, plan: Plan<T>, onClosed: () => void = () => {}) {
    this.#loop = loop;
    this.#plan = plan;
    this.#onClosed = onClosed;
  }

  /** Called once. */
  connect(): Promise<Connection<T>> {
    const { target, timeoutMs, signal } = this.#plan;
    this.#forgetLoop = this.#loop.beforeClose(() =>
      this.#fail(new RangeError(`Cannot ${actionOf(target)}: the event loop was closed meanwhile`))
    );
    if (timeoutMs > 0) this.#timeout = this.#loop.setTimer(timeoutMs, () => this.#fail(this.#timeoutError()));
    try {
      signal?.addEventListener("abort", this.#abort);
    } catch (error) {
      this.#fail(error);
    }
    // A signal that is not the platform's may call at once.
    if (this.#isSettled) return this.#outcome.promise;
    if (isName(target)) this.#resolve(target);
    else this.#try([target]);
    return this.#outcome.promise;
  }

  /** Ends what is under way with `error`, be it the attempts or the connection that came of them. */
  close(error: unknown): void {
    this.#fail(error);
    this.#connection?.close(error);
  }

  #fail(error: unknown): void {
    if (this.#isSettled) return;
    this.#settle();
    this.#outcome.reject(error);
  }

  readonly #abort = (): void => this.#fail(this.#plan.signal!.reason);

  async #resolve(target: TcpAddress): Promise<void> {
    try {
      const found = isLocalhost(target.hostname) ? ["127.0.0.1", "::1"] : await this.#loop.resolve(target.hostname);
      if (this.#isSettled) return;
      if (found.length === 0) throw new ResolveError(target.hostname, "ENOTFOUND");
      this.#try(interleave(found).map((hostname) => ({ ...target, hostname })));
    } catch (error) {
      this.#fail(error);
    }
  }

  #try(addresses: readonly Address[]): void {
    this.#addresses = addresses;
    this.#tryNext();
  }

  /** Begins with the next address that does not fail at once. */
  #tryNext(): void {
    this.#delay?.cancel();
    while (this.#tried < this.#addresses.length) {
      const attempt = new Attempt(this.#loop, this.#addresses[this.#tried]!, this.#ended);
      const error = attempt.start();
      this.#isStarved = error instanceof SystemError && descriptorCure(error.errno) !== undefined;
      if (this.#isStarved) {
        if (this.#attempts.size === 0) this.#fail(error);
        return;
      }
      this.#tried++;
      if (error === undefined) return this.#started(attempt);
      this.#errors.set(attempt.address, error);
    }
    if (this.#attempts.size === 0) this.#fail(this.#allFailed());
  }

  #started(attempt: Attempt): void {
    this.#attempts.add(attempt);
    this.#latest = attempt;
    const { attemptDelayMs } = this.#plan;
    if (attemptDelayMs === 0 || this.#tried === this.#addresses.length) return;
    this.#delay = this.#loop.setTimer(attemptDelayMs, () => this.#tryNext());
  }

  readonly #ended = (attempt: Attempt, error: unknown): void => {
    this.#attempts.delete(attempt);
    if (error === undefined) return this.#connected(attempt.take());
    this.#errors.set(attempt.address, error);
    // An older one's failure changes nothing: the next is due when the latest has had its time.
    if (attempt === this.#latest || this.#isStarved || this.#attempts.size === 0) this.#tryNext();
  };

  #connected(fd: number): void {
    this.#settle();
    try {
      this.#connection = new Connection<T>(this.#loop, fd, this.#plan.settings, this.#onClosed);
    } catch (error) {
      this.#loop.sys.close(fd);
      return this.#outcome.reject(error);
    }
    this.#connection.start();
    this.#outcome.resolve(this.#connection);
  }

  /** Releases everything. */
  #settle(): void {
    this.#isSettled = true;
    for (const attempt of this.#attempts) attempt.close();
    this.#attempts.clear();
    this.#delay?.cancel();
    this.#timeout?.cancel();
    this.#forgetLoop?.();
    this.#plan.signal?.removeEventListener("abort", this.#abort);
  }

  /** Why each address failed that did, in the order of the addresses. */
  #errorsInOrder(): unknown[] {
    return this.#addresses.filter((address) => this.#errors.has(address)).map((address) => this.#errors.get(address));
  }

  #allFailed(): unknown {
    const { target } = this.#plan;
    const errors = this.#errorsInOrder();
    if (!isName(target)) return errors[0];
    const list = this.#addresses.map((address, i) => `${formatAddress(address)} ${codeOf(errors[i])}`).join(", ");
    return new ConnectError(codeOf(errors[0]), errors, `Cannot ${actionOf(target)}: no address answers: ${list}`);
  }

  #timeoutError(): ConnectError {
    const { target, timeoutMs } = this.#plan;
    const waitedFor = this.#addresses.length === 0
      ? "the resolver"
      : [...this.#attempts].map(({ address }) => formatAddress(address)).join(", ");
    return new ConnectError(
      "ETIMEDOUT",
      this.#errorsInOrder(),
      `Cannot ${
        actionOf(target)
      }: no answer from ${waitedFor} within ${timeoutMs} ms; raise timeoutMs, or look whether ` +
        "the address is right and nothing on the way drops what is sent",
    );
  }
}

/** Why there is no loop of our own. */
function withCure(target: Address, error: unknown): unknown {
  const cure = error instanceof SystemError ? descriptorCure(error.errno) : undefined;
  if (cure === undefined) return error;
  const { syscall, errno } = error as SystemError;
  return new SystemError(actionOf(target), syscall, errno, cure);
}

/** Throws unless `count` descriptors can be opened: without them the helper of a loop ends the whole process in Bun. */
function assertDescriptors({ sys, poller }: EventLoop, count: number): void {
  const opened: number[] = [];
  while (opened.length < count) {
    const fd = sys.fcntl(poller.fd, F.dupfdCloexec);
    if (fd >= 0) opened.push(fd);
    else count = fd;
  }
  for (const fd of opened) sys.close(fd);
  if (count < 0) throw new SystemError("make an event loop", "fcntl", -count);
}

/** Connects on a loop of our own, which is closed with the connection, or because there is none. */
async function connectAlone<T>(loop: EventLoop, plan: Plan<T>): Promise<Connection<T>> {
  // By a task: the `close` handler is called in a turn.
  const connector = new Connector(loop, plan, () => loop.post(() => loop.stop()));
  const connected = connector.connect();
  const finished = runAlone(loop, connector);
  try {
    return await connected;
  } catch (error) {
    loop.stop();
    await finished.catch(() => {}); // then it is `error`
    throw error;
  }
}

async function runAlone<T>(loop: EventLoop, connector: Connector<T>): Promise<void> {
  try {
    await loop.run();
  } catch (error) {
    // The helper cannot be made, or `onError` threw. Nobody else is left to call the `close` handler.
    connector.close(error);
    loop.turn(0);
    throw error;
  } finally {
    await loop.close();
  }
}

function resolveTarget({ hostname, port, path }: Pick<ConnectOptions, "hostname" | "port" | "path">): Address {
  if (path !== undefined) {
    const other = hostname !== undefined ? "hostname" : port !== undefined ? "port" : undefined;
    if (other !== undefined) throw new TypeError(`Cannot connect to both path and ${other}: give one of them`);
    const target: Address = { transport: "unix", path };
    encodeAddress("connect to", target); // throws for what is no path
    return target;
  }
  if (port === undefined) throw new TypeError("Cannot connect: give the port to connect to, or the path of a socket");
  return { transport: "tcp", hostname: resolveHostname(hostname), port: integerOption("port", port, 0, 1, 65535) };
}

/**
 * What ends in a number is an IPv4 address or nothing: resolvers read `127.1` and `0x7f.0.0.1` each in their own way, and
 * who checked an address before must not be misled.
 */
function resolveHostname(hostname: string = "127.0.0.1"): string {
  if (typeof hostname === "string" && isIpAddress(hostname)) return hostname;
  if (
    typeof hostname === "string" && /^[^\s\0:/?#@[\]%\\]+$/.test(hostname) &&
    !/(^|\.)(\d+|0x[\da-f]*)\.?$/i.test(hostname)
  ) {
    return hostname;
  }
  throw new TypeError(`Cannot connect to ${JSON.stringify(hostname)}: it must be a name, or an IPv4 or IPv6 address`);
}

function resolveDelay(value: number | undefined): number {
  const delayMs = integerOption("attemptDelayMs", value, ATTEMPT_DELAY_MS, 0, TIMER_MAX_MS);
  if (delayMs === 0 || delayMs >= ATTEMPT_DELAY_MIN_MS) return delayMs;
  throw new RangeError(`Cannot use attemptDelayMs ${delayMs}: it must be 0, or at least ${ATTEMPT_DELAY_MIN_MS}`);
}

function resolveSignal(signal: AbortSignalLike | undefined): AbortSignalLike | undefined {
  const isSignal = typeof signal?.addEventListener === "function" && typeof signal.removeEventListener === "function";
  if (signal === undefined || isSignal) return signal;
  throw new TypeError(`Cannot use signal ${shown(signal)}: it must be an AbortSignal`);
}

/** Whether `target` is to be looked up. */
function isName(target: Address): target is TcpAddress {
  return target.transport === "tcp" && !isIpAddress(target.hostname);
}

/** The names that RFC 6761, section 6.3, keeps for the loopback interface: no resolver need be asked, nor be trusted. */
function isLocalhost(hostname: string): boolean {
  return /^(.+\.)?localhost\.?$/i.test(hostname);
}

/** The two families in turn, beginning with that of the first address: RFC 8305, section 4. */
export function interleave(addresses: readonly string[]): string[] {
  const isSecond = (address: string) => address.includes(":") !== addresses[0]!.includes(":");
  const first = addresses.filter((address) => !isSecond(address));
  const second = addresses.filter(isSecond);
  return addresses.flatMap((_, i) => [...first.slice(i, i + 1), ...second.slice(i, i + 1)]);
}

function actionOf(target: Address): string {
  return `connect to ${JSON.stringify(formatAddress(target))}`;
}

function codeOf(error: unknown): string {
  return (error as { code?: string }).code ?? (error as Error).name;
}
