import { assert } from "./assert.ts";

/** Events taken from the kernel by one epoll_wait(2). */
export const EVENTS_PER_WAIT: number = 512;

/** Size of the receive buffer that all connections of a loop share. */
export const RECEIVE_BUFFER_BYTES: number = 64 * 1024;

/** Views of it that are kept: how many lengths of small messages may come in turn before one is made again. */
export const RECEIVE_VIEWS: number = 256;

/** Bytes read from one connection before the loop turns to the next. */
export const READ_BUDGET_BYTES: number = 256 * 1024;

/** Bytes sent from one connection's queue before the loop turns to the next. */
export const WRITE_BUDGET_BYTES: number = 1024 * 1024;

/** Calls of accept4(2) before the loop goes on. */
export const ACCEPT_BUDGET: number = 64;

/**
 * Failing calls of accept4(2) in a row that make a listener pause, whatever the errno. Few: as a pause backs off there
 * are up to seven in a second, and each call may be made twice, to confirm an errno.
 */
export const ACCEPT_FAILURES: number = 8;

/** How long `run()` takes turns before it gives the thread to the runtime: longer saves little, and delays its timers. */
export const SLICE_MS: number = 2;

/** How long a loop blocks the thread for the next event before it parks, where they come that fast. */
export const WAIT_MS: number = 1;

/** Longest that a loop may be told to look for events again and again: far beyond what it costs to be woken. */
export const SPIN_MAX_MS: number = 10;

/** Longest that a loop may be told to block its thread for the next event: beyond that the thread is better its own. */
export const WAIT_MAX_MS: number = 100;

/** Longest single wait of `runBlocking()`: a thread blocked in the kernel can be neither terminated nor interrupted. */
export const BLOCKING_WAIT_MS: number = 5_000;

/** How often silent edge-triggered sources are re-armed, in case the errno that silenced them was misread. */
export const REARM_INTERVAL_MS: number = 30_000;

/** Sources re-armed before the loop goes on. */
export const REARM_BUDGET: number = 256;

/** First and last pause of a listener that cannot accept. */
export const PAUSE_MIN_MS: number = 10;
/** See {@linkcode PAUSE_MIN_MS}. */
export const PAUSE_MAX_MS: number = 1_000;

/**
 * First pause where the system's table is full: other processes may take any slot that we free. Also before a listener
 * that epoll_ctl(2) has no room for is tried again.
 */
export const PAUSE_SYSTEM_MIN_MS: number = 100;

/** Turns that may refuse somebody and then wait for the next one at once; above that, they pause in between. */
export const REFUSING_TURNS_PER_SECOND: number = 100;

/** Shortest pause where the budget of refusals, or of turns that refuse, is spent. */
export const PAUSE_RATE_MS: number = 25;

/** Before a loop that found another one refusing clients looks again. */
export const LOCK_RETRY_MS: number = 1;

/** Longest farewell: a new connection's send buffer takes it whole, in one call that does not wait. */
export const FAREWELL_MAX_BYTES: number = 16 * 1024;

/** Finished handshakes that the kernel queues ahead of us; net.core.somaxconn caps it. */
export const BACKLOG: number = 511;

/**
 * How long an attempt to connect may take. The kernel repeats a SYN that is lost after 1, 3 and 7 s, so three losses in a
 * row are survived; by itself it gives up after two minutes.
 */
export const CONNECT_TIMEOUT_MS: number = 10_000;

/** From one address to the next. RFC 8305, section 8: 250 recommended, at least 10. */
export const ATTEMPT_DELAY_MS: number = 250;
/** See {@linkcode ATTEMPT_DELAY_MS}. */
export const ATTEMPT_DELAY_MIN_MS: number = 10;

/** First and last pause before a Unix listener whose queue is full is asked again: the kernel does not tell when it is not. */
export const CONNECT_RETRY_MIN_MS: number = 1;
/** See {@linkcode CONNECT_RETRY_MIN_MS}. */
export const CONNECT_RETRY_MAX_MS: number = 64;

