/**
 * One acceptor, or two that are one server, in a world of clients, thieves, changing limits and failing calls, over a fake kernel in fake time; and
 * the invariants that hold after every step. Imports nothing but the module and its fakes, so that a copy with a bug
 * planted in it plays the same sequences.
 */
import { EPOLL, O, POLL, RLIMIT } from "../../ffi/constants.ts";
import { ERRNO, type ErrnoName } from "../../ffi/errno.ts";
import { Acceptor } from "../../src/acceptor.ts";
import type { AcceptCounters } from "../../src/counters.ts";
import type { OverloadEvent } from "../../src/episode.ts";
import { EventLoop } from "../../src/loop.ts";
import { Interest } from "../../src/interest.ts";
import type { OverloadPolicy } from "../../src/overload.ts";
import type { Source } from "../../src/poller.ts";
import type { Token } from "../../src/token.ts";
import { FakeHost } from "./fake_host.ts";
import { type FakeClient, FakeKernel } from "./fake_kernel.ts";

/** What a world is like. */
export interface WorldOptions {
  readonly trigger: "level" | "edge";
  readonly policy: OverloadPolicy;
  readonly refuse: "fin" | "rst" | "busy";
  /** Descriptors beyond what the acceptor itself needs. */
  readonly room: number;
  readonly headroom: number;
  readonly reserve: number;
  readonly slack: number;
  readonly maxConnections: number | undefined;
  readonly acceptsPerSecond: number | undefined;
  readonly shedPerTurn: number;
  readonly shedPerSecond: number;
  readonly reaps: boolean;
  readonly canResetQueue: boolean;
  readonly listeners: 1 | 2;
}

/** What may happen in it. */
export type Step =
  /** Clients connect, to the second listener where there is one and `isAside`; with `bytes`, they send as many at once. */
  | { readonly kind: "arrive"; readonly count: number; readonly bytes: number; readonly isAside: boolean }
  /** A client goes, in good order or by a reset, wherever it is. */
  | { readonly kind: "leave"; readonly index: number; readonly isReset: boolean }
  /** The server closes a connection of its own. */
  | { readonly kind: "release"; readonly index: number }
  | { readonly kind: "turn" }
  | { readonly kind: "wait"; readonly ms: number }
  /** The soft limit moves, as by prlimit(1). */
  | { readonly kind: "limit"; readonly by: number }
  /** Another thread opens or closes a file. */
  | { readonly kind: "thief"; readonly opens: boolean }
  /** Another thread opens a file right after the next close, and keeps it. */
  | { readonly kind: "steal" }
  /** accept4 fails, so often. */
  | { readonly kind: "fail"; readonly errno: ErrnoName; readonly times: number };

/** Most turns in which time may stand still. */
const TURNS_MAX = 2_000;
/** What fractions of an accept may add up to. */
const ROUNDING = 1e-3;
/** Every pause, grace and episode is over by then, the budget of refusals apart. */
const SETTLED_MS = 6_000;

/**
 * A connection of the server's: reads, and goes when its client has gone. The first one that hears from its client in a
 * batch closes the one beside it, whose event may be further down in the same batch.
 */
class Served implements Source {
  readonly fd: number;
  readonly #world: World;
  #token: Token;
  #isClosed = false;

  constructor(world: World, fd: number) {
    this.fd = fd;
    this.#world = world;
    this.#token = world.loop.poller.add(fd, Interest.readable, this) as Token;
  }

