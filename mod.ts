/**
 * Network servers straight on Linux epoll, for Deno, Bun and Node 26, that keep their promises when descriptors run out.
 *
 * {@linkcode serve} is what most people need. Below it, each usable by itself: {@linkcode EventLoop},
 * {@linkcode Acceptor}, {@linkcode Connection} and {@linkcode Poller}; and libc's functions in `./syscalls`.
 *
 * ```ts
 * import { serve } from "@spillway/epoll";
 *
 * const server = serve({
 *   port: 7007,
 *   data(connection, bytes) {
 *     connection.write(bytes);
 *   },
 * });
 * console.log(`listening on ${server.url}`);
 * ```
 *
 * Linux on x86-64 or aarch64 only: elsewhere the first use, not the import, throws {@linkcode UnavailableError}.
 *
 * @module
 */
export { SystemError } from "./ffi/errno.ts";
export { ResolveError, UnavailableError, type UnavailableReason } from "./ffi/host.ts";
export { Acceptor, type AcceptorHandlers, type AcceptorOptions } from "./src/acceptor.ts";
export type { AdmissionHandlers, AdmissionOptions } from "./src/admission.ts";
export { type Address, formatAddress, type TcpAddress, type UnixAddress } from "./src/address.ts";
export { AssertionError } from "./src/assert.ts";
export { type CloseReason, ConnectionError } from "./src/close_reason.ts";
export { type Chunk, Connection, type ConnectionState, type FinishOptions } from "./src/connection.ts";
export {
  type ConnectionHandlers,
  type ConnectionOptions,
  type ConnectionSettings,
  resolveConnection,
} from "./src/connection_options.ts";
export { type AbortSignalLike, connect, ConnectError, type ConnectOptions } from "./src/connector.ts";
export type { Connections } from "./src/connections.ts";
export { Coordinator, type Member } from "./src/coordinator.ts";
export type { AcceptCounters, LadderCounters } from "./src/counters.ts";
export type { DeadlineName, Expiring, TimeoutSettings } from "./src/deadlines.ts";
export { DelimiterFramer, type DelimiterOptions } from "./src/delimiter_framer.ts";
export { formatOverload, type OverloadCause, type OverloadEvent } from "./src/episode.ts";
export { FrameError, type FrameErrorCode, Framer, type OnFrame } from "./src/framer.ts";
export { HeaderFramer, type HeaderOptions } from "./src/header_framer.ts";
export type { IdleList, IdleNode } from "./src/idle_list.ts";
export { Interest, Readiness, type Trigger } from "./src/interest.ts";
export { LeakError, LeakWatch } from "./src/leak_watch.ts";
export type { Slack } from "./src/ladder.ts";
export { LengthPrefixFramer, type LengthPrefixOptions } from "./src/length_prefix_framer.ts";
export type { ListenerInfo } from "./src/listener.ts";
export { type Ending, EventLoop, type EventLoopOptions, type Flushing } from "./src/loop.ts";
export type { OverloadOptions, OverloadPolicy } from "./src/overload.ts";
export type { Outbox } from "./src/outbox.ts";
export { Poller, type Source } from "./src/poller.ts";
export { QueueBudget, type Queued } from "./src/queue_budget.ts";
export type { Refuse } from "./src/refusal.ts";
export type { Reserve } from "./src/reserve.ts";
export type { ReceiveBuffer } from "./src/receive_buffer.ts";
export type { Scratch } from "./src/scratch.ts";
export type { Sender } from "./src/sender.ts";
export { serve, Server, type ServerListenerOptions, type ServerOptions, type StopOptions } from "./src/server.ts";
export type { ListenerOptions, ServerListener } from "./src/server_listener.ts";
export { broadcast, SharedBytes } from "./src/shared_bytes.ts";
export { adoptListener, listenOn, type ListenOptions } from "./src/socket.ts";
export { Timer, type TimerNode } from "./src/timers.ts";
export type { Token } from "./src/token.ts";
export { RemoteWaker, Waker } from "./src/waker.ts";
export type { Piece, PiecePool, WriteQueue } from "./src/write_queue.ts";
