/** What random tests do to the fake kernel and the real one. */
import { AF, EFD, EPOLL, EPOLL_CTL, F, MSG, O, POLL, RLIMIT, SHUT, SO, SOCK, SOL, TCP } from "../../ffi/constants.ts";
import {
  decodeInt,
  decodeSockaddr,
  encodeInt,
  encodeLinger,
  epollEventLayout,
  PollSet,
  type Rlimit,
} from "../../ffi/layout.ts";
import type { BothKernels } from "./both_kernels.ts";
import { outcome } from "./descriptors.ts";
import { bytes, text } from "./sockets.ts";

/** One thing to do to both kernels; on what, of that which there is, two random numbers choose. */
export type Operation = (kernels: BothKernels, number: number, other: number) => void;

function pick<T>(items: readonly T[], number: number): T | undefined {
  return items.length === 0 ? undefined : items[number % items.length];
}

/** A number that is open, or rarely one that is not. */
function pickFd(kernels: BothKernels, number: number): number {
  return (number % 16 === 15 ? pick(kernels.freeNumbers, number >> 4) : pick(kernels.numbers, number >> 4)) ?? 0x7000;
}

/** A number of this kind, where there is one. */
function pickKind(kernels: BothKernels, number: number, kind: string): number {
  const ofKind = kernels.numbers.filter((fd) => kernels.fake.describe(fd)!.kind === kind);
  return number % 16 === 15 ? pickFd(kernels, number >> 4) : pick(ofKind, number >> 4) ?? pickFd(kernels, number);
}

/** A call that would block is not made. */
function isBlocking(kernels: BothKernels, fd: number): boolean {
  return (kernels.fake.fcntl(fd, F.getfl) & O.nonblock) === 0;
}

const SHUT_NAMES = ["rd", "wr", "rdwr"] as const;
const MASKS = [
  EPOLL.in,
  EPOLL.in | EPOLL.rdhup,
  EPOLL.in | EPOLL.out | EPOLL.rdhup,
  EPOLL.out,
  0,
  EPOLL.in | EPOLL.exclusive,
  EPOLL.rdhup,
];

function listenerOf(kernels: BothKernels, number: number): number {
  return pickKind(kernels, number, "socket");
}

function epollCtl(operation: number): Operation {
  return (kernels, number, other) => {
    const epollFd = pickKind(kernels, 16 * other, "epoll");
    const fd = pickFd(kernels, number);
    if (kernels.fake.describe(fd)?.kind === "epoll" && fd !== epollFd) return;
    const mask = MASKS[other % MASKS.length]! | (number & 1 ? EPOLL.et : 0) | (number % 7 === 3 ? EPOLL.oneshot : 0);
    const { words, events, slot, generation } = epollEventLayout();
    kernels.both(`epoll_ctl ${operation} ${fd} of ${epollFd} for ${mask.toString(16)}`, (sys) => {
      const event = new Uint32Array(new ArrayBuffer(4 * words));
      [event[events], event[slot], event[generation]] = [mask, fd, other];
      return sys.epollCtl(epollFd, operation, fd, event);
    });
  };
}

function epollWait(kernels: BothKernels, number: number): void {
  const epollFd = pickKind(kernels, 16 * number, "epoll");
  const count = number % 3 === 0 ? 1 : 8;
  const { words, ...at } = epollEventLayout();
  kernels.both(`epoll_wait ${epollFd} for ${count}`, (sys) => {
    const events = new Uint32Array(new ArrayBuffer(4 * words * count));
    const ready = sys.epollWait(epollFd, events, count, 0);
    return [
      outcome(ready),
      ...Array.from({ length: Math.max(0, ready) }, (_, i) => {
        const [mask, fd, generation] = [at.events, at.slot, at.generation].map((word) => events[i * words + word]!);
        return `${fd} ${generation} ${mask!.toString(16)}`;
      }),
    ];
  });
}

function receive(flags: number): Operation {
  return (kernels, number, other) => {
    const fd = pickKind(kernels, number, "stream");
    kernels.both(`recv ${fd} flags ${flags}`, (sys) => {
      const target = bytes(other % 3 === 0 ? 5 : 500);
      const count = sys.recv(fd, target, flags | MSG.dontwait);
      return [outcome(count), text(target, Math.max(0, count))];
    });
  };
}

function option(name: keyof typeof SO): Operation {
  return (kernels, number, other) => {
    const fd = number & 1 ? listenerOf(kernels, other) : pickKind(kernels, other, "stream");
    kernels.both(`getsockopt ${fd} ${name}`, (sys) => {
      const value = encodeInt(-1);
      return [outcome(sys.getsockopt(fd, SOL.socket, SO[name], value)), decodeInt(value)];
    });
  };
}