  onReady(): void {
    if (this.#isClosed) this.#world.fail(`a stale event reached the connection that was descriptor ${this.fd}`);
    const received = this.#world.kernel.recv(this.fd, BUFFER);
    // It reads all there is, and nobody else does.
    if (received === -ERRNO.EAGAIN[0]) this.#world.fail(`an event of somebody else reached descriptor ${this.fd}`);
    if (received <= 0) return this.#world.release(this);
    // The slot of the one that goes is in use again before its event is reached.
    this.#world.loop.poller.remove(this.#token);
    this.#world.releaseBeside(this);
    this.#token = this.#world.loop.poller.add(this.fd, Interest.readable, this) as Token;
  }

  /** Forgets the descriptor, without closing it. Nothing is left unread that would turn the close into a reset. */
  surrender(): number {
    this.#isClosed = true;
    this.#world.kernel.recv(this.fd, BUFFER);
    this.#world.loop.poller.remove(this.#token);
    return this.fd;
  }
}

const BUFFER = new Uint8Array(new ArrayBuffer(4096));

/** One run. */
export class World {
  readonly kernel: FakeKernel;
  readonly loop: EventLoop;
  readonly acceptors: Acceptor[] = [];
  readonly events: OverloadEvent[] = [];
  readonly errors: unknown[] = [];
  readonly #options: WorldOptions;
  readonly #listeners: number[] = [];
  readonly #clients: FakeClient[] = [];
  readonly #served: Served[] = [];
  readonly #thieves: number[] = [];
  /** End the injected failures. */
  readonly #failures: (() => void)[] = [];
  readonly #soft: number;
  /** Descriptors of the acceptor and of the runtime. */
  readonly #base: number;
  readonly #startedAt: number;
  /** Whether the limit moved, or somebody else took descriptors: then the headroom is nobody's fault. */
  #isDisturbed = false;
  #isStealing = false;
  #released = 0;
  #injected = 0;
  /** What the rate of accepts still allows, by those that were served alone. */
  #acceptsLeft: number;
  #acceptsLeftAt: number;

