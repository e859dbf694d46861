import { AF, EFD, EPOLL, EPOLL_CTL, F, MSG, O, POLL, RLIMIT, SO, SOCK, SOL, TCP } from "../../../ffi/constants.ts";
import { ERRNO } from "../../../ffi/errno.ts";
import {
  decodeSockaddr,
  encodeSockaddr,
  epollEventLayout,
  type InetFields,
  type PollSet,
} from "../../../ffi/layout.ts";
import type { Syscalls } from "../../../ffi/syscalls.ts";
import type { FakeClock } from "./clock.ts";
import type { DescriptorTable } from "./descriptor_table.ts";
import { EpollInstance } from "./epoll.ts";
import type { CallName, Journal } from "./journal.ts";
import { COUNTER_MAX, EventCounter, IdleFile, type OpenFile } from "./open_file.ts";
import { TcpEnd } from "./tcp_end.ts";
import { TcpSocket } from "./tcp_socket.ts";

/** Files that can be opened: they hold a number and nothing else. */
const IDLE_PATHS = ["/dev/null", "/dev/zero", "/"];
/** F_GETFL of a file that open(2) made says this too, on every 64-bit CPU: open(2). */
const LARGE_FILE = 0o100000;
const SETFL_MASK = O.nonblock;
const RECV_FLAGS = MSG.peek | MSG.trunc | MSG.dontwait;
const SEND_FLAGS = MSG.nosignal | MSG.dontwait;
const READINESS = EPOLL.in | EPOLL.out | EPOLL.err | EPOLL.hup | EPOLL.rdhup;

const FIRST_PORT = 32_768;

/**
 * The calls of a process. Each checks in the order of the kernel's source: what fails first is what is returned. They
 * are own properties, so `{ ...calls, close: other }` is a table of calls too.
 */
export class FakeCalls implements Syscalls {
  protected readonly table: DescriptorTable;
  protected readonly clock: FakeClock;
  protected readonly journal: Journal;
  #nextPort = FIRST_PORT;

  constructor(table: DescriptorTable, clock: FakeClock, journal: Journal) {
    this.table = table;
    this.clock = clock;
    this.journal = journal;
  }

