/**
 * Why a connection is over.
 *
 * - `"end"`: both streams ended, in good order.
 * - `"close"`: our side called `close`, or `finish`.
 * - `"abort"`: our side called `abort`.
 * - `"reset"`: the peer, or the network, broke it off; the error is a `SystemError`.
 * - `"timeout"`: one of its timeouts has passed.
 * - `"slow reader"`: the peer read too slowly for `maxQueuedBytes`, `slowReaderMs` or the loop's `maxQueuedBytes`.
 * - `"handler error"`: a handler of it threw, or its promise was rejected.
 * - `"stop"`: its server was stopped.
 * - `"overload"`: its descriptor was needed for somebody else, after it had long been idle.
 * - `"failure"`: the kernel refused to watch it any more; the error is a `SystemError`.
 */
export type CloseReason =
  | "end"
  | "close"
  | "abort"
  | "reset"
  | "timeout"
  | "slow reader"
  | "handler error"
  | "stop"
  | "overload"
  | "failure";

/** That a connection was ended by a limit of ours: the text names the limit and what would cure it. */
export class ConnectionError extends Error {
  /** What the `close` handler is told as well. */
  readonly reason: CloseReason;

  /** `message` is a whole sentence. */
  constructor(reason: CloseReason, message: string) {
    super(message);
    this.name = "ConnectionError";
    this.reason = reason;
  }
}
