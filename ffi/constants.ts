/** Address families. Source: bits/socket.h. */
export const AF = { unspec: 0, unix: 1, inet: 2, inet6: 10 } as const;

/** Socket types and the flags that may be or-ed into them. Source: bits/socket_type.h. */
export const SOCK = { stream: 1, dgram: 2, seqpacket: 5, nonblock: 0o4000, cloexec: 0o2000000 } as const;

/** Flags of recv(2) and send(2). Source: bits/socket.h. */
export const MSG = {
  oob: 0x01,
  peek: 0x02,
  dontroute: 0x04,
  ctrunc: 0x08,
  trunc: 0x20,
  dontwait: 0x40,
  eor: 0x80,
  waitall: 0x100,
  nosignal: 0x4000,
  more: 0x8000,
  cmsgCloexec: 0x40000000,
} as const;

/** Which half shutdown(2) ends. Source: sys/socket.h. */
export const SHUT = { rd: 0, wr: 1, rdwr: 2 } as const;

/** Levels of setsockopt(2). Source: asm-generic/socket.h and netinet/in.h. */
export const SOL = { ip: 0, socket: 1, tcp: 6, udp: 17, ipv6: 41 } as const;

/** Options of level `SOL.socket`. Source: asm-generic/socket.h. */
export const SO = {
  reuseaddr: 2,
  type: 3,
  error: 4,
  sndbuf: 7,
  rcvbuf: 8,
  keepalive: 9,
  linger: 13,
  reuseport: 15,
  rcvtimeo: 20,
  sndtimeo: 21,
  acceptconn: 30,
  protocol: 38,
  domain: 39,
} as const;

/** Options of level `SOL.ipv6`. Source: linux/in6.h. */
export const IPV6 = { v6only: 26 } as const;

/** Options of level `SOL.tcp`. Source: linux/tcp.h. */
export const TCP = {
  nodelay: 1,
  maxseg: 2,
  cork: 3,
  keepidle: 4,
  keepintvl: 5,
  keepcnt: 6,
  deferAccept: 9,
  info: 11,
  quickack: 12,
  userTimeout: 18,
} as const;

/** Events and input flags of epoll(7). Source: linux/eventpoll.h. */
export const EPOLL = {
  in: 0x001,
  pri: 0x002,
  out: 0x004,
  err: 0x008,
  hup: 0x010,
  rdhup: 0x2000,
  exclusive: 1 << 28,
  oneshot: 1 << 30,
  et: 1 << 31,
  cloexec: 0o2000000,
} as const;

/** Operations of epoll_ctl(2). Source: linux/eventpoll.h. */
export const EPOLL_CTL = { add: 1, del: 2, mod: 3 } as const;

/** Flags of eventfd(2). Source: sys/eventfd.h. */
export const EFD = { semaphore: 1, nonblock: 0o4000, cloexec: 0o2000000 } as const;

/** Events of poll(2). Source: asm-generic/poll.h. */
export const POLL = { in: 0x001, pri: 0x002, out: 0x004, err: 0x008, hup: 0x010, nval: 0x020 } as const;

/** Flags of open(2), dup3(2) and pipe2(2). Source: asm-generic/fcntl.h. */
export const O = {
  rdonly: 0,
  wronly: 0o1,
  rdwr: 0o2,
  creat: 0o100,
  nonblock: 0o4000,
  cloexec: 0o2000000,
} as const;

/** Commands of fcntl(2), and the one descriptor flag. Source: asm-generic/fcntl.h and linux/fcntl.h. */
export const F = { dupfd: 0, getfd: 1, setfd: 2, getfl: 3, setfl: 4, dupfdCloexec: 1030, fdCloexec: 1 } as const;

/** Resources of getrlimit(2). Source: asm-generic/resource.h. */
export const RLIMIT = { nofile: 7 } as const;