  readonly accept4 = this.#call("accept4", (fd, flags, sockaddr = null) => {
    const file = this.table.get(fd);
    if (file === undefined) return -ERRNO.EBADF[0];
    if (flags & ~(SOCK.nonblock | SOCK.cloexec)) return -ERRNO.EINVAL[0];
    const number = this.table.lowestFree();
    if (number < 0) return number;
    if (!isSocket(file)) return -ERRNO.ENOTSOCK[0];
    if (this.table.isSystemFull) return -ERRNO.ENFILE[0];
    if (!(file instanceof TcpSocket && file.isListening)) return -ERRNO.EINVAL[0];
    const end = file.queue.shift();
    if (end === undefined) return this.#wouldBlock(file, "accept4");
    end.isAccepted = true;
    end.statusFlags = O.rdwr | (flags & SOCK.nonblock);
    this.table.install(number, end, (flags & SOCK.cloexec) !== 0);
    if (sockaddr !== null) copySockaddr(end.remote, sockaddr);
    return number;
  });

  readonly close = this.#call("close", (fd) => this.table.close(fd));

  readonly dup3 = this.#call("dup3", (oldFd, newFd, flags) => {
    if (flags & ~O.cloexec || oldFd === newFd) return -ERRNO.EINVAL[0];
    const file = this.table.get(oldFd);
    // Also where it is open: a number beyond the limit can be closed, but not replaced.
    if (file === undefined || newFd >= this.table.limit.soft) return -ERRNO.EBADF[0];
    this.table.install(newFd, file, (flags & O.cloexec) !== 0);
    return newFd;
  });

  readonly fcntl = this.#call("fcntl", (fd, command, argument = 0) => {
    const file = this.table.get(fd);
    if (file === undefined) return -ERRNO.EBADF[0];
    switch (command) {
      case F.dupfd:
      case F.dupfdCloexec: {
        if (argument < 0 || argument >= this.table.limit.soft) return -ERRNO.EINVAL[0];
        const number = this.table.lowestFree(argument);
        if (number >= 0) this.table.install(number, file, command === F.dupfdCloexec);
        return number;
      }
      case F.getfd:
        return this.table.isCloexec(fd) ? F.fdCloexec : 0;
      case F.setfd:
        this.table.setCloexec(fd, (argument & F.fdCloexec) !== 0);
        return 0;
      case F.getfl:
        return file.statusFlags;
      case F.setfl:
        file.statusFlags = (file.statusFlags & ~SETFL_MASK) | (argument & SETFL_MASK);
        return 0;
    }
    throw new Error(`Cannot fake command ${command} of fcntl(2)`);
  });

  readonly open = this.#call("open", (path, flags) => {
    if (!IDLE_PATHS.includes(path)) throw new Error(`Cannot fake open(2) of ${JSON.stringify(path)}`);
    return this.#open((flags & O.cloexec) !== 0, () => {
      if (path === "/" && flags & (O.wronly | O.rdwr)) return -ERRNO.EISDIR[0];
      return new IdleFile(path, (flags & ~O.cloexec) | LARGE_FILE);
    });
  });

  readonly socket = this.#call("socket", (domain, type, protocol) => {
    if (domain !== AF.inet || (type & 0xf) !== SOCK.stream) throw new Error("Cannot fake a socket but TCP over IPv4");
    if (protocol !== 0 && protocol !== SOL.tcp) return -ERRNO.EPROTONOSUPPORT[0];
    return this.#open((type & SOCK.cloexec) !== 0, () => this.createSocket(O.rdwr | (type & SOCK.nonblock)));
  });

  readonly bind = this.#call("bind", (fd, sockaddr) =>
    this.#withSocket(fd, (file) => {
      const local = decodeSockaddr(sockaddr, sockaddr.byteLength);
      if (local.family !== "inet") throw new Error("Cannot fake an address but IPv4");
      return file instanceof TcpSocket ? file.bind(local) : -ERRNO.EINVAL[0];
    }));

  readonly listen = this.#call(
    "listen",
    (fd, backlog) =>
      this.#withSocket(fd, (file) => file instanceof TcpSocket ? file.listen(backlog) : -ERRNO.EINVAL[0]),
  );

  readonly shutdown = this.#call(
    "shutdown",
    (fd, how) => this.#withSocket(fd, (file) => how < 0 || how > 2 ? -ERRNO.EINVAL[0] : file.shutdown(how)),
  );

  readonly recv = this.#call("recv", (fd, target, flags = 0) => {
    if (target.byteLength === 0) throw new RangeError("Cannot call recv(2) with an empty buffer");
    if (flags & ~RECV_FLAGS) throw new Error(`Cannot fake flags ${flags} of recv(2)`);
    return this.#withSocket(fd, (file) => {
      if (file instanceof TcpSocket) return file.recv();
      const bytes = file.recv(target.byteLength, flags);
      if (bytes === -ERRNO.EAGAIN[0]) return this.#wouldBlock(file, "recv", flags);
      if (typeof bytes === "number") return bytes;
      if (!(flags & MSG.trunc)) target.set(bytes);
      return bytes.byteLength;
    });
  });

  readonly send = this.#call("send", (fd, source, flags = 0, length = source.byteLength) => {
    if (flags & ~SEND_FLAGS) throw new Error(`Cannot fake flags ${flags} of send(2)`);
    return this.#withSocket(fd, (file) => {
      if (file instanceof TcpSocket) return -ERRNO.EPIPE[0];
      const sent = file.send(source.subarray(0, length));
      return sent === -ERRNO.EAGAIN[0] ? this.#wouldBlock(file, "send", flags) : sent;
    });
  });

  readonly setsockopt = this.#call("setsockopt", (fd, level, name, value) =>
    this.#withSocket(fd, (file) => {
      if (level === SOL.socket && name === SO.linger) {
        const [isOn, seconds] = new Int32Array(value.slice(0, 8).buffer);
        if (isOn && seconds !== 0) throw new Error("Cannot fake a close that lingers: it blocks");
        file.resetsOnClose = isOn !== 0;
      }
      return 0; // whatever else may be set changes nothing here
    }));

  readonly getsockopt = this.#call("getsockopt", (fd, level, name, value) =>
    this.#withSocket(fd, (file) => {
      const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
      if (level === SOL.tcp && name === TCP.info) {
        value.fill(0);
        view.setUint8(0, file.state);
        if (file instanceof TcpSocket && file.isListening) {
          view.setUint32(24, file.queue.length, true);
          view.setUint32(28, file.backlog, true);
        }
        return value.byteLength;
      }
      view.setInt32(0, socketOption(file, level, name), true);
      return 4;
    }));

  readonly getsockname = this.#call(
    "getsockname",
    (fd, sockaddr) => this.#withSocket(fd, (file) => copySockaddr(file.local, sockaddr)),
  );

  readonly getpeername = this.#call("getpeername", (fd, sockaddr) =>
    this.#withSocket(fd, (file) => {
      if (file instanceof TcpSocket || file.isClosed) return -ERRNO.ENOTCONN[0];
      return copySockaddr(file.remote, sockaddr);
    }));

  readonly poll = this.#call("poll", (set, count, timeoutMs) => {
    if (count > this.table.limit.soft) return -ERRNO.EINVAL[0];
    return this.wait(timeoutMs, () => this.#poll(set, count) || undefined) ?? 0;
  });

  readonly getrlimit = this.#call("getrlimit", (resource) => {
    if (resource !== RLIMIT.nofile) throw new Error(`Cannot fake resource ${resource} of getrlimit(2)`);
    return { ...this.table.limit };
  });

  readonly setrlimit = this.#call("setrlimit", (resource, { soft, hard }) => {
    if (resource !== RLIMIT.nofile) throw new Error(`Cannot fake resource ${resource} of setrlimit(2)`);
    if (soft > hard) return -ERRNO.EINVAL[0];
    if (hard > this.table.limit.hard) return -ERRNO.EPERM[0];
    this.table.limit = { soft, hard };
    return 0;
  });

  readonly eventfd = this.#call("eventfd", (initial, flags) => {
    const isSemaphore = (flags & EFD.semaphore) !== 0;
    return this.#open(
      (flags & EFD.cloexec) !== 0,
      () => new EventCounter(initial, isSemaphore, O.rdwr | (flags & EFD.nonblock)),
    );
  });

  readonly read = this.#call("read", (fd, target) => {
    const file = this.table.get(fd);
    if (file === undefined) return -ERRNO.EBADF[0];
    if (!(file instanceof EventCounter)) throw new Error(`Cannot fake read(2) of ${file.name}`);
    if (target.byteLength < 8) return -ERRNO.EINVAL[0];
    const count = file.take();
    if (count === undefined) return this.#wouldBlock(file, "read");
    new DataView(target.buffer, target.byteOffset).setBigUint64(0, count, true);
    return 8;
  });

  readonly write = this.#call("write", (fd, source) => {
    const file = this.table.get(fd);
    if (file === undefined) return -ERRNO.EBADF[0];
    if (!(file instanceof EventCounter)) throw new Error(`Cannot fake write(2) to ${file.name}`);
    if (source.byteLength < 8) return -ERRNO.EINVAL[0];
    const count = new DataView(source.buffer, source.byteOffset).getBigUint64(0, true);
    if (count === COUNTER_MAX) return -ERRNO.EINVAL[0];
    return file.add(count) ? 8 : this.#wouldBlock(file, "write");
  });

  readonly epollCreate1 = this.#call("epollCreate1", (flags) => {
    if (flags & ~EPOLL.cloexec) return -ERRNO.EINVAL[0];
    return this.#open((flags & EPOLL.cloexec) !== 0, () => new EpollInstance(O.rdwr));
  });

  readonly epollCtl = this.#call("epollCtl", (epollFd, operation, fd, event) => {
    const [epoll, file] = [this.table.get(epollFd), this.table.get(fd)];
    if (epoll === undefined || file === undefined) return -ERRNO.EBADF[0];
    if (!file.canPoll) return -ERRNO.EPERM[0];
    if (epoll === file || !(epoll instanceof EpollInstance)) return -ERRNO.EINVAL[0];
    if (operation === EPOLL_CTL.del) return epoll.remove(fd, file);
    if (event === null) return -ERRNO.EFAULT[0];
    const layout = epollEventLayout();
    const [events, slot, generation] = [event[layout.events]!, event[layout.slot]!, event[layout.generation]!];
    if (operation === EPOLL_CTL.add) return epoll.add(fd, file, { events, slot, generation });
    if (operation === EPOLL_CTL.mod) return epoll.modify(fd, file, { events, slot, generation });
    return -ERRNO.EINVAL[0];
  });

  readonly epollWait = this.#call("epollWait", (epollFd, events, maxEvents, timeoutMs) => {
    const { words, ...at } = epollEventLayout();
    if (events.length < words * maxEvents) {
      throw new RangeError("Cannot call epoll_wait(2): too little room for events");
    }
    const epoll = this.table.get(epollFd);
    if (epoll === undefined) return -ERRNO.EBADF[0];
    if (maxEvents <= 0 || !(epoll instanceof EpollInstance)) return -ERRNO.EINVAL[0];
    epoll.isWaitedFor = true;
    try {
      const taken = this.wait(timeoutMs, () => nonEmpty(epoll.take(maxEvents))) ?? [];
      for (const [i, event] of taken.entries()) {
        events[i * words + at.events] = event.events;
        events[i * words + at.slot] = event.slot;
        events[i * words + at.generation] = event.generation;
      }
      return taken.length;
    } finally {
      epoll.isWaitedFor = false;
    }
  });

  readonly socketpair = this.#missing("socketpair");
  readonly connect = this.#missing("connect");
  readonly recvmsg = this.#missing("recvmsg");
  readonly sendmsg = this.#missing("sendmsg");
  readonly writev = this.#missing("writev");
  readonly unlink = this.#missing("unlink");
  readonly pipe2 = this.#missing("pipe2");

  /** `run`, recorded; as an own property it survives being copied out of the kernel. */
  #call<K extends CallName>(name: K, run: Syscalls[K]): Syscalls[K] {
    const call = (...args: unknown[]) => {
      // As the real one: Bun would turn `undefined` into somebody's descriptor.
      for (let i = 0; i < (DESCRIPTOR_ARGUMENTS[name] ?? 0); i++) {
        const fd = args[name === "epollCtl" && i === 1 ? 2 : i];
        if (!Number.isInteger(fd) || (fd as number) < 0) {
          throw new RangeError(`Cannot call ${name} on descriptor ${fd}`);
        }
      }
      return this.journal.record(name, args, run as (...args: unknown[]) => unknown);
    };
    return call as Syscalls[K];
  }

  #missing<K extends CallName>(name: K): Syscalls[K] {
    return this.#call(
      name,
      (() => {
        throw new Error(`Cannot fake ${name}: it is not modelled`);
      }) as unknown as Syscalls[K],
    );
  }

  #open(isCloexec: boolean, make: () => OpenFile | number): number {
    return this.table.open(isCloexec, make);
  }

  /** A port that nobody has. */
  protected pickPort(): number {
    return this.#nextPort++;
  }

  protected createSocket(statusFlags: number): TcpSocket {
    return new TcpSocket(statusFlags, () => this.pickPort());
  }

  #withSocket(fd: number, use: (file: TcpSocket | TcpEnd) => number): number {
    const file = this.table.get(fd);
    if (file === undefined) return -ERRNO.EBADF[0];
    return isSocket(file) ? use(file) : -ERRNO.ENOTSOCK[0];
  }

  #wouldBlock(file: OpenFile, name: CallName, flags: number = 0): number {
    if (file.isNonblocking || flags & MSG.dontwait) return -ERRNO.EAGAIN[0];
    throw new Error(`Cannot fake ${name} on a blocking descriptor: it would block`);
  }

  protected readiness(fd: number): number {
    return this.table.get(fd)?.readiness ?? POLL.nval;
  }

  #poll(set: PollSet, count: number): number {
    const view = new DataView(set.bytes.buffer);
    let ready = 0;
    for (let at = 0; at < 8 * count; at += 8) {
      const [fd, asked] = [view.getInt32(at, true), view.getUint16(at + 4, true)];
      const always = POLL.err | POLL.hup | POLL.nval;
      const revents = fd < 0 ? 0 : this.readiness(fd) & (asked & READINESS | always);
      view.setUint16(at + 6, revents, true);
      if (revents !== 0) ready++;
    }
    return ready;
  }

  /** Lets time pass until `isOver` returns something, or `timeoutMs` has passed; -1 is for ever. */
  protected wait<T>(timeoutMs: number, isOver: () => T | undefined): T | undefined {
    const deadline = timeoutMs < 0 ? Infinity : this.clock.now + timeoutMs;
    for (;;) {
      const result = isOver();
      if (result !== undefined) return result;
      if (timeoutMs === 0 || !this.clock.step(deadline)) return isOver();
    }
  }
}