  constructor(options: WorldOptions) {
    this.#options = options;
    const hard = 64;
    const kernel = this.kernel = new FakeKernel({ soft: hard, hard });
    const host = new FakeHost(kernel);
    this.loop = new EventLoop({ onError: (error) => this.errors.push(error) }, kernel, host);
    for (let i = 0; i < options.listeners; i++) this.#listeners.push(kernel.createListener({ backlog: 64 }));
    // What there is so far, the reserve and its keeper; the slack is taken off the limit by the acceptor.
    const own = kernel.descriptors.length + options.reserve + Math.sign(options.reserve);
    kernel.setrlimit(RLIMIT.nofile, { soft: own + options.headroom + options.slack + options.room, hard });
    const { policy, refuse, headroom, reserve, slack, shedPerTurn, shedPerSecond } = options;
    const { trigger, maxConnections, acceptsPerSecond } = options;
    const shared = {
      ...{ maxConnections, acceptsPerSecond },
      overload: {
        ...{ policy, refuse, headroom, reserve, slack, shedPerTurn, shedPerSecond },
        reapIdle: options.reaps ? { minIdleMs: 0, perTurn: 2 } : undefined,
      },
    };
    for (const fd of this.#listeners) {
      const [siblingOf] = this.acceptors;
      const info = { fd, backlog: 64, canResetQueue: options.canResetQueue };
      const acceptor = new Acceptor(
        this.loop,
        info,
        { trigger, ...(siblingOf === undefined ? shared : { siblingOf }) },
        {
          accept: (clientFd) => {
            if (!this.#isDisturbed && clientFd >= this.#limit() - headroom) {
              this.fail(`descriptor ${clientFd} is in the headroom`);
            }
            this.#countAccept();
            this.#served.push(new Served(this, clientFd));
          },
          overloaded: (event) => this.events.push(event),
          reap: () => {
            const oldest = this.#served.shift();
            if (oldest === undefined) return -1;
            this.#released++;
            this.#first.released(oldest.surrender());
            return oldest.fd;
          },
        },
      );
      this.acceptors.push(acceptor);
    }
    this.#soft = this.#limit();
    this.#base = kernel.descriptors.length;
    this.#startedAt = this.#acceptsLeftAt = kernel.now;
    this.#acceptsLeft = acceptsPerSecond ?? Infinity;
    kernel.onBetween(({ name }) => {
      if (!this.#isStealing || name !== "close") return;
      this.#isStealing = false;
      this.#open();
    });
  }

  /** Does `step`, then checks what must always hold. */
  play(step: Step): void {
    this.#do(step);
    this.#check();
  }

  /**
   * Ends every disturbance and lets time pass: whoever waits must be dealt with, and once all have gone the next client
   * must be served at once.
   */
  settle(): void {
    const { kernel } = this;
    this.#isStealing = false;
    for (const end of this.#failures) end();
    for (const fd of this.#thieves.splice(0)) kernel.close(fd);
    kernel.setrlimit(RLIMIT.nofile, { soft: this.#soft, hard: 64 });
    this.#pass(SETTLED_MS + 1000 * this.#waiting() / this.#options.shedPerSecond);
    this.#check();
    if (this.#waiting() > 0 && (!this.#mayWait() || this.#hasRoom())) {
      this.fail(`${this.#waiting()} clients are stranded`);
    }
    const isQuiet = this.#waiting() === 0 && this.#first.reserveMissing === 0;
    if (isQuiet && this.#first.isOverloaded) this.fail("the episode does not end, though every place is taken");

    for (const client of this.#clients) if (client.state === "accepted") client.close();
    // Those who wait take the place of those who go: each release makes room for one, at once. Only who is refused for a
    // rate takes no place, and may have to wait for that.
    const isRated = this.#options.acceptsPerSecond !== undefined;
    for (let rounds = 0; this.#served.length > 0 || (isRated && this.#waiting() > 0); rounds++) {
      if (rounds > this.#clients.length) this.fail("clients come out of nowhere");
      if (this.#served.length === 0) this.#pass(SETTLED_MS);
      else this.release(this.#served[0]!);
      this.#turns();
    }
    if (this.#waiting() > 0) this.fail(`${this.#waiting()} clients are stranded though everybody has gone`);
    this.#pass(SETTLED_MS);
    this.#check();
    for (const { isPaused } of this.acceptors) if (isPaused) this.fail("the pause does not end");
    if (this.#first.isOverloaded) this.fail("the episode does not end");
    if (this.#first.reserveMissing > 0) this.fail("the reserve is not restored");
    const shared = kernel.descriptors.filter((fd) => kernel.describe(fd)!.descriptors > 1);
    if (shared.length > 0) this.fail(`descriptors ${shared} have no file of their own`);

    for (const listener of this.#listeners) {
      const next = kernel.connectClient(listener);
      this.#turns();
      if (next.state !== "accepted") this.fail(`the next client is ${next.state}`);
      this.release(this.#served[0]!);
    }
    this.#checkEvents();
    this.#checkSpin();
    if (this.errors.length > 0) this.fail(`onError was handed ${this.errors}`);
  }

  /** The server closes a connection. */
  release(served: Served): void {
    this.#served.splice(this.#served.indexOf(served), 1);
    this.#released++;
    this.kernel.close(served.surrender());
    this.#first.released(served.fd);
  }

  /** The server closes the connection that came after `served`. */
  releaseBeside(served: Served): void {
    const next = this.#served[this.#served.indexOf(served) + 1];
    if (next !== undefined) this.release(next);
  }

  #do(step: Step): void {
    const { kernel } = this;
    switch (step.kind) {
      case "arrive":
        for (let i = 0; i < step.count; i++) {
          const client = kernel.connectClient(this.#listeners[step.isAside ? this.#listeners.length - 1 : 0]!);
          this.#clients.push(client);
          if (step.bytes > 0 && client.state === "queued") client.send(new Uint8Array(step.bytes));
        }
        return;
      case "leave": {
        const client = this.#clients[step.index % this.#clients.length];
        if (client === undefined || client.state === "connecting") return;
        return step.isReset ? client.reset() : client.close();
      }
      case "release":
        if (this.#served.length > 0) this.release(this.#served[step.index % this.#served.length]!);
        return;
      case "turn":
        this.#turn(0);
        return;
      case "wait":
        return this.#pass(step.ms);
      case "limit":
        this.#isDisturbed = true;
        kernel.setrlimit(RLIMIT.nofile, { soft: Math.max(4, Math.min(64, this.#limit() + step.by)), hard: 64 });
        return;
      case "thief":
        this.#isDisturbed = true;
        if (step.opens) this.#open();
        else if (this.#thieves.length > 0) kernel.close(this.#thieves.shift()!);
        return;
      case "steal":
        this.#isDisturbed = true;
        this.#isStealing = true;
        return;
      case "fail":
        this.#failures.push(kernel.fail("accept4", step.errno, step.times));
        this.#injected += step.times;
        return;
    }
  }

  #open(): void {
    const fd = this.kernel.open("/dev/zero", O.rdonly);
    if (fd >= 0) this.#thieves.push(fd);
  }

  /** Lets `ms` pass, with all the turns that the loop takes meanwhile. */
  #pass(ms: number): void {
    const until = this.kernel.now + ms;
    for (let still = 0, last = -1; this.kernel.now < until; last = this.kernel.now) {
      still = this.kernel.now === last ? still + 1 : 0;
      if (still > TURNS_MAX) this.fail("the loop spins");
      this.#turn(until - this.kernel.now);
    }
    this.#turns();
  }

  /** All the turns that can be taken now. */
  #turns(): void {
    for (let turns = 0; this.#turn(0); turns++) if (turns > TURNS_MAX) this.fail("the loop spins");
  }

  /** One, in which each listener keeps to its budget of refusals, and refuses for a rate only what is above it. */
  #turn(timeoutMs: number): boolean {
    const before = this.acceptors.map(({ counters }) => ({ ...counters }));
    const hasWorked = this.loop.turn(timeoutMs);
    for (const [i, { counters }] of this.acceptors.entries()) {
      const refused = refusedOneByOne(counters) - refusedOneByOne(before[i]!);
      if (refused > this.#options.shedPerTurn) this.fail(`${refused} were refused in a turn`);
      const isRateSpent = this.#fillAccepts() < 1 + ROUNDING;
      if (counters.rateLimited > before[i]!.rateLimited && !isRateSpent) this.fail("the rate has room");
    }
    return hasWorked;
  }

  #countAccept(): void {
    if (this.#fillAccepts() < 1 - ROUNDING) this.fail("more were served than the rate allows");
    this.#acceptsLeft--;
  }

  #fillAccepts(): number {
    const { acceptsPerSecond = Infinity } = this.#options;
    const { now } = this.kernel;
    const filled = this.#acceptsLeft + (now - this.#acceptsLeftAt) * (acceptsPerSecond / 1000);
    this.#acceptsLeftAt = now;
    return this.#acceptsLeft = Math.min(acceptsPerSecond, filled);
  }

  #limit(): number {
    return (this.kernel.getrlimit(RLIMIT.nofile) as { soft: number }).soft;
  }

  #waiting(): number {
    return this.#listeners.reduce((sum, listener) => sum + this.kernel.queueLength(listener), 0);
  }

  /** What is shared is asked of it. */
  get #first(): Acceptor {
    return this.acceptors[0]!;
  }

  /** Whether those who wait are meant to: by policy, or because there is no step of the ladder to refuse them by. */
  #mayWait(): boolean {
    const { policy, reserve, slack, canResetQueue } = this.#options;
    // Connections from before the limit was lowered may lie where the slack is.
    const hasSlack = slack > 0 && !this.#isDisturbed;
    // What was stolen of the reserve is not restored while such connections fill the table.
    const isStolen = this.#first.reserveMissing === reserve && this.kernel.lowestFree >= this.#limit();
    return policy === "wait" || ((reserve === 0 || isStolen) && !hasSlack && !canResetQueue);
  }

  #hasRoom(): boolean {
    const { headroom, maxConnections = Infinity } = this.#options;
    return this.#served.length < maxConnections && this.kernel.lowestFree < this.#limit() - headroom;
  }

  #check(): void {
    const { kernel } = this;
    const acceptor = this.#first;
    const { policy, maxConnections = Infinity } = this.#options;
    const open = kernel.descriptors.length;
    const expected = this.#base + this.#served.length + this.#thieves.length - acceptor.reserveMissing;
    if (open !== expected) this.fail(`${open} descriptors are open, ${expected} have an owner`);
    if (this.#served.length > maxConnections) this.fail(`${this.#served.length} are served`);
    if (acceptor.connections !== this.#served.length) this.fail(`${acceptor.connections} connections are counted`);
    if (policy === "wait" && this.#refused() > 0) this.fail("somebody was refused who was to wait");
    if (!this.#options.canResetQueue && acceptor.totals.queueResets > 0) this.fail("a queue was reset");
    if (!this.#isDisturbed && this.#limit() !== this.#soft) this.fail(`the limit is ${this.#limit()} now`);
    for (const client of this.#clients) this.#checkClient(client);
    this.#checkRate();
    // Armed, posted or paused: in every other state a client would wait for the next one.
    for (const [i, { isPaused }] of this.acceptors.entries()) {
      const interest = kernel.interestIn(this.#listeners[i]!);
      if (!isPaused && (interest & POLL.in) === 0) this.fail("the listener is neither watched nor paused");
      if (isPaused && (interest & POLL.in) !== 0) this.fail("the listener is watched though paused");
      if ((interest & EPOLL.et) !== (this.#options.trigger === "edge" ? EPOLL.et : 0)) this.fail("the trigger changed");
    }
  }

  /** Whoever is refused is told in the way that was asked for. */
  #checkClient({ state, text, error }: FakeClient): void {
    const { refuse, canResetQueue } = this.#options;
    if (text !== "" && text !== refuse) this.fail(`a client was told ${JSON.stringify(text)}`);
    // A reset that hides behind the end of the stream counts too: farther away it would have overtaken the rest.
    const isReset = state === "reset" || (state === "end" && error !== 0);
    if (isReset && refuse !== "rst" && !canResetQueue) this.fail("a client was reset");
  }

  #refused(): number {
    const { refused, shed, queueResets } = this.#first.totals;
    return refused + shed + queueResets;
  }

  /** One event when an episode starts and one when it ends, in turn. */
  #checkEvents(): void {
    const kinds = this.events.map(({ kind }) => kind).filter((kind) => kind !== "summary");
    const isInTurn = kinds.every((kind, i) => kind === (i % 2 === 0 ? "start" : "end"));
    if (!isInTurn || kinds.length % 2 !== 0) this.fail(`events came as ${kinds}`);
    if (kinds.length !== 2 * this.#first.totals.episodes) this.fail("an episode was not told");
  }

  /** Failing accepts a second are bounded, in every mode, for every errno. */
  #checkSpin(): void {
    const { kernel } = this;
    const names: ErrnoName[] = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "EPERM", "EINVAL", "EIO"];
    const failed = names.reduce((sum, name) => sum + kernel.count("accept4", name), 0);
    const seconds = Math.ceil((kernel.now - this.#startedAt) / 1000);
    const { accepted, shed } = this.#first.totals;
    const bound = 200 * seconds + accepted + shed + this.#released + this.#injected;
    if (failed > bound) this.fail(`${failed} accepts failed, at most ${bound} may`);
  }

  /**
   * Refusals a second are bounded, but for the one that may follow each release, in the search for who it makes room
   * for; and each listener tries one when it has stood back.
   */
  #checkRate(): void {
    const seconds = (this.kernel.now - this.#startedAt) / 1000;
    const { shedPerSecond, listeners } = this.#options;
    const bound = Math.floor(listeners * shedPerSecond * (1 + seconds)) + listeners + this.#released;
    if (refusedOneByOne(this.#first.totals) > bound) this.fail(`more than ${bound} clients were refused`);
  }

  /** Ends the run. */
  fail(what: string): never {
    throw new Error(`${what}\n${this.kernel.trace}`);
  }
}

/** Those who were reset with the whole queue apart. */
function refusedOneByOne({ refused, rateLimited, shedByReserve, shedBySlack }: Readonly<AcceptCounters>): number {
  return refused + rateLimited + shedByReserve + shedBySlack;
}

/** Plays `steps` in a world of its own; throws where an invariant does not hold. */
export function play(options: WorldOptions, steps: readonly Step[]): void {
  const world = new World(options);
  for (const step of steps) world.play(step);
  world.settle();
}