function setLimit(kernels: BothKernels, by: number): void {
  kernels.both(`setrlimit by ${by}`, (sys) => {
    const { soft, hard } = sys.getrlimit(RLIMIT.nofile) as Rlimit;
    return [outcome(sys.setrlimit(RLIMIT.nofile, { soft: Math.max(0, soft + by), hard })), soft + by];
  });
}

/** All of them, by name. */
export const OPERATIONS: Readonly<Record<string, readonly [weight: number, operation: Operation]>> = {
  connect: [14, (kernels, number) => {
    const listener = listenerOf(kernels, 16 * number);
    if (kernels.fake.describe(listener)?.kind === "socket") kernels.connect(listener);
  }],
  "client sends": [8, (kernels, number, other) => {
    const client = pick(kernels.clients, number);
    if (client !== undefined) kernels.send(client, "abcdefghijklmnop".slice(0, 1 + other % 16));
  }],
  "client ends": [3, (kernels, number) => {
    const client = pick(kernels.clients, number);
    if (client !== undefined) kernels.end(client);
  }],
  "client pauses or resumes": [2, (kernels, number) => {
    const client = pick(kernels.clients, number);
    if (client !== undefined) kernels.toggle(client);
  }],
  "client closes": [3, (kernels, number) => {
    const client = pick(kernels.clients, number);
    if (client !== undefined) kernels.leave(client, false);
  }],
  "client resets": [3, (kernels, number) => {
    const client = pick(kernels.clients, number);
    if (client !== undefined) kernels.leave(client, true);
  }],
  accept4: [14, (kernels, number, other) => {
    const fd = listenerOf(kernels, other);
    const flags = (number & 1 ? SOCK.cloexec : 0) | (number & 2 ? SOCK.nonblock : 0);
    if (kernels.fake.describe(fd)?.kind === "socket" && isBlocking(kernels, fd)) return;
    kernels.opening(`accept4 ${fd}`, (sys) => sys.accept4(fd, flags));
  }],
  close: [7, (kernels, number) => {
    const fd = pick(kernels.numbers, number);
    if (fd !== undefined) kernels.close(fd);
  }],
  "close of nothing": [1, (kernels) => void kernels.both("close of nothing", (sys) => sys.close(0x7000))],
  dup3: [5, (kernels, number, other) => {
    const oldFd = pickFd(kernels, number);
    const newFd = pick(other & 1 ? kernels.numbers : kernels.freeNumbers, other >> 1) ?? oldFd;
    kernels.opening(`dup3 ${oldFd} ${newFd}`, (sys) => sys.dup3(oldFd, newFd, other & 2 ? O.cloexec : 0));
  }],
  dupfd: [4, (kernels, number, other) => {
    const fd = pickFd(kernels, number);
    const from = pick([0, ...kernels.freeNumbers], other)!;
    const command = other & 1 ? F.dupfd : F.dupfdCloexec;
    kernels.opening(`fcntl ${fd} dupfd ${from}`, (sys) => sys.fcntl(fd, command, from));
  }],
  open: [5, (kernels, number) => {
    const path = number & 1 ? "/" : "/dev/null";
    kernels.opening(`open ${path}`, (sys) => sys.open(path, O.rdonly | (number & 2 ? O.cloexec : 0)));
  }],
  "limit up": [2, (kernels, number) => setLimit(kernels, 1 + number % 4)],
  "limit down": [2, (kernels, number) => setLimit(kernels, -1 - number % 4)],
  "recv trunc": [4, receive(MSG.trunc)],
  recv: [4, receive(0)],
  "recv peek": [1, receive(MSG.peek)],
  send: [5, (kernels, number, other) => {
    const fd = pickKind(kernels, number, "stream");
    kernels.both(`send ${fd}`, (sys) => sys.send(fd, bytes("farewell".slice(other % 8)), MSG.nosignal | MSG.dontwait));
  }],
  shutdown: [5, (kernels, number, other) => {
    const fd = pickKind(kernels, number, "stream");
    const how = SHUT_NAMES[other % 3]!;
    kernels.both(`shutdown ${fd} ${how}`, (sys) => sys.shutdown(fd, SHUT[how]));
  }],
  "shutdown of a listener": [2, (kernels, number, other) => {
    const fd = listenerOf(kernels, number);
    const how = SHUT_NAMES[other % 3]!;
    kernels.both(`shutdown ${fd} ${how}`, (sys) => sys.shutdown(fd, SHUT[how]));
  }],
  listen: [3, (kernels, number, other) => {
    const fd = listenerOf(kernels, number);
    kernels.both(`listen ${fd} ${other % 4}`, (sys) => sys.listen(fd, other % 4));
  }],
  "queue reset": [3, (kernels, number) => {
    const fd = listenerOf(kernels, number);
    kernels.both(`shutdown ${fd} rd`, (sys) => sys.shutdown(fd, SHUT.rd));
    kernels.both(`listen ${fd} 4`, (sys) => sys.listen(fd, 4));
  }],
  linger: [2, (kernels, number, other) => {
    const fd = pickKind(kernels, number, other % 4 === 0 ? "socket" : "stream");
    kernels.both(`linger ${fd}`, (sys) => sys.setsockopt(fd, SOL.socket, SO.linger, encodeLinger(other % 5 > 0, 0)));
  }],
  acceptconn: [1, option("acceptconn")],
  error: [2, option("error")],
  type: [1, option("type")],
  protocol: [1, option("protocol")],
  domain: [1, option("domain")],
  getfl: [1, (kernels, number) => {
    const fd = pickFd(kernels, number);
    kernels.both(`fcntl ${fd} getfl`, (sys) => sys.fcntl(fd, F.getfl));
  }],
  setfl: [1, (kernels, number, other) => {
    const fd = pickFd(kernels, number);
    kernels.both(`fcntl ${fd} setfl`, (sys) => sys.fcntl(fd, F.setfl, other & 1 ? O.nonblock : 0));
  }],
  getfd: [1, (kernels, number) => {
    const fd = pickFd(kernels, number);
    kernels.both(`fcntl ${fd} getfd`, (sys) => sys.fcntl(fd, F.getfd));
  }],
  setfd: [1, (kernels, number, other) => {
    const fd = pickFd(kernels, number);
    kernels.both(`fcntl ${fd} setfd`, (sys) => sys.fcntl(fd, F.setfd, other & 1));
  }],
  getsockname: [1, (kernels, number) => {
    const fd = pickKind(kernels, number, number & 1 ? "stream" : "socket");
    kernels.both(`getsockname ${fd}`, (sys) => {
      const sockaddr = bytes(16);
      const length = sys.getsockname(fd, sockaddr);
      // Ports that the kernels choose differ.
      return length < 0
        ? outcome(length)
        : [length, (decodeSockaddr(sockaddr, length) as { address: Uint8Array }).address];
    });
  }],
  getpeername: [2, (kernels, number) => {
    const fd = pickKind(kernels, number, "stream");
    kernels.both(`getpeername ${fd}`, (sys) => outcome(sys.getpeername(fd, bytes(16))));
  }],
  socket: [1, (kernels, number) => {
    const flags = number & 1 ? SOCK.cloexec : 0;
    const fd = kernels.opening("socket", (sys) => sys.socket(AF.inet, SOCK.stream | SOCK.nonblock | flags, 0));
    if (fd >= 0) kernels.both("nodelay", (sys) => sys.setsockopt(fd, SOL.tcp, TCP.nodelay, encodeInt(1)));
  }],
  epoll_create1: [1, (kernels) => {
    kernels.opening("epoll_create1", (sys) => sys.epollCreate1(EPOLL.cloexec));
  }],
  eventfd: [2, (kernels, number) => {
    const flags = EFD.nonblock | (number & 1 ? EFD.semaphore : 0);
    kernels.opening("eventfd", (sys) => sys.eventfd(number % 3, flags));
  }],
  "write of an eventfd": [3, (kernels, number, other) => {
    const fd = pickKind(kernels, 16 * number, "eventfd");
    if (kernels.fake.describe(fd)?.kind !== "eventfd" || isBlocking(kernels, fd)) return;
    const increment = bytes(8);
    new DataView(increment.buffer).setBigInt64(0, [1n, 3n, 0n, -2n, -1n][other % 5]!, true);
    kernels.both(`write ${fd} ${increment}`, (sys) => sys.write(fd, increment));
  }],
  "read of an eventfd": [2, (kernels, number) => {
    const fd = pickKind(kernels, 16 * number, "eventfd");
    if (kernels.fake.describe(fd)?.kind !== "eventfd" || isBlocking(kernels, fd)) return;
    kernels.both(`read ${fd}`, (sys) => {
      const target = bytes(8);
      return [outcome(sys.read(fd, target)), ...target];
    });
  }],
  "epoll add": [9, epollCtl(EPOLL_CTL.add)],
  "epoll mod": [6, epollCtl(EPOLL_CTL.mod)],
  "epoll del": [3, epollCtl(EPOLL_CTL.del)],
  epoll_wait: [14, epollWait],
  poll: [3, (kernels, number, other) => {
    const fds = [pickFd(kernels, number), pickFd(kernels, other), pickKind(kernels, 16 * number, "epoll")];
    kernels.both(`poll ${fds}`, (sys) => {
      const set = new PollSet(fds.length);
      for (const [i, fd] of fds.entries()) set.set(i, fd, other & 1 ? POLL.in : POLL.in | POLL.out);
      return [outcome(sys.poll(set, fds.length, 0)), ...fds.map((_, i) => set.revents(i))];
    });
  }],
};
