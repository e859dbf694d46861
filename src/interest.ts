import { EPOLL } from "../ffi/constants.ts";

/** When the kernel reports readiness: for as long as it lasts, or once each time it begins. Source: epoll(7). */
export type Trigger = "level" | "edge";

/**
 * What to wait for, as bits to be or-ed. Errors and hang-ups are always reported, asked for or not.
 *
 * `exclusive` wakes one of several threads that wait for the same listener, and only threads inside epoll_wait(2):
 * with `runBlocking()`, not with `run()`, whose waiting is done by poll(2). Source: epoll_ctl(2).
 */
export const Interest = {
  /** Nothing but errors and hang-ups. */
  none: 0,
  /** Bytes, a connection to accept, or the end of the peer's stream. */
  readable: EPOLL.in | EPOLL.rdhup,
  /** A connection to accept: as `readable`, without the half-close that EPOLLEXCLUSIVE forbids. */
  acceptable: EPOLL.in,
  /** Urgent bytes of TCP, which part the stream: a read stops before them, however much there is behind. */
  urgent: EPOLL.pri,
  /** Room to send. */
  writable: EPOLL.out,
  /** Edge-triggered instead of level-triggered. */
  edge: EPOLL.et,
  /** Reported once, then not until `modify`. */
  oneshot: EPOLL.oneshot,
  /** See above. */
  exclusive: EPOLL.exclusive,
} as const;

/** What the kernel reported, as bits. */
export const Readiness = {
  /** There is something to read or to accept. */
  readable: EPOLL.in,
  /** There are urgent bytes that the reads have not passed yet. */
  urgent: EPOLL.pri,
  /** There is room to send. */
  writable: EPOLL.out,
  /** The peer has ended its stream; what it sent before is still to be read. */
  readEnded: EPOLL.rdhup,
  /** Both directions are over, or there is an error: the next read or write tells. */
  hungUp: EPOLL.err | EPOLL.hup,
} as const;
