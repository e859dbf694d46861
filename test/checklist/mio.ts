/** mio's tests of readiness and registration, as a checklist. Written from what they do, in our own words. */
import type { Checklist } from "./checklist.ts";

const TYPES = "A property of types in Rust, which its compiler checks";
const OF_THE_TYPE = "Whether the type may be shared between threads.";
const OPTIONS = [
  "syscalls_sockets: setsockopt() sets what getsockopt() then reads",
  "syscalls_sockets: getsockopt() returns how many bytes it filled in",
];
const OTHER_THREADS =
  "A poller and its sources belong to one thread; what comes from another one comes by a waker: RemoteWaker";
const ADDED_AGAIN =
  "poller_registration: what became ready between remove() and another add() is told to the new source alone";
const IDLE = "poller_registration: an idle descriptor is not told of, however often it is added and removed";
const CHANGED =
  "poller_registration: tells of a client what became ready, changed to writable, removed: one event each, then none";
const CLOSED_PEER =
  "connection_peers: close() from a timer ends the stream of a silent peer, and nothing but close is told";
const GENERATION = "poller: Poller.remove() and modify() throw RangeError for a token whose source was removed";
const OWN_SHUTDOWN =
  "poller_registration: shutdown(2) of %s of our own socket is told as the kernel sees it, over TCP and Unix";
const READ_ON = "poller_registration: a source that has read until EAGAIN is told again of what arrives after it";
const PEEKED = "poller_registration: a source that only looked at its bytes is told of those that arrive after them";
const HALF_CLOSE = "poller: Poller.add() tells a half-close apart: readEnded";

