import { SHUT } from "../../../ffi/constants.ts";
import { ERRNO } from "../../../ffi/errno.ts";
import type { Watch } from "./open_file.ts";
import type { TcpEnd } from "./tcp_end.ts";

/**
 * What a client knows. `connecting`: the queue was full when it came; `queued`: connected, not accepted yet; `end`: it
 * read the end of the server's stream; `reset`: reading failed with ECONNRESET; `closed`: it went away itself;
 * `refused`: nobody listened; `timed out`: the queue stayed full.
 */
export type ClientState =
  | "connecting"
  | "queued"
  | "accepted"
  | "end"
  | "reset"
  | "closed"
  | "refused"
  | "timed out";

/** The far end of a connection. It reads what comes as it comes, unless it is paused. */
export class FakeClient implements Watch {
  readonly isExclusive = false;
  #end: TcpEnd | undefined;
  #state: ClientState = "connecting";
  #received: Uint8Array[] = [];
  #isPaused = false;

  /** What it knows; `accepted` is what only the server knows. */
  get state(): ClientState {
    if (this.#state === "queued" && this.#end!.peer.isAccepted) this.#state = "accepted";
    return this.#state;
  }

  /** All that it has read. */
  get received(): Uint8Array {
    return new Uint8Array(this.#received.flatMap((chunk) => [...chunk]));
  }

  /** {@linkcode received} as text. */
  get text(): string {
    return new TextDecoder().decode(this.received);
  }

  /**
   * SO_ERROR. A reset that came after the end of the stream hides here (EPIPE): reading still says end of stream, but
   * a client that was farther away might not have read all of it.
   */
  get error(): number {
    return this.#end?.error ?? 0;
  }

  /** What poll(2) would tell it. */
  get readiness(): number {
    return this.#end?.readiness ?? 0;
  }

  /** What has come, and was not read since it is paused. */
  get unreadBytes(): number {
    return this.#end?.unreadBytes ?? 0;
  }

  /** Its port, 0 before it is connected. */
  get port(): number {
    return this.#end?.local.port ?? 0;
  }

  /** Returns how many bytes were taken, or `-errno`. */
  send(data: Uint8Array | string): number {
    return this.#connected("send").send(typeof data === "string" ? new TextEncoder().encode(data) : data);
  }

  /** Ends its stream, and goes on reading: shutdown(2). */
  end(): number {
    return this.#connected("end its stream").shutdown(SHUT.wr);
  }

  /** Goes away: in good order, if it has read all there was. */
  close(): void {
    this.#leave(false);
  }

  /** Goes away with a reset. */
  reset(): void {
    this.#leave(true);
  }

  /** Stops reading. */
  pause(): void {
    this.#isPaused = true;
  }

  /** Reads what has come meanwhile, and goes on. */
  resume(): void {
    this.#isPaused = false;
    this.notify();
  }

  /** The kernel's part: its SYN was answered. */
  connect(end: TcpEnd): void {
    this.#end = end;
    this.#state = "queued";
    end.descriptors = 1;
    end.watches.add(this);
  }

  /** The kernel's part: it was not. */
  fail(state: "refused" | "timed out"): void {
    if (this.#state === "connecting") this.#state = state;
  }

  notify(): boolean {
    void this.state;
    while (!this.#isPaused && (this.#state === "queued" || this.#state === "accepted")) {
      const bytes = this.#end!.recv(Infinity, 0);
      if (typeof bytes !== "number") this.#received.push(bytes);
      else if (bytes === -ERRNO.EAGAIN[0]) break;
      else this.#state = bytes === 0 ? "end" : "reset";
    }
    return false;
  }

  #leave(isAbortive: boolean): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    const end = this.#end;
    if (end === undefined) return;
    end.watches.delete(this);
    end.descriptors = 0;
    end.resetsOnClose = isAbortive;
    end.release();
  }

  #connected(what: string): TcpEnd {
    if (this.#end === undefined || this.#state === "closed") {
      throw new Error(`Cannot ${what} as a client that is ${this.#state}`);
    }
    return this.#end;
  }
}
