/**
 * The clients of a measured server: some established, which ping it steadily, and a flood. All in the measuring process,
 * through Spillway's own system calls, since a runtime's sockets tell neither a reset from an end of stream nor when.
 */
import { setImmediate } from "node:timers/promises";
import { AF, MSG, SO, SOCK, SOL } from "../../ffi/constants.ts";
import { ERRNO, expectValue, SystemError } from "../../ffi/errno.ts";
import { decodeInt, encodeInt, encodeLinger, encodeSockaddr } from "../../ffi/layout.ts";
import * as sys from "../../ffi/syscalls.ts";
import { Interest } from "../../src/interest.ts";
import { Poller, type Source } from "../../src/poller.ts";
import type { Token } from "../../src/token.ts";

/**
 * How a client learned what becomes of it. `hanging`: not at all. `refused`: by the kernel, because nobody listens.
 * `cut`: it was answered once, and then its connection was ended.
 */
export type Outcome = "hanging" | "answered" | "fin" | "rst" | "farewell" | "refused" | "cut";

/** What a client sends, and expects back. */
const PING = new TextEncoder().encode("ping");
const LINGER_NONE = encodeLinger(true, 0);
/** Refused clients that connect again before the established ones are looked at again. */
const RECONNECTS_PER_TURN = 8;
/** How often the runtime gets the thread, for what servers print. */
const YIELD_MS = 20;

const received = new Uint8Array(new ArrayBuffer(4096));

/** One connection. Sends a ping as soon as it can. */
export class Client implements Source {
  outcome: Outcome = "hanging";
  /** From the call of connect(2) until the outcome was known. */
  learnedAfterMs = NaN;
  /** When the next ping is due; established clients only. */
  dueAtMs = Infinity;
  readonly #clients: Clients;
  readonly #fd: number;
  readonly #token: Token;
  readonly #startedAtMs = performance.now();
  #isConnected = false;
  #isClosed = false;
  /** Bytes of the answer that are missing; 0: no ping is under way. */
  #missing = PING.byteLength;
  #pingedAtMs = 0;
  #hasFarewell = false;