/** Queued bytes of one connection at which `write` says false. */
export const HIGH_WATER_BYTES: number = 1024 * 1024;

/**
 * Block of a write queue, in which small writes are gathered. Small, as each connection that is written to in a turn
 * holds one until the turn ends.
 */
export const QUEUE_BLOCK_BYTES: number = 4 * 1024;

/** Chunks from this size on are offered to the kernel at once, without a copy. */
export const DIRECT_WRITE_BYTES: number = 4 * 1024;

/** Texts up to this many characters are looked at one by one, in case they are ASCII. */
export const SHORT_TEXT_CHARACTERS: number = 128;

/** Gathered bytes that are offered to the kernel before the turn ends. */
export const GATHER_MAX_BYTES: number = 64 * 1024;

/** From this size on a piece is sent by itself: to have the kernel find several takes longer than another call. */
export const ALONE_BYTES: number = 16 * 1024;

/** Pieces offered to the kernel in one call. */
export const VECTOR_PIECES: number = 64;

/** Blocks, and pieces without memory of their own, that a loop keeps for later. */
export const FREE_BLOCKS_MAX: number = 256;
/** See {@linkcode FREE_BLOCKS_MAX}. */
export const FREE_PIECES_MAX: number = 4_096;

/** Outboxes that a loop keeps for later: as many as connections that something is held back of in a turn. */
export const FREE_OUTBOXES_MAX: number = 4_096;

/** How long `finish` waits for the peer to have everything, once it is sent. */
export const FINISH_MS: number = 5_000;

/** First look at whether the peer has everything; each later one waits twice as long. */
export const FINISH_CHECK_MS: number = 5;

/** Shortest wait of a connection that has used up its rate. */
export const THROTTLE_MS: number = 10;

/** How long a connection waits that the kernel has no memory to send for: nothing tells when there is some. */
export const NO_MEMORY_MS: number = 10;

/** Smallest buffer of a framer, and the largest that it keeps while it holds nothing: each connection has one. */
export const FRAMER_MIN_BYTES: number = 256;
/** See {@linkcode FRAMER_MIN_BYTES}. */
export const FRAMER_KEPT_BYTES: number = 4 * 1024;

/** Smallest and largest headroom chosen by default. */
export const HEADROOM_MIN: number = 2;
/** See {@linkcode HEADROOM_MIN}. */
export const HEADROOM_MAX: number = 32;

/** Longest timer: what a runtime's own timers and epoll_wait(2) take. */
export const TIMER_MAX_MS: number = 2 ** 31 - 1;

assert(READ_BUDGET_BYTES % RECEIVE_BUFFER_BYTES === 0, "the read budget is whole receive buffers");
assert(DIRECT_WRITE_BYTES <= QUEUE_BLOCK_BYTES, "a chunk that is gathered fits into a block");
assert(SHORT_TEXT_CHARACTERS <= QUEUE_BLOCK_BYTES, "a short text fits into a block");
assert(QUEUE_BLOCK_BYTES <= GATHER_MAX_BYTES, "a block is gathered before it is sent");
assert(ACCEPT_FAILURES < ACCEPT_BUDGET, "a turn has room for failures");
assert(PAUSE_MIN_MS <= PAUSE_MAX_MS, "a pause backs off upwards");
assert(ATTEMPT_DELAY_MIN_MS <= ATTEMPT_DELAY_MS, "the delay between attempts is one that RFC 8305 allows");
assert(CONNECT_RETRY_MIN_MS <= CONNECT_RETRY_MAX_MS, "a retry backs off upwards");
assert(FRAMER_MIN_BYTES <= FRAMER_KEPT_BYTES, "a framer keeps its smallest buffer");
assert(HEADROOM_MIN <= HEADROOM_MAX, "the headroom's bounds are in order");