/** How many arguments of a call are descriptors; of epoll_ctl(2), the first and the third. */
const DESCRIPTOR_ARGUMENTS: Partial<Record<CallName, number>> = {
  ...Object.fromEntries(
    ["accept4", "close", "fcntl", "bind", "listen", "shutdown", "recv", "send", "setsockopt", "getsockopt"].map(
      (name) => [name, 1],
    ),
  ),
  getsockname: 1,
  getpeername: 1,
  read: 1,
  write: 1,
  epollWait: 1,
  dup3: 2,
  epollCtl: 2,
};

function isSocket(file: OpenFile): file is TcpSocket | TcpEnd {
  return file instanceof TcpSocket || file instanceof TcpEnd;
}

function socketOption(file: TcpSocket | TcpEnd, level: number, name: number): number {
  if (level === SOL.socket) {
    switch (name) {
      case SO.acceptconn:
        return file instanceof TcpSocket && file.isListening ? 1 : 0;
      case SO.error:
        return file instanceof TcpEnd ? file.takeError() : 0;
      case SO.type:
        return SOCK.stream;
      case SO.protocol:
        return SOL.tcp;
      case SO.domain:
        return AF.inet;
    }
  }
  throw new Error(`Cannot fake option ${name} of level ${level} of getsockopt(2)`);
}

/** Copies as much as there is room for, and returns how much there is. */
function copySockaddr(fields: InetFields, target: Uint8Array): number {
  const sockaddr = encodeSockaddr(fields);
  target.set(sockaddr.subarray(0, target.byteLength));
  return sockaddr.byteLength;
}

function nonEmpty<T>(items: T[]): T[] | undefined {
  return items.length > 0 ? items : undefined;
}
