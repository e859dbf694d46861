/** libuv's tests of TCP, of Unix sockets and of polling, as a checklist. Written from what they do, in our own words. */
import type { Checklist } from "./checklist.ts";

/** Its connections are handles, which are made before anything is opened and used for several things. */
const HANDLES = "libuv's handles exist before their socket and apart from it; here what has no socket has no object";

/** At a commit of its main branch; under the MIT licence. */
export const LIBUV: Checklist = {
  source: "https://github.com/libuv/libuv",
  commit: "6179e7af87413396d5853a1c3722c8b5749336c8",
  files: {
    "test-callback-stack.c": [
      {
        test: "callback_stack",
        behaviour: "No callback runs inside a call of the user's.",
        shownBy: [
          "connection_peers: no handler runs inside a call of the user's",
          "connection_peers: a write that fails tells nobody before it returns",
        ],
      },
    ],
    "test-close-fd.c": [
      {
        test: "close_fd",
        behaviour: "What a closed peer left behind is read before its end.",
        shownBy: ["connection: delivers pending input before the end of the stream, then closes"],
      },
    ],
    "test-close-order.c": [
      {
        test: "close_order",
        behaviour: "Closes are told last in a turn, after its timers.",
        shownBy: ["loop: a turn tells connections, listeners, timers, tasks and what ended, in this order"],
      },
    ],
    "test-connect-unspecified.c": [
      {
        test: "connect_unspecified",
        behaviour: "Connecting to 0.0.0.0 or :: reaches this machine.",
        shownBy: [
          "connector_peers: to 0.0.0.0 reaches this machine",
          "connector_peers: to :: reaches this machine, and where nobody listens on IPv6 it is refused at once",
        ],
      },
    ],
    "test-connection-fail.c": [
      {
        test: "connection_fail",
        behaviour: "Where nobody listens, a connection is refused with ECONNREFUSED.",
        shownBy: ["connector: to a port that nobody listens on rejects with ECONNREFUSED"],
      },
      {
        test: "connection_fail_doesnt_auto_close",
        behaviour:
          "A refused connection is told of, and what it held is released by whom that is up to. (Here by connect().)",
        shownBy: ["connector: leaves nothing behind when it is refused, aborted, or out of time"],
      },
    ],
    "test-delayed-accept.c": [
      {
        test: "delayed_accept",
        behaviour: "Clients that nobody has accepted yet wait, and are served once they are accepted.",
        shownBy: [
          'overload_process: "wait": those without room are served in their order as others leave, and nobody is refused',
        ],
      },
    ],
    "test-eintr-handling.c": [
      {
        test: "eintr_handling",
        behaviour: "A call that a signal interrupts is made again.",
        shownBy: [
          "connection: a call interrupted by a signal is repeated",
          "loop: a turn goes on after a signal during epoll_wait",
        ],
      },
    ],
    "test-emfile.c": [
      {
        test: "emfile",
        behaviour: "Out of descriptors, a client is connected and closed at once instead of left waiting.",
        shownBy: [
          "acceptor: sheds those who wait when out of descriptors, keeps its reserve, and serves when there is room",
          "exhaustion: answers or refuses each of 150 clients, uses no CPU while they hold, and serves again; twice in a row",
        ],
      },
    ],
    "test-multiple-listen.c": [
      {
        test: "multiple_listen",
        behaviour: "Listening again on a socket that listens does no harm.",
        shownBy: ["ladder: resets everybody, keeps port and epoll registration, and the next client is served"],
      },
    ],
    "test-not-readable-nor-writable-on-read-error.c": [
      {
        test: "not_readable_nor_writable_on_read_error",
        behaviour: "After an error of reading nothing is read or written any more.",
        shownBy: [
          "connection_peers: a reset while idle is told by close alone, with ECONNRESET, and nothing can be written after it",
        ],
      },
    ],
    "test-not-writable-after-shutdown.c": [
      {
        test: "not_writable_after_shutdown",
        behaviour: "After our end nothing can be written.",
        shownBy: ["connection: write() after close() or end(), and of nothing, changes nothing"],
      },
    ],
    "test-ping-pong.c": [
      {
        test: "tcp_ping_pong",
        behaviour: "A thousand messages go back and forth, one at a time.",
        shownBy: ["connection_peers: two connections of one loop play ping-pong over %s, a thousand times"],
      },
      {
        test: "tcp6_ping_pong",
        behaviour: "The same over IPv6.",
        shownBy: ["server: listens on IPv6, and on localhost"],
      },
      {
        test: "pipe_ping_pong",
        behaviour: "The same over a Unix socket.",
        shownBy: ["connection_peers: two connections of one loop play ping-pong over %s, a thousand times"],
      },
      {
        test: "tcp_ping_pong_vec",
        behaviour: "Each message is written in pieces, in one call.",
        shownBy: [
          "connection_peers: the pieces of what is written with writev() arrive as one, over %s, a thousand times there and back",
        ],
      },
      {
        test: "tcp6_ping_pong_vec",
        behaviour: "The same over IPv6.",
        shownBy: [
          "connection_peers: the pieces of what is written with writev() arrive as one, over %s, a thousand times there and back",
          "server: listens on IPv6, and on localhost",
        ],
      },
      {
        test: "pipe_ping_pong_vec",
        behaviour: "The same over a Unix socket.",
        shownBy: [
          "connection_peers: the pieces of what is written with writev() arrive as one, over %s, a thousand times there and back",
        ],
      },
    ],
    "test-pipe-bind-error.c": [
      {
        test: "pipe_bind_error_addrinuse",
        behaviour: "A path that somebody listens on is in use.",
        shownBy: ["socket: listenOn() does not replace a Unix socket file in use, not even with a full backlog"],
      },
      {
        test: "pipe_bind_error_addrnotavail",
        behaviour: "A path in a folder that there is not is refused.",
        shownBy: ["socket: listenOn() throws ENOENT for a path in a folder that there is not"],
      },
      {
        test: "pipe_bind_error_inval",
        behaviour: "A socket that has an address gets no second one.",
        shownBy: ["syscalls_sockets: bind() returns -EINVAL for a socket that has an address"],
      },
      {
        test: "pipe_listen_without_bind",
        behaviour: "A Unix socket without an address cannot listen.",
        because: "listenOn() binds what it makes, and adoptListener() takes only what listens already.",
      },
      {
        test: "pipe_bind_or_listen_error_after_close",
        behaviour: "Nobody listens on what was closed before.",
        shownBy: ["socket: adoptListener() throws EBADF for a descriptor that is closed"],
      },
      {
        test: "pipe_overlong_path",
        behaviour: "A path that is too long is refused, not cut.",
        shownBy: ["socket: listenOn() throws RangeError for a path that is too long, TypeError for a name"],
      },
    ],
    "test-pipe-close-stdout-read-stdin.c": [
      {
        test: "pipe_close_stdout_read_stdin",
        behaviour: "A child process whose output is closed still reads its input.",
        because: "Child processes and their pipes are the runtime's.",
      },
    ],
    "test-pipe-connect-error.c": [
      {
        test: "pipe_connect_bad_name",
        behaviour: "A path that is not there: ENOENT.",
        shownBy: ["connector: to a path that is not there, is no socket, or a socket of another kind"],
      },
      {
        test: "pipe_connect_to_file",
        behaviour: "A path of something else than a socket is refused.",
        shownBy: ["connector: to a path that is not there, is no socket, or a socket of another kind"],
      },
    ],
    "test-pipe-connect-multiple.c": [
      {
        test: "pipe_connect_multiple",
        behaviour: "Ten clients connect to one path at once, and each is accepted.",
        shownBy: ["connector_peers: ten clients at once over %s, on the loop of their server"],
      },
      {
        test: "pipe_connect_close_multiple",
        behaviour:
          "Ten clients that are closed as soon as they connect are each told of their end, and the server goes on.",
        shownBy: [
          "connector_peers: ten clients over %s that are aborted at once cost the next one nothing",
          "server_peers: clients over %s that have closed before they are accepted are told of like any others",
        ],
      },
    ],
    "test-pipe-connect-prepare.c": [
      {
        test: "pipe_connect_on_prepare",
        behaviour: "Who connects from within a turn learns of a path that is not there, in a later callback.",
        shownBy: [
          "connector: to a path that is not there, is no socket, or a socket of another kind",
          "connector: calls open in a turn, never inside the stack of its caller, also where the kernel connects at once",
        ],
      },
    ],
    "test-pipe-getsockname.c": [
      {
        test: "pipe_getsockname",
        behaviour: "Both ends of a Unix stream know its path, and the client has none of its own.",
        shownBy: ["socket: listenOn() listens on a Unix path and on an abstract name"],
      },
      {
        test: "pipe_getsockname_abstract",
        behaviour: "The same with an abstract name, in which NUL is a character like any other.",
        shownBy: [
          "socket: listenOn() listens on a Unix path and on an abstract name",
          "address: encodeAddress() reads an abstract name, in which NUL is a character like any other",
        ],
      },
      {
        test: "pipe_getsockname_autobind",
        behaviour: "A Unix socket that is bound to nothing gets an abstract name from the kernel.",
        because: "A server on a name that nobody knows helps nobody; an empty path is refused as a mistake.",
      },
      {
        test: "pipe_getsockname_blocking",
        behaviour: "The name of an anonymous pipe may be asked for while it is read.",
        because: "Windows only.",
      },
      {
        test: "pipe_getsockname_long_path",
        behaviour: "Paths beyond the size of sockaddr_un, on systems that have them.",
        because: "Linux has none: a longer path is refused, by the test that test-pipe-bind-error.c is shown by.",
      },
    ],
    "test-pipe-pending-instances.c": [
      {
        test: "pipe_pending_instances",
        behaviour: "How many instances of a named pipe wait for clients.",
        because: "Windows only.",
      },
    ],
    "test-pipe-sendmsg.c": [
      {
        test: "pipe_sendmsg",
        behaviour: "Descriptors that come with the bytes of a Unix stream are taken over.",
        because: "Connections do not pass descriptors; who needs it has sendmsg() and recvmsg() of ./syscalls.",
      },
    ],
    "test-pipe-server-close.c": [
      {
        test: "pipe_server_close",
        behaviour: "A server on a Unix socket may be closed while a client is about to be accepted.",
        shownBy: ["server: unserved clients in the backlog do not hold stop() up"],
      },
    ],
    "test-pipe-set-fchmod.c": [
      {
        test: "pipe_set_chmod",
        behaviour: "The permissions of a Unix socket's file may be set.",
        because: "The file is a file: chmod of the runtime sets them.",
      },
    ],
    "test-pipe-set-non-blocking.c": [
      {
        test: "pipe_set_non_blocking",
        behaviour: "A stream may be made to block in its writes.",
        because: "A connection that blocks would stop its loop; there is no such mode.",
      },
    ],
    "test-poll.c": [
      {
        test: "poll_duplex",
        behaviour: "Bytes go both ways whole while each end waits for one thing and another at random.",
        shownBy: ["poller_registration: every byte of both directions arrives, whatever is waited for in between"],
      },
      {
        test: "poll_unidirectional",
        behaviour: "The same in one direction, and a hang-up is told once both streams are over.",
        shownBy: [
          "poller_registration: every byte of both directions arrives, whatever is waited for in between",
          "poller_registration: an orderly end, ours and the peer's, is told as hungUp beside readEnded",
        ],
      },
      {
        test: "poll_bad_fdtype",
        behaviour: "What cannot be watched, such as a file, is refused at once.",
        shownBy: ["poller: Poller.add() returns -errno for what cannot be watched, and keeps nothing of it"],
      },
      {
        test: "poll_nested_epoll",
        behaviour: "An epoll descriptor can itself be watched.",
        shownBy: [
          "poller_registration: an epoll descriptor is readable while the poller behind it has something to tell",
        ],
      },
      {
        test: "poll_nested_kqueue",
        behaviour: "A kqueue descriptor can itself be watched.",
        because: "BSD and macOS only.",
      },
    ],
    "test-poll-close.c": [
      {
        test: "poll_close",
        behaviour: "Many that are watched and removed before the loop looks are not told.",
        shownBy: ["poller_registration: 64 sources that are removed before a wait are not told, and leave nothing"],
      },
    ],
    "test-poll-close-doesnt-corrupt-stack.c": [
      {
        test: "poll_close_doesnt_corrupt_stack",
        behaviour: "Closing a socket that is polled overwrites no memory later.",
        because: "Windows only.",
      },
    ],
    "test-poll-closesocket.c": [
      {
        test: "poll_closesocket",
        behaviour: "Closing a socket that is polled ends the polling.",
        because: "Windows only.",
      },
    ],
    "test-poll-multiple-handles.c": [
      {
        test: "poll_multiple_handles",
        behaviour: "A descriptor is watched by one at a time; once removed, by another.",
        shownBy: [
          "poller_registration: a second source for one descriptor is refused until the first is removed, and the first goes on",
        ],
      },
    ],
    "test-poll-oob.c": [
      {
        test: "poll_oob",
        behaviour: "Urgent data may be waited for by itself, as EPOLLPRI.",
        because:
          "Interest has no urgent data: RFC 6093 advises new protocols against it. That it does no harm is shown.",
      },
    ],
    "test-readable-on-eof.c": [
      {
        test: "readable_on_eof",
        behaviour: "The peer's end does not end ours. (libuv tells it again to who reads again; here it is told once.)",
        shownBy: [
          "connection: allowHalfOpen: the connection stays after the peer's end until end(), and does not spin",
        ],
      },
    ],
    "test-shutdown-close.c": [
      {
        test: "shutdown_close_tcp",
        behaviour: "An end and a close in one go: each is told of once.",
        shownBy: ["connection_peers: end() twice and close() in one go, over %s: one end of the stream, one close"],
      },
      {
        test: "shutdown_close_pipe",
        behaviour: "The same over a Unix socket.",
        shownBy: ["connection_peers: end() twice and close() in one go, over %s: one end of the stream, one close"],
      },
    ],
    "test-shutdown-eof.c": [
      {
        test: "shutdown_eof",
        behaviour:
          "After our end the peer's answer still arrives, then its end. (Here both ends close the connection.)",
        shownBy: ["connection: end() sends what is queued, then the peer reads end of stream and may go on"],
      },
    ],
    "test-shutdown-simultaneous.c": [
      {
        test: "shutdown_simultaneous",
        behaviour: "Two ends that end their streams at the same moment are through with each other.",
        shownBy: [
          "connection_peers: both ends end their stream at the same moment, over %s: each reads the other's",
        ],
      },
    ],
    "test-shutdown-twice.c": [
      {
        test: "shutdown_twice",
        behaviour: "A second end changes nothing.",
        shownBy: ["connection_peers: end() twice and close() in one go, over %s: one end of the stream, one close"],
      },
    ],
    "test-socket-buffer-size.c": [
      {
        test: "socket_buffer_size",
        behaviour: "The sizes of a socket's buffers may be set and read.",
        shownBy: ["syscalls_sockets: setsockopt() sets what getsockopt() then reads"],
      },
    ],
    "test-tcp-alloc-cb-fail.c": [
      {
        test: "tcp_alloc_cb_fail",
        behaviour: "A reader whose buffer is taken away is not lost: it is told, or given another one.",
        shownBy: ["connection: a handler that detaches the receive buffer costs nobody a connection"],
      },
    ],
    "test-tcp-bind-error.c": [
      {
        test: "tcp_bind_error_addrinuse_connect",
        behaviour: "An address in use is reported as such.",
        shownBy: ["socket: listenOn() says in words that an address is in use, and code is EADDRINUSE"],
      },
      {
        test: "tcp_bind_error_addrinuse_listen",
        behaviour: "Of two listeners on one port the second fails with EADDRINUSE.",
        shownBy: [
          "socket: listenOn() says in words that an address is in use, and code is EADDRINUSE",
          "socket: listenOn() with reusePort lets several listeners share a port, without it none",
        ],
      },
      {
        test: "tcp_bind_error_addrnotavail_1",
        behaviour: "Whether a broadcast address of the loopback network may be bound.",
        because: "It is up to the system, and either outcome passes there; the kernel's answer is handed on as it is.",
      },
      {
        test: "tcp_bind_error_addrnotavail_2",
        behaviour: "An address that this machine does not have is refused with EADDRNOTAVAIL.",
        shownBy: ["socket: listenOn() throws EADDRNOTAVAIL for an address of another machine"],
      },
      {
        test: "tcp_bind_error_fault",
        behaviour: "Garbage in the place of an address is refused.",
        shownBy: [
          "address: encodeAddress(), IPv4 > encodeAddress() throws TypeError for %j",
          "address: encodeAddress() throws TypeError for a host that is no text",
        ],
      },
      {
        test: "tcp_bind_error_inval",
        behaviour: "A socket that has an address gets no second one: EINVAL.",
        shownBy: ["syscalls_sockets: bind() returns -EINVAL for a socket that has an address"],
      },
      {
        test: "tcp_bind_localhost_ok",
        behaviour: "127.0.0.1 may be listened on.",
        shownBy: ["socket: listenOn() listens on a port of %s that the kernel chose"],
      },
      {
        test: "tcp_bind_invalid_flags",
        behaviour: "An option that cannot be meant for this kind of address is refused.",
        shownBy: ["server: checks every option at the boundary and leaves nothing open"],
      },
      {
        test: "tcp_listen_without_bind",
        behaviour: "Who listens without having chosen an address gets one from the kernel.",
        shownBy: ["socket: listenOn() listens on a port of %s that the kernel chose"],
      },
      {
        test: "tcp_bind_writable_flags",
        behaviour: "A listener cannot be written to, read from or ended.",
        because: "A listener here is an Acceptor, which has no such methods; both are one kind of stream in libuv.",
      },
      {
        test: "tcp_bind_or_listen_error_after_close",
        behaviour: "Nobody listens on what was closed before.",
        shownBy: ["socket: adoptListener() throws EBADF for a descriptor that is closed"],
      },
    ],
    "test-tcp-bind6-error.c": [
      {
        test: "tcp_bind6_error_addrinuse",
        behaviour: "As over IPv4: the second listener on a port fails with EADDRINUSE.",
        shownBy: ["socket: listenOn() says the same of IPv6: an address in use, and one of another machine"],
      },
      {
        test: "tcp_bind6_error_addrnotavail",
        behaviour: "As over IPv4: an address that this machine does not have is refused.",
        shownBy: ["socket: listenOn() says the same of IPv6: an address in use, and one of another machine"],
      },
      {
        test: "tcp_bind6_error_fault",
        behaviour: "Garbage in the place of an IPv6 address is refused.",
        shownBy: ["address: encodeAddress(), IPv6 > encodeAddress() throws TypeError for %j"],
      },
      {
        test: "tcp_bind6_error_inval",
        behaviour: "A socket that has an address gets no second one, whatever its family.",
        shownBy: ["syscalls_sockets: bind() returns -EINVAL for a socket that has an address"],
      },
      {
        test: "tcp_bind6_localhost_ok",
        behaviour: "::1 may be listened on.",
        shownBy: ["socket: listenOn() listens on a port of %s that the kernel chose"],
      },
    ],
    "test-tcp-close-reset.c": [
      {
        test: "tcp_close_reset_client",
        behaviour: "A client that breaks off with a reset has its writes accounted for, and is told of its close once.",
        shownBy: [
          "connection_abort: of a client is a reset at the server, whether the client has ended or not",
          "connection_abort: drops what was written, and the peer reads a reset",
        ],
      },
      {
        test: "tcp_close_reset_client_after_shutdown",
        behaviour: "A reset after our end. (libuv refuses it; here it is one.)",
        shownBy: [
          "connection_abort: of a client is a reset at the server, whether the client has ended or not",
          "connection_abort: after end() resets all the same, whether the end has left or not",
        ],
      },
      {
        test: "tcp_close_reset_accepted",
        behaviour: "The server's side may break off with a reset as well.",
        shownBy: [
          "connection_abort: drops what was written, and the peer reads a reset",
          "connection_abort: with more queued than the kernel takes drops it, and resets",
        ],
      },
      {
        test: "tcp_close_reset_accepted_after_shutdown",
        behaviour: "The same after our end. (libuv refuses it; here it is a reset.)",
        shownBy: ["connection_abort: after end() resets all the same, whether the end has left or not"],
      },
      {
        test: "tcp_close_reset_accepted_after_socket_shutdown",
        behaviour: "A reset after the socket was shut down behind the library's back is a close, told once.",
        shownBy: ["connection_abort: after somebody shut the socket down closes, once"],
      },
    ],
    "test-tcp-close.c": [
      {
        test: "tcp_close",
        behaviour: "What was written before a close is accounted for before the close is told, however many writes.",
        shownBy: [
          "connection_peers: close() right after many small writes: the peer gets every one, then the end of the stream",
          "connection: the close handler runs at the end of the turn, once, with the descriptor released",
        ],
      },
    ],
    "test-tcp-close-accept.c": [
      {
        test: "tcp_close_accept",
        behaviour:
          "A connection whose descriptor number was another's within the same batch of events gets none of that one's.",
        shownBy: [
          "connection_peers: a descriptor number that is another connection's within the same batch: the new one is told nothing",
          "poller: a %s that closes a %s whose slot and descriptor number are both reused in that batch: the new one gets no event",
        ],
      },
    ],
    "test-tcp-close-after-read-timeout.c": [
      {
        test: "tcp_close_after_read_timeout",
        behaviour:
          "A timer may close a connection whose peer is silent: the peer reads end of stream, no read is told.",
        shownBy: [
          "connection_peers: close() from a timer ends the stream of a silent peer, and nothing but close is told",
        ],
      },
    ],
    "test-tcp-close-while-connecting.c": [
      {
        test: "tcp_close_while_connecting",
        behaviour: "A connection that is given up before it is there is told as such, once, and leaves nothing.",
        shownBy: ["connector: when the signal is aborted, with its reason, without a turn of the loop"],
      },
    ],
    "test-tcp-connect-error.c": [
      {
        test: "tcp_connect_error_fault",
        behaviour: "Garbage in the place of an address to connect to is refused.",
        shownBy: ["connector: rejects %j, without a socket"],
      },
    ],
    "test-tcp-connect-error-after-write.c": [
      {
        test: "tcp_connect_error_after_write",
        behaviour:
          "What is written before the connection is refused fails with it. (Here nothing can be: the connection is not there yet.)",
        shownBy: ["connector: to a port that nobody listens on rejects with ECONNREFUSED"],
      },
    ],
    "test-tcp-connect-timeout.c": [
      {
        test: "tcp_connect_timeout",
        behaviour: "An address that does not answer does not hold the loop up, and may be given up.",
        shownBy: [
          "connector: when timeoutMs is over, with ETIMEDOUT and what it waited for",
          "connector: when the signal is aborted, with its reason, without a turn of the loop",
        ],
      },
      {
        test: "tcp_local_connect_timeout",
        behaviour: "A local port that nobody listens on is refused at once, not after a timeout.",
        shownBy: ["connector: to a port that nobody listens on rejects with ECONNREFUSED"],
      },
      {
        test: "tcp6_local_connect_timeout",
        behaviour: "The same over IPv6.",
        shownBy: [
          "connector_peers: to :: reaches this machine, and where nobody listens on IPv6 it is refused at once",
        ],
      },
    ],
    "test-tcp-connect6-error.c": [
      {
        test: "tcp_connect6_error_fault",
        behaviour: "Garbage in the place of an IPv6 address to connect to is refused.",
        shownBy: ["connector: rejects %j, without a socket"],
      },
      {
        test: "tcp_connect6_link_local",
        behaviour: "A link-local address is taken as an address.",
        shownBy: ["address: encodeAddress() reads a numeric zone: RFC 4007, section 11"],
      },
    ],
    "test-tcp-create-socket-early.c": [
      {
        test: "tcp_create_early",
        behaviour: "A handle may be given its socket, of a family, before it is bound.",
        because: HANDLES,
      },
      {
        test: "tcp_create_early_bad_bind",
        behaviour: "A socket of one family cannot be bound to an address of another.",
        because: "listenOn() makes the socket of the family that the address has; the two cannot differ.",
      },
      {
        test: "tcp_create_early_bad_domain",
        behaviour: "A family that there is not is refused.",
        shownBy: ["syscalls_sockets: socket() returns -EAFNOSUPPORT for a family that there is not"],
      },
      {
        test: "tcp_create_early_accept",
        behaviour: "A handle that has a socket cannot take an accepted one.",
        because: HANDLES,
      },
    ],
    "test-tcp-flags.c": [
      {
        test: "tcp_flags",
        behaviour: "TCP_NODELAY and keep-alive may be set; times that cannot be meant are refused.",
        shownBy: [
          "socket: listenOn() has TCP_NODELAY inherited by what it accepts",
          "syscalls_sockets: setsockopt() sets what getsockopt() then reads",
          "syscalls_sockets: setsockopt() returns -EINVAL for a value that is too short",
        ],
      },
    ],
    "test-tcp-oob.c": [
      {
        test: "tcp_oob",
        behaviour: "Urgent data while reading is no error and does not spin the loop.",
        shownBy: [
          "connection_peers: urgent bytes neither end the connection nor spin the loop, and the others are delivered",
        ],
      },
    ],
    "test-tcp-open.c": [
      {
        test: "tcp_open",
        behaviour: "A descriptor may be handed in, and only once.",
        shownBy: ["connection_peers: a second connection on one descriptor is refused, and the first goes on"],
      },
      {
        test: "tcp_open_twice",
        behaviour: "A handle takes one descriptor.",
        because: HANDLES,
      },
      {
        test: "tcp_open_bound",
        behaviour: "A socket that is bound already may be handed in to listen.",
        shownBy: ["server: adopts a listening descriptor, and refuses one that does not listen"],
      },
      {
        test: "tcp_open_connected",
        behaviour: "A socket that is connected already may be handed in, written to and ended.",
        shownBy: ["connection: end() sends what is queued, then the peer reads end of stream and may go on"],
      },
      {
        test: "tcp_write_ready",
        behaviour: "Who writes on and on from the callback of the last write is ended in order, and cannot write then.",
        shownBy: [
          "connection: write re-entered from drain keeps the order",
          "connection: write() after close() or end(), and of nothing, changes nothing",
        ],
      },
    ],
    "test-tcp-read-stop.c": [
      {
        test: "tcp_read_stop",
        behaviour: "Who has stopped reading may write, and is told of no bytes.",
        shownBy: [
          "connection_peers: bytes that wait for a paused connection do not spin the loop, and writing goes on",
        ],
      },
    ],
    "test-tcp-read-stop-start.c": [
      {
        test: "tcp_read_stop_start",
        behaviour: "Reading may be stopped and begun again while the peer goes: its end is told then.",
        shownBy: [
          "connection: a paused connection whose peer resets does not spin, and tells after resume()",
          "connection: pause() holds before the next read, and resume() delivers what waited",
          "connection_peers: what the peer sent before it closed is told though a write to it has failed",
        ],
      },
    ],
    "test-tcp-reuseport.c": [
      {
        test: "tcp_reuseport",
        behaviour: "Loops in several threads share a port by SO_REUSEPORT, and between them serve every client.",
        shownBy: [
          "socket: listenOn() with reusePort lets several listeners share a port, without it none",
          "overload_threads: each client is answered or refused, through one reserve",
        ],
      },
    ],
    "test-tcp-rst.c": [
      {
        test: "tcp_rst",
        behaviour: "A reset is told as ECONNRESET, and the closed handle may still be asked what it is.",
        shownBy: [
          "connection_peers: a reset while idle is told by close alone, with ECONNRESET, and nothing can be written after it",
        ],
      },
    ],
    "test-tcp-shutdown-after-write.c": [
      {
        test: "tcp_shutdown_after_write",
        behaviour: "An end that follows a write at once comes after its bytes.",
        shownBy: ["connection: end() sends what is queued, then the peer reads end of stream and may go on"],
      },
    ],
    "test-tcp-try-write.c": [
      {
        test: "tcp_try_write",
        behaviour: "As many bytes arrive as were taken, and writing nothing is taken too.",
        shownBy: [
          "connection_peers: close() right after many small writes: the peer gets every one, then the end of the stream",
          "connection: write() after close() or end(), and of nothing, changes nothing",
        ],
      },
    ],
    "test-tcp-try-write-error.c": [
      {
        test: "tcp_try_write_error",
        behaviour: "Who goes on writing to a peer that has closed learns of EPIPE or ECONNRESET.",
        shownBy: [
          "connection_peers: writing on and on to a peer that has closed ends the connection with EPIPE or ECONNRESET",
        ],
      },
    ],
    "test-tcp-unexpected-read.c": [
      {
        test: "tcp_unexpected_read",
        behaviour: "Bytes that arrive while nobody reads do not spin the loop.",
        shownBy: [
          "connection_peers: bytes that wait for a paused connection do not spin the loop, and writing goes on",
        ],
      },
    ],
    "test-tcp-write-after-connect.c": [
      {
        test: "tcp_write_after_connect",
        behaviour:
          "What is written while connecting is given up if that is refused. (Here nothing can be: the connection is not there yet.)",
        shownBy: ["connector: to a port that nobody listens on rejects with ECONNREFUSED"],
      },
    ],
    "test-tcp-write-fail.c": [
      {
        test: "tcp_write_fail",
        behaviour: "A write on a descriptor that is none any more fails; one of no bytes that there are is refused.",
        shownBy: [
          "connection_peers: a write on a descriptor that is none any more ends the connection with EBADF",
          "connection: write() throws a TypeError for what is neither text nor bytes",
        ],
      },
    ],
    "test-tcp-write-in-a-row.c": [
      {
        test: "tcp_write_in_a_row",
        behaviour: "A small write right behind a large one is queued, counted to the byte, and comes after it.",
        shownBy: [
          "connection_peers: a small write behind one that the kernel does not take whole is queued behind it",
        ],
      },
    ],
    "test-tcp-write-queue-order.c": [
      {
        test: "tcp_write_queue_order",
        behaviour: "Of many writes that a close cuts short, the first have arrived, in order, and none after a gap.",
        shownBy: [
          "connection_peers: close() with more queued than the kernel takes: the peer gets the first of it, without a gap",
        ],
      },
    ],
    "test-tcp-write-to-half-open-connection.c": [
      {
        test: "tcp_write_to_half_open_connection",
        behaviour: "A write to a peer that has closed already is followed by its end, or by an error, once.",
        shownBy: ["connection_peers: a peer that has closed before it is written to: the connection closes, once"],
      },
    ],
    "test-tcp-writealot.c": [
      {
        test: "tcp_writealot",
        behaviour: "Over a hundred megabytes go out and come back, to the byte.",
        shownBy: ["echo: 200 clients at once get back 1 MiB each, sent in random pieces"],
      },
    ],
  },
  leftOut: {
    "test-ipc.c, test-ipc-send-recv.c, test-ipc-heavy-traffic-deadlock-bug.c":
      "Handles that are passed between processes: connections do not pass descriptors",
    "test-udp-*.c and all other files": "Not about TCP, Unix sockets or polling",
  },
};