  constructor(clients: Clients, sockaddr: Uint8Array) {
    this.#clients = clients;
    this.#fd = expectValue(
      sys.socket(AF.inet, SOCK.stream | SOCK.nonblock | SOCK.cloexec, 0),
      "make a client",
      "socket",
    );
    const result = sys.connect(this.#fd, sockaddr);
    if (result !== -ERRNO.EINPROGRESS[0]) expectValue(result, "connect a client", "connect");
    const token = clients.poller.add(this.#fd, Interest.readable | Interest.writable | Interest.edge, this);
    if (typeof token === "number") throw new SystemError("watch a client", "epoll_ctl", -token);
    this.#token = token;
  }

  /** Whether it is neither answered nor waiting. */
  get isRefused(): boolean {
    return this.outcome !== "hanging" && this.outcome !== "answered";
  }

  onReady(): void {
    if (!this.#isConnected) {
      const error = encodeInt(0);
      sys.getsockopt(this.#fd, SOL.socket, SO.error, error);
      if (decodeInt(error) !== 0) return this.#learn(decodeInt(error) === ERRNO.ECONNREFUSED[0] ? "refused" : "rst");
      this.#isConnected = true;
      this.#send();
    }
    while (!this.isRefused) {
      const count = sys.recv(this.#fd, received);
      if (count === -ERRNO.EAGAIN[0]) return;
      if (count > 0) this.#take(count);
      else {this.#learn(
          this.#hasFarewell ? "farewell" : this.outcome === "answered" ? "cut" : count < 0 ? "rst" : "fin",
        );}
    }
  }

  /** Sends a ping if one is due and none is under way. */
  pingIfDue(nowMs: number): void {
    if (nowMs < this.dueAtMs || this.#missing > 0 || this.isRefused) return;
    this.#ping(nowMs);
  }

  /** Closes its socket; in good order unless the server has ended the connection already: then nothing of it remains. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#clients.poller.remove(this.#token);
    if (this.isRefused) sys.setsockopt(this.#fd, SOL.socket, SO.linger, LINGER_NONE);
    sys.close(this.#fd);
  }

  /** `fromMs`: when it was due; later than that only by the client's own fault. */
  #ping(fromMs: number): void {
    this.#pingedAtMs = fromMs;
    this.#missing = PING.byteLength;
    this.dueAtMs = fromMs + this.#clients.pingEveryMs;
    this.#send();
  }

  #send(): void {
    if (sys.send(this.#fd, PING, MSG.nosignal) < 0) return; // recv tells why
  }

  #take(count: number): void {
    if (received[0] !== PING[0]) {
      this.#hasFarewell = true;
      return;
    }
    this.#missing -= count;
    if (this.#missing > 0) return;
    if (this.outcome === "hanging") return this.#learn("answered");
    const now = performance.now();
    this.#clients.latenciesMs.push(now - this.#pingedAtMs);
    // The next one was due while this one was under way: the wait for that is the server's fault.
    if (now >= this.dueAtMs) this.#ping(this.dueAtMs);
  }

  #learn(outcome: Outcome): void {
    this.outcome = outcome;
    if (outcome !== "cut") this.learnedAfterMs = performance.now() - this.#startedAtMs;
    this.#clients.learned(this);
  }
}

/** All clients of one server. Nothing happens but in `until` and `during`. */
export class Clients {
  readonly poller: Poller = new Poller();
  /** How often each established client sends a ping. May be changed. */
  pingEveryMs: number;
  /** From ping to answer, for each ping of an established client; emptied by whoever wants to begin anew. */
  latenciesMs: number[] = [];
  /** Those that ping. */
  readonly established: Client[] = [];
  /** Those of the flood. */
  flood: Client[] = [];
  /** Whether those of the flood that are refused connect again, at once. */
  isStorm = false;
  /** How often they did. */
  reconnects = 0;
  /** When one of them last learned anything. */
  learnedAtMs = 0;
  readonly #sockaddr: Uint8Array;
  readonly #isAlive: () => boolean;
  #refused: Client[] = [];
  #yieldAtMs = 0;

  /** `isAlive`: waiting is over when the server is gone. */
  constructor(port: number, pingEveryMs: number, isAlive: () => boolean) {
    this.#sockaddr = encodeSockaddr({ family: "inet", address: new Uint8Array([127, 0, 0, 1]), port });
    this.pingEveryMs = pingEveryMs;
    this.#isAlive = isAlive;
  }

  connect(): Client {
    return new Client(this, this.#sockaddr);
  }

  /** Makes an answered client one that pings. */
  establish(client: Client): void {
    client.dueAtMs = performance.now() + Math.random() * this.pingEveryMs;
    this.established.push(client);
  }

  /** For clients. */
  learned(client: Client): void {
    this.learnedAtMs = performance.now();
    if (this.isStorm && client.isRefused) this.#refused.push(client);
  }

  /** Lets clients go on until `condition`, the server's death, or `timeoutMs`. Returns whether the condition holds. */
  async until(condition: () => boolean, timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs;
    while (!condition()) {
      const now = performance.now();
      if (now >= deadline || !this.#isAlive()) return false;
      if (now >= this.#yieldAtMs) {
        await setImmediate();
        this.#yieldAtMs = performance.now() + YIELD_MS;
      }
      this.#turn(now);
    }
    return true;
  }

  /** Lets clients go on for a while. */
  async during(ms: number): Promise<void> {
    await this.until(() => false, ms);
  }

  /** Closes those of the flood. */
  leave(): void {
    for (const client of this.flood) client.close();
    this.flood = [];
    this.#refused = [];
  }

  [Symbol.dispose](): void {
    this.leave();
    for (const client of this.established) client.close();
    this.poller.close();
  }

  #turn(now: number): void {
    for (const client of this.established) client.pingIfDue(now);
    for (const client of this.#refused.splice(0, RECONNECTS_PER_TURN)) {
      client.close();
      this.flood[this.flood.indexOf(client)] = this.connect();
      this.reconnects++;
    }
    this.poller.wait(this.#refused.length > 0 ? 0 : 1);
    let failure: unknown;
    this.poller.dispatch((error) => failure ??= error);
    if (failure !== undefined) throw failure;
  }
}