/** At a commit of its main branch; under the MIT licence. Its sources are edge-triggered. */
export const MIO: Checklist = {
  source: "https://github.com/tokio-rs/mio",
  commit: "7654f571f2474a1774a4f6e1004a4c17c50f64c7",
  files: {
    "close_on_drop.rs": [
      {
        test: "close_on_drop",
        behaviour: "The peer of a socket that was closed while it was watched reads end of stream.",
        shownBy: [CLOSED_PEER],
      },
    ],
    "events.rs": [
      { test: "assert_event_source_implemented_for", behaviour: "A boxed source is a source.", because: TYPES },
      {
        test: "events_all",
        behaviour: "A wake is an event of its source, and the batch can be used again.",
        shownBy: [
          "waker: Waker.wake() ends a wait and has onWake called",
          "waker: a wake that comes while onWake runs is not lost",
        ],
      },
      { test: "is_event_send_sync", behaviour: OF_THE_TYPE, because: TYPES },
    ],
    "interest.rs": [
      {
        test: "is_tests",
        behaviour: "An interest knows what it includes.",
        because: "Interest is the kernel's bits, as plain numbers; that they are the right ones is shown by c_headers.",
      },
      {
        test: "bit_or",
        behaviour: "Interests are combined by or.",
        shownBy: ["poller: Poller.add() watches a descriptor, and its source is told what is ready"],
      },
      {
        test: "fmt_debug",
        behaviour: "An interest is printed by the names of its bits.",
        because: "They are numbers.",
      },
      { test: "add", behaviour: "An interest is added to another.", because: "They are numbers, combined by or." },
    ],
    "poll.rs": [
      { test: "is_send_and_sync", behaviour: OF_THE_TYPE, because: TYPES },
      {
        test: "run_once_with_nothing",
        behaviour: "A wait with nothing to tell ends after its time.",
        shownBy: ["loop: EventLoop.turn() returns whether anything happened"],
      },
      {
        test: "add_then_drop",
        behaviour: "A descriptor that was closed without being removed does a wait no harm.",
        shownBy: [
          "poller_registration: a descriptor that was closed without remove() is told no more, and its number may be added again",
          "poller: Poller.remove() takes a descriptor that was closed behind its back",
        ],
      },
      {
        test: "zero_duration_polls_events",
        behaviour: "A wait of no time tells what is ready.",
        shownBy: ["poller: Poller reports a level-triggered source for as long as it is ready"],
      },
      {
        test: "poll_closes_fd",
        behaviour: "Thousands of pollers, one after the other, leave no descriptor.",
        shownBy: ["poller_registration: 2,000 pollers, one after the other, leave no descriptor"],
      },
      {
        test: "readiness_is_reregistered_after_would_block",
        behaviour: "Read until EAGAIN, a source is quiet, and is told again of what arrives then.",
        shownBy: [READ_ON],
      },
      {
        test: "drop_cancels_interest_and_shuts_down",
        behaviour: "Closing a watched connection ends its stream at the peer.",
        shownBy: [CLOSED_PEER],
      },
      { test: "registry_behind_arc", behaviour: "Sources are added from several threads.", because: OTHER_THREADS },
      {
        test: "registry_operations_are_thread_safe",
        behaviour: "Sources are added, changed and removed in several threads at once.",
        because: OTHER_THREADS,
      },
      {
        test: "register_during_poll",
        behaviour: "A source that is added in another thread during a wait ends it.",
        because: OTHER_THREADS,
      },
      {
        test: "reregister_interest_token_usage",
        behaviour: "A change replaces what was waited for, any number of times.",
        shownBy: ["poller: Poller.modify() changes what is waited for"],
      },
      {
        test: "double_register_different_token",
        behaviour: "A descriptor that is watched cannot be added again.",
        shownBy: [
          "poller_registration: a second source for one descriptor is refused until the first is removed, and the first goes on",
        ],
      },
      {
        test: "poll_ok_after_cancelling_pending_ops",
        behaviour: "A listener that was changed after a wait is told of a client that comes after it.",
        shownBy: ["poller_registration: what became ready before modify() is told only if it is still waited for"],
      },
      {
        test: "reregister_without_register",
        behaviour: "What is not watched cannot be changed.",
        shownBy: [GENERATION],
      },
      {
        test: "deregister_without_register",
        behaviour: "What is not watched cannot be removed.",
        shownBy: [GENERATION],
      },
      {
        test: "poll_registration",
        behaviour: "A source of the user's own does its registering itself, called once for each operation.",
        because: "A source here is who is told; the poller registers its descriptor.",
      },
      {
        test: "poll_erroneous_registration",
        behaviour: "Why a source cannot be added or changed is reported.",
        shownBy: [
          "poller: Poller.add() returns -errno for what cannot be watched, and keeps nothing of it",
          "poller: Poller.modify() throws SystemError where the kernel refuses, and the count is as before",
        ],
      },
    ],
    "registering.rs": [
      {
        test: "register_deregister",
        behaviour: "Readable, then changed to writable, then removed: one event each, then none.",
        shownBy: [CHANGED],
      },
      {
        test: "reregister_different_interest_without_poll",
        behaviour: "What became ready before a change is not told if it is not waited for after it.",
        shownBy: ["poller_registration: what became ready before modify() is told only if it is still waited for"],
      },
      {
        test: "tcp_register_multiple_event_loops",
        behaviour: "A socket in two event loops. (mio refuses it; here threads share listeners so, and each is told.)",
        shownBy: ["poller_registration: two pollers may watch one descriptor, and each is told"],
      },
      {
        test: "udp_register_multiple_event_loops",
        behaviour: "The same with a UDP socket.",
        shownBy: ["poller_registration: two pollers may watch one descriptor, and each is told"],
      },
      {
        test: "registering_after_deregistering",
        behaviour: "What was removed can be added again, and is quiet until something is ready.",
        shownBy: [IDLE, ADDED_AGAIN],
      },
    ],
    "regressions.rs": [
      {
        test: "issue_776",
        behaviour: "Closing a watched connection ends its stream at the peer.",
        shownBy: [CLOSED_PEER],
      },
      {
        test: "issue_1205",
        behaviour: "A removed listener is not told beside a waker that is.",
        shownBy: [
          "waker: Waker.wake() ends a wait and has onWake called",
          "poller: Poller.remove() stops watching",
          CHANGED,
        ],
      },
      {
        test: "issue_1403",
        behaviour: "The address of an unnamed Unix datagram socket.",
        shownBy: ["address: decodeAddress() gives an unnamed Unix peer an empty path"],
      },
    ],
    "tcp.rs": [
      { test: "assert_size", behaviour: "A socket is as large as its descriptor.", because: TYPES },
      { test: "is_send_and_sync", behaviour: OF_THE_TYPE, because: TYPES },
      {
        test: "accept",
        behaviour: "A listener is told of a client; the next accept says that there is no other.",
        shownBy: ["poller_registration: a listener is told of each client, one after the other"],
      },
      {
        test: "read",
        behaviour: "Megabytes are read as they come.",
        shownBy: ["echo: 200 clients at once get back 1 MiB each, sent in random pieces"],
      },
      {
        test: "peek",
        behaviour: "Bytes may be looked at before they are read.",
        shownBy: ["syscalls_transfer: recv() with MSG_PEEK leaves the bytes where they are", PEEKED],
      },
      {
        test: "write",
        behaviour: "Megabytes are written as there is room.",
        shownBy: ["connection: write() takes all of it: what the kernel does not take is copied and sent in order"],
      },
      {
        test: "connect_then_close",
        behaviour: "A client whose connection is closed as soon as it was accepted learns of it.",
        shownBy: [CLOSED_PEER, "connection: closes from inside %s"],
      },
      {
        test: "listen_then_close",
        behaviour: "A listener that was closed is told of no client.",
        shownBy: [CHANGED, "acceptor: close() from inside onAccept ends accepting at once"],
      },
      {
        test: "bind_twice_bad",
        behaviour: "Two listeners cannot have one port.",
        shownBy: ["socket: listenOn() says in words that an address is in use, and code is EADDRINUSE"],
      },
      {
        test: "multiple_writes_immediate_success",
        behaviour: "Several writes one after the other arrive whole.",
        shownBy: [
          "connection_peers: close() right after many small writes: the peer gets every one, then the end of the stream",
        ],
      },
      {
        test: "connection_reset_by_peer",
        behaviour: "A reset that came before the socket was watched is told.",
        shownBy: [
          "connection_peers: a peer that has reset before the connection is watched: it closes with ECONNRESET",
          "poller_registration: a reset is told as an error and hungUp, also where it came before the socket was added",
        ],
      },
      {
        test: "write_error",
        behaviour: "Who goes on writing to a peer that has closed learns of it.",
        shownBy: [
          "connection_peers: writing on and on to a peer that has closed ends the connection with EPIPE or ECONNRESET",
        ],
      },
      {
        test: "write_shutdown",
        behaviour: "The end of the peer's stream is told as such, and nothing before it.",
        shownBy: [HALF_CLOSE],
      },
      {
        test: "local_addr_ready",
        behaviour: "Both addresses are known as soon as there is a connection.",
        shownBy: [
          "connection: remoteAddress and localAddress are known after the end if they were asked for before",
          "socket: listenOn() listens on a port of %s that the kernel chose",
        ],
      },
      {
        test: "write_then_drop",
        behaviour: "What was written right before a close arrives.",
        shownBy: [
          "connection_peers: close() right after many small writes: the peer gets every one, then the end of the stream",
        ],
      },
      {
        test: "write_then_deregister",
        behaviour: "What was written right before the source was removed arrives.",
        shownBy: ["poller_registration: what was written before remove() arrives"],
      },
      {
        test: "tcp_no_events_after_deregister",
        behaviour: "A listener and a client that were removed are told no more.",
        shownBy: [CHANGED],
      },
      {
        test: "connect",
        behaviour: "A client is told that it is connected, then of its peer's end.",
        shownBy: [
          "connector: over TCP, %s-triggered: open once, then the bytes of both",
          "connector: loses nothing that was sent before the connection was looked at",
        ],
      },
      {
        test: "connect_error",
        behaviour: "A refused connection is told, and why is known.",
        shownBy: [
          "connector: to a port that nobody listens on rejects with ECONNREFUSED",
          "connector: where SO_ERROR is %s rejects with it",
        ],
      },
    ],
    "tcp_listener.rs": [
      { test: "is_send_and_sync", behaviour: OF_THE_TYPE, because: TYPES },
      {
        test: "tcp_listener",
        behaviour: "A listener does not block, is not inherited, accepts a client and knows both addresses.",
        shownBy: [
          "socket: listenOn() makes listeners that do not block, and that children do not inherit",
          "socket: listenOn() listens on a port of %s that the kernel chose",
        ],
      },
      {
        test: "tcp_listener_ipv6",
        behaviour: "The same over IPv6.",
        shownBy: [
          "socket: listenOn() listens on a port of %s that the kernel chose",
          "server: listens on IPv6, and on localhost",
        ],
      },
      {
        test: "tcp_listener_std",
        behaviour: "A listener that others made may be taken over.",
        shownBy: ["socket: adoptListener() makes a listener non-blocking, and not inherited by children"],
      },
      { test: "set_get_ttl", behaviour: "A socket option is read as it was set.", shownBy: OPTIONS },
      {
        test: "get_ttl_without_previous_set",
        behaviour: "A socket option has a value before it is set.",
        shownBy: OPTIONS,
      },
      {
        test: "raw_fd",
        behaviour: "A listener becomes a descriptor and is made from one.",
        shownBy: ["server: adopts a listening descriptor, and refuses one that does not listen"],
      },
      { test: "registering", behaviour: "A listener without clients is quiet.", shownBy: [IDLE] },
      {
        test: "reregister",
        behaviour: "A listener that was changed before its client came is told of it.",
        shownBy: ["poller_registration: what became ready before modify() is told only if it is still waited for"],
      },
      {
        test: "no_events_after_deregister",
        behaviour: "A listener that was removed is quiet, and still accepts.",
        shownBy: [CHANGED, ADDED_AGAIN],
      },
      {
        test: "tcp_listener_two_streams",
        behaviour: "A listener is told of a second client as it was of the first.",
        shownBy: ["poller_registration: a listener is told of each client, one after the other"],
      },
    ],
    "tcp_stream.rs": [
      { test: "is_send_and_sync", behaviour: OF_THE_TYPE, because: TYPES },
      { test: "set_get_ttl", behaviour: "A socket option is read as it was set.", shownBy: OPTIONS },
      {
        test: "get_ttl_without_previous_set",
        behaviour: "A socket option has a value before it is set.",
        shownBy: OPTIONS,
      },
      {
        test: "set_get_nodelay",
        behaviour: "TCP_NODELAY is read as it was set.",
        shownBy: ["socket: listenOn() has TCP_NODELAY inherited by what it accepts"],
      },
      {
        test: "get_nodelay_without_previous_set",
        behaviour: "TCP_NODELAY has a value before it is set.",
        shownBy: ["socket: listenOn() has TCP_NODELAY inherited by what it accepts"],
      },
      {
        test: "shutdown_read",
        behaviour: "Our own reading half is ended while bytes wait in it.",
        shownBy: [OWN_SHUTDOWN],
      },
      {
        test: "shutdown_write",
        behaviour: "After our end nothing can be written, and the peer's answer can still be read.",
        shownBy: [
          "connection: end() sends what is queued, then the peer reads end of stream and may go on",
          "connection: write() after close() or end(), and of nothing, changes nothing",
        ],
      },
      { test: "shutdown_both", behaviour: "After both ends nothing can be written.", shownBy: [OWN_SHUTDOWN] },
      {
        test: "raw_fd",
        behaviour: "A stream becomes a descriptor and is made from one.",
        shownBy: [
          "connection_peers: a descriptor number that is another connection's within the same batch: the new one is told nothing",
        ],
      },
      { test: "registering", behaviour: "An idle stream is quiet where only bytes are waited for.", shownBy: [IDLE] },
      {
        test: "reregistering",
        behaviour: "Changed from readable to writable, a stream is told of that.",
        shownBy: ["poller: Poller.modify() changes what is waited for"],
      },
      {
        test: "no_events_after_deregister",
        behaviour: "A stream that was removed is quiet, whatever is sent.",
        shownBy: [
          "poller: Poller.remove() stops watching",
          "poller_registration: what was written before remove() arrives",
        ],
      },
      {
        test: "tcp_shutdown_client_read_close_event",
        behaviour: "Ending our own reading half is told as the end of reading.",
        shownBy: [OWN_SHUTDOWN],
      },
      {
        test: "tcp_shutdown_client_write_close_event",
        behaviour: "Ending our own writing half is told as the end of writing. (Linux tells nothing new.)",
        shownBy: [OWN_SHUTDOWN],
      },
      {
        test: "tcp_shutdown_server_write_close_event",
        behaviour: "The end of the peer's writing half is told as the end of reading.",
        shownBy: [HALF_CLOSE],
      },
      {
        test: "tcp_reset_close_event",
        behaviour: "A peer that closes with unread bytes is told of as both an end and a hang-up, once.",
        shownBy: [
          "poller_registration: a reset is told as an error and hungUp, also where it came before the socket was added",
        ],
      },
      {
        test: "tcp_shutdown_client_both_close_event",
        behaviour: "Ending both of our halves is told as a hang-up.",
        shownBy: [OWN_SHUTDOWN],
      },
      {
        test: "hup_event_on_disconnect",
        behaviour: "A hang-up is told though it was not asked for.",
        shownBy: [
          "poller: Poller.add() watches for errors and hang-ups, asked for or not",
          "poller_registration: an orderly end, ours and the peer's, is told as hungUp beside readEnded",
        ],
      },
      {
        test: "priority_event_on_oob_data",
        behaviour: "Urgent data may be waited for by itself, as EPOLLPRI.",
        because: "Interest has no urgent data: RFC 6093 advises new protocols against it.",
      },
      { test: "peek_ok", behaviour: "A source is told of bytes that were looked at already.", shownBy: [PEEKED] },
      {
        test: "peek_would_block",
        behaviour: "A look that finds nothing does not keep what arrives then from being told.",
        shownBy: [READ_ON, PEEKED],
      },
      {
        test: "read_peek_would_block",
        behaviour: "The same with a read before it.",
        shownBy: [READ_ON, PEEKED],
      },
      {
        test: "tcp_stream_ipv4",
        behaviour: "A client does not block, is not inherited, sends and receives.",
        shownBy: [
          "connection_peers: the pieces of what is written with writev() arrive as one, over %s, a thousand times there and back",
          "connector: over TCP, %s-triggered: open once, then the bytes of both",
          "connector: makes its socket non-blocking, not inherited, and without Nagle's delay",
        ],
      },
      {
        test: "tcp_stream_ipv6",
        behaviour: "The same over IPv6.",
        shownBy: [
          "connector: over IPv6",
          "connector_peers: to :: reaches this machine, and where nobody listens on IPv6 it is refused at once",
        ],
      },
      {
        test: "tcp_stream_std",
        behaviour: "A connected socket that others made may be taken over.",
        shownBy: ["connection_peers: two connections of one loop play ping-pong over %s, a thousand times"],
      },
    ],
    "unix_listener.rs": [
      { test: "unix_listener_send_and_sync", behaviour: OF_THE_TYPE, because: TYPES },
      {
        test: "unix_listener_smoke",
        behaviour: "A listener on a path does not block, is not inherited, and accepts a client.",
        shownBy: [
          "socket: listenOn() makes listeners that do not block, and that children do not inherit",
          "socket: listenOn() listens on a Unix path and on an abstract name",
        ],
      },
      {
        test: "unix_listener_from_std",
        behaviour: "A listener that others made may be taken over.",
        shownBy: ["socket: adoptListener() makes a listener non-blocking, and not inherited by children"],
      },
      {
        test: "unix_listener_local_addr",
        behaviour: "An accepted stream knows its path; its peer has none.",
        shownBy: ["socket: listenOn() listens on a Unix path and on an abstract name"],
      },
      { test: "unix_listener_register", behaviour: "A listener without clients is quiet.", shownBy: [IDLE] },
      {
        test: "unix_listener_reregister",
        behaviour: "A client that came while only room was waited for is told of after the change.",
        shownBy: ["poller_registration: what became ready before modify() is told only if it is still waited for"],
      },
      { test: "unix_listener_deregister", behaviour: "A listener that was removed is quiet.", shownBy: [CHANGED] },
      {
        test: "unix_listener_abstract_namespace",
        behaviour: "A listener on an abstract name accepts clients, who have none.",
        shownBy: [
          "socket: listenOn() listens on a Unix path and on an abstract name",
          "server_peers: clients over %s that have closed before they are accepted are told of like any others",
        ],
      },
    ],
    "unix_pipe.rs": [
      {
        test: "smoke",
        behaviour: "The reader of a pipe is told of bytes, its writer of room.",
        shownBy: [
          "poller_registration: a pipe: its reader is told of bytes, then of the writer's end; its writer of the reader's",
        ],
      },
      {
        test: "event_when_sender_is_dropped",
        behaviour: "The reader of a pipe is told that its writer has gone.",
        shownBy: [
          "poller_registration: a pipe: its reader is told of bytes, then of the writer's end; its writer of the reader's",
        ],
      },
      {
        test: "event_when_receiver_is_dropped",
        behaviour: "The writer of a pipe is told that its reader has gone.",
        shownBy: [
          "poller_registration: a pipe: its reader is told of bytes, then of the writer's end; its writer of the reader's",
        ],
      },
      {
        test: "from_child_process_io",
        behaviour: "The pipes of a child process can be watched.",
        because: "Child processes and their pipes are the runtime's.",
      },
      {
        test: "nonblocking_child_process_io",
        behaviour: "The pipes of a child process can be made not to block.",
        because: "Child processes and their pipes are the runtime's.",
      },
    ],
    "unix_stream.rs": [
      { test: "unix_stream_send_and_sync", behaviour: OF_THE_TYPE, because: TYPES },
      {
        test: "unix_stream_pair",
        behaviour: "The two ends of a pair exchange bytes, and have no others.",
        shownBy: ["connection_peers: two connections of one loop play ping-pong over %s, a thousand times"],
      },
      {
        test: "unix_stream_peer_addr",
        behaviour: "A client knows the path that it is connected to, and has none itself.",
        shownBy: ["socket: listenOn() listens on a Unix path and on an abstract name"],
      },
      {
        test: "unix_stream_shutdown_read",
        behaviour: "Ending our own reading half is told as the end of reading.",
        shownBy: [OWN_SHUTDOWN],
      },
      {
        test: "unix_stream_shutdown_write",
        behaviour: "After our end nothing can be written, and what waits can be read.",
        shownBy: [
          OWN_SHUTDOWN,
          "connection_peers: both ends end their stream at the same moment, over %s: each reads the other's",
        ],
      },
      {
        test: "unix_stream_shutdown_both",
        behaviour: "Ending both halves is told as a hang-up.",
        shownBy: [OWN_SHUTDOWN],
      },
      {
        test: "unix_stream_shutdown_listener_write",
        behaviour: "The end of the peer's writing half is told as the end of reading.",
        shownBy: [HALF_CLOSE],
      },
      {
        test: "unix_stream_register",
        behaviour: "An idle stream is quiet where only bytes are waited for.",
        shownBy: [IDLE],
      },
      {
        test: "unix_stream_reregister",
        behaviour: "Changed from readable to writable, a stream is told of that.",
        shownBy: ["poller: Poller.modify() changes what is waited for"],
      },
      {
        test: "unix_stream_deregister",
        behaviour: "A stream that was removed is quiet.",
        shownBy: ["poller: Poller.remove() stops watching"],
      },
      {
        test: "unix_stream_smoke",
        behaviour: "A client of a path does not block, is not inherited, sends and receives.",
        shownBy: [
          "connector: over a Unix socket: a path, and an abstract name",
          "connector: makes its socket non-blocking, not inherited, and without Nagle's delay",
          "connector_peers: ten clients at once over %s, on the loop of their server",
        ],
      },
      {
        test: "unix_stream_connect",
        behaviour: "A client of a path is told that it is connected, then of its peer's end.",
        shownBy: ["connector: over a Unix socket: a path, and an abstract name"],
      },
      {
        test: "unix_stream_connect_addr",
        behaviour: "The same with the address that a listener says it has.",
        shownBy: ["connector_peers: ten clients at once over %s, on the loop of their server"],
      },
      {
        test: "unix_stream_from_std",
        behaviour: "A connected socket that others made may be taken over.",
        shownBy: ["connection_peers: two connections of one loop play ping-pong over %s, a thousand times"],
      },
    ],
    "waker.rs": [
      { test: "is_send_and_sync", behaviour: OF_THE_TYPE, because: TYPES },
      {
        test: "waker",
        behaviour: "A wake ends a wait.",
        shownBy: ["waker: Waker.wake() ends a wait and has onWake called"],
      },
      {
        test: "waker_multiple_wakeups_same_thread",
        behaviour: "Several wakes before the loop looks are one.",
        shownBy: ["waker: wakes that come before the loop looks are one"],
      },
      {
        test: "waker_wakeup_different_thread",
        behaviour: "A wake in another thread ends a wait.",
        shownBy: ["waker: RemoteWaker in another thread ends a turn that blocks for ever"],
      },
      {
        test: "waker_multiple_wakeups_different_thread",
        behaviour: "Wakes of several threads, before and after a wait, are all heard.",
        shownBy: [
          "waker: RemoteWaker in another thread ends a turn that blocks for ever",
          "waker: a wake that comes while onWake runs is not lost",
        ],
      },
      {
        test: "using_multiple_wakers_panics",
        behaviour: "A second waker of one poller is refused.",
        because: "A loop has as many wakers as it makes, each with its own descriptor.",
      },
      {
        test: "using_multiple_wakers_panics_different_cloned_registries",
        behaviour: "A second waker of one poller is refused, from another thread too.",
        because: "A loop has as many wakers as it makes, each with its own descriptor.",
      },
    ],
  },
  leftOut: {
    "aio.rs": "POSIX asynchronous file access, of FreeBSD",
    "udp_socket.rs": "UDP is not part of this module yet",
    "unix_datagram.rs": "Datagrams over Unix sockets are not part of this module",
    "win_named_pipe.rs": "Windows only",
  },
};
