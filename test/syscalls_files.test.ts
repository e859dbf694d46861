/** The calls of ffi/syscalls.ts that are not about sockets: epoll, files, pipes and limits. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { EFD, EPOLL, EPOLL_CTL, F, O, POLL, RLIMIT } from "../ffi/constants.ts";
import { epollEventLayout, PollSet, type Rlimit } from "../ffi/layout.ts";
import {
  close,
  dup3,
  epollCreate1,
  epollCtl,
  epollWait,
  eventfd,
  fcntl,
  getrlimit,
  open,
  pipe2,
  poll,
  read,
  send,
  setrlimit,
  unlink,
  write,
} from "../ffi/syscalls.ts";
import { closeNow, expectNoLeak, outcome, own, withLimit } from "./support/descriptors.ts";
import { newPath } from "./support/folders.ts";
import { bytes, socketPair, text } from "./support/sockets.ts";

expectNoLeak();

function pipe(flags: number = O.nonblock | O.cloexec): [readEnd: number, writeEnd: number] {
  const pair = new Int32Array(new ArrayBuffer(8));
  expect(pipe2(pair, flags)).toBe(0);
  return [own(pair[0]!), own(pair[1]!)];
}

/** One event: its mask, and a slot and generation to be told apart by. */
function eventOf(mask: number, slot: number = 0, generation: number = 0): Uint32Array {
  const layout = epollEventLayout();
  const event = new Uint32Array(new ArrayBuffer(4 * layout.words));
  event[layout.events] = mask;
  event[layout.slot] = slot;
  event[layout.generation] = generation;
  return event;
}

function eventsFor(count: number): Uint32Array {
  return new Uint32Array(new ArrayBuffer(4 * epollEventLayout().words * count));
}

function fileLimit(): Rlimit {
  const limit = getrlimit(RLIMIT.nofile);
  if (typeof limit === "number") throw new Error(`Cannot read the limit: ${outcome(limit)}`);
  return limit;
}

describe("read()", () => {
  test("read() returns -EAGAIN from an empty pipe, its bytes, and 0 once nobody writes", () => {
    const [readEnd, writeEnd] = pipe();
    const target = bytes(8);
    expect(outcome(read(readEnd, target))).toBe("-EAGAIN");
    expect(write(writeEnd, bytes("abc"))).toBe(3);
    expect(text(target, read(readEnd, target))).toBe("abc");
    closeNow(writeEnd);
    expect(read(readEnd, target)).toBe(0);
  });

  test("read() fills in exactly the part of a buffer that a subarray covers", () => {
    const [readEnd, writeEnd] = pipe();
    write(writeEnd, bytes("abcdef"));
    const target = bytes("........");
    expect(read(readEnd, target.subarray(2, 5))).toBe(3);
    expect(text(target)).toBe("..abc...");
  });

  test("read() returns -EBADF from the end that is for writing", () => {
    expect(outcome(read(pipe()[1], bytes(8)))).toBe("-EBADF");
  });
});

describe("write()", () => {
  test("write() returns how many bytes it wrote", () => {
    const [readEnd, writeEnd] = pipe();
    expect(write(writeEnd, bytes("..abc").subarray(2))).toBe(3);
    const target = bytes(8);
    expect(text(target, read(readEnd, target))).toBe("abc");
  });

  test("write() returns -EAGAIN to a full pipe", () => {
    const [, writeEnd] = pipe();
    const chunk = bytes(65_536);
    let written = write(writeEnd, chunk);
    while (written > 0) written = write(writeEnd, chunk);
    expect(outcome(written)).toBe("-EAGAIN");
  });

  test("write() returns -EPIPE after the reader closed, and no signal ends the process", () => {
    const [readEnd, writeEnd] = pipe();
    closeNow(readEnd);
    expect(outcome(write(writeEnd, bytes("lost")))).toBe("-EPIPE");
  });
});

describe("epollCreate1()", () => {
  test("epollCreate1() returns an instance that has no events", () => {
    const epollFd = own(epollCreate1(EPOLL.cloexec));
    expect(fcntl(epollFd, F.getfd)).toBe(F.fdCloexec);
    expect(epollWait(epollFd, eventsFor(1), 1, 0)).toBe(0);
  });

  test("epollCreate1() returns -EINVAL for a flag that there is not", () => {
    expect(outcome(epollCreate1(1))).toBe("-EINVAL");
  });
});

describe("epollCtl()", () => {
  test("epollCtl() adds, changes and removes a registration", () => {
    const epollFd = own(epollCreate1(EPOLL.cloexec));
    const fd = own(eventfd(1, EFD.cloexec));
    const events = eventsFor(1);
    expect(epollCtl(epollFd, EPOLL_CTL.add, fd, eventOf(EPOLL.in))).toBe(0);
    expect(epollWait(epollFd, events, 1, 0)).toBe(1);
    expect(epollCtl(epollFd, EPOLL_CTL.mod, fd, eventOf(0))).toBe(0);
    expect(epollWait(epollFd, events, 1, 0)).toBe(0);
    expect(epollCtl(epollFd, EPOLL_CTL.del, fd, null)).toBe(0);
    expect(outcome(epollCtl(epollFd, EPOLL_CTL.del, fd, null))).toBe("-ENOENT");
  });

  test("epollCtl() returns -EEXIST for a second registration, -ENOENT for none, -EPERM for a file", () => {
    const epollFd = own(epollCreate1(EPOLL.cloexec));
    const fd = own(eventfd(0, EFD.cloexec));
    const file = own(open("/proc/self/stat", O.rdonly | O.cloexec));
    expect(outcome(epollCtl(epollFd, EPOLL_CTL.mod, fd, eventOf(EPOLL.in)))).toBe("-ENOENT");
    expect(epollCtl(epollFd, EPOLL_CTL.add, fd, eventOf(EPOLL.in))).toBe(0);
    expect(outcome(epollCtl(epollFd, EPOLL_CTL.add, fd, eventOf(EPOLL.in)))).toBe("-EEXIST");
    expect(outcome(epollCtl(epollFd, EPOLL_CTL.add, file, eventOf(EPOLL.in)))).toBe("-EPERM");
  });

  test("epollCtl() throws RangeError for an event that is shorter than the struct", () => {
    const epollFd = own(epollCreate1(EPOLL.cloexec));
    const fd = own(eventfd(0, EFD.cloexec));
    const short = new Uint32Array(epollEventLayout().words - 1);
    expect(() => epollCtl(epollFd, EPOLL_CTL.add, fd, short)).toThrow(RangeError);
  });
});

describe("epollWait()", () => {
  test("epollWait() returns every event with the data it was registered with", () => {
    const layout = epollEventLayout();
    const epollFd = own(epollCreate1(EPOLL.cloexec));
    const pairs = [0, 1, 2].map(() => socketPair());
    pairs.forEach(([, fd], i) => {
      expect(epollCtl(epollFd, EPOLL_CTL.add, fd, eventOf(EPOLL.in, 0xffff_fff0 + i, 0x8000_0000 + i))).toBe(0);
    });
    for (const [peer] of pairs) send(peer, bytes("x"));
    const events = eventsFor(8);
    expect(epollWait(epollFd, events, 8, 0)).toBe(3);
    const found = [0, 1, 2].map((i) => {
      const at = i * layout.words;
      return [events[at + layout.events], events[at + layout.slot], events[at + layout.generation]];
    });
    expect(found).toEqual([0, 1, 2].map((i) => [EPOLL.in, 0xffff_fff0 + i, 0x8000_0000 + i]));
  });

  test("epollWait() returns -EINVAL for room for no event, and for a descriptor that is no epoll instance", () => {
    const epollFd = own(epollCreate1(EPOLL.cloexec));
    expect(outcome(epollWait(epollFd, eventsFor(1), 0, 0))).toBe("-EINVAL");
    expect(outcome(epollWait(own(eventfd(0, EFD.cloexec)), eventsFor(1), 1, 0))).toBe("-EINVAL");
  });

  test("epollWait() throws RangeError for more events than there is room for", () => {
    const epollFd = own(epollCreate1(EPOLL.cloexec));
    expect(() => epollWait(epollFd, eventsFor(2), 3, 0)).toThrow(RangeError);
    expect(() => epollWait(epollFd, eventsFor(2).subarray(1), 2, 0)).toThrow(RangeError);
  });
});

describe("eventfd()", () => {
  test("eventfd() counts from its initial value", () => {
    const fd = own(eventfd(0xffff_ffff, EFD.nonblock | EFD.cloexec));
    const count = new BigUint64Array(new ArrayBuffer(8));
    expect(read(fd, new Uint8Array(count.buffer))).toBe(8);
    expect(count[0]).toBe(0xffff_ffffn);
  });

  test("eventfd() returns -EINVAL for a flag that there is not", () => {
    expect(outcome(eventfd(0, 0o4))).toBe("-EINVAL");
  });
});

describe("fcntl()", () => {
  test("fcntl() reads and sets flags, and duplicates at or above a number", () => {
    const fd = own(eventfd(0, EFD.cloexec));
    expect(fcntl(fd, F.setfl, fcntl(fd, F.getfl) | O.nonblock)).toBe(0);
    expect(fcntl(fd, F.getfl) & O.nonblock).toBe(O.nonblock);
    const copy = own(fcntl(fd, F.dupfdCloexec, 200));
    expect(copy).toBeGreaterThanOrEqual(200);
    expect(fcntl(copy, F.getfd)).toBe(F.fdCloexec);
  });

  test("fcntl() returns -EBADF for a number that means nothing", () => {
    expect(outcome(fcntl(0x7fff_ffff, F.getfd))).toBe("-EBADF");
  });
});

describe("dup3()", () => {
  test("dup3() makes a number mean something else, and closes what it meant", () => {
    const [readEnd, writeEnd] = pipe();
    const replaced = own(eventfd(0, EFD.cloexec));
    expect(dup3(writeEnd, replaced, O.cloexec)).toBe(replaced);
    expect(fcntl(replaced, F.getfd)).toBe(F.fdCloexec);
    expect(write(replaced, bytes("x"))).toBe(1);
    expect(read(readEnd, bytes(8))).toBe(1);
  });

  test("dup3() returns -EINVAL for two equal numbers, -EBADF for one that means nothing", () => {
    const fd = own(eventfd(0, EFD.cloexec));
    expect(outcome(dup3(fd, fd, O.cloexec))).toBe("-EINVAL");
    expect(outcome(dup3(0x7fff_ffff, fd, O.cloexec))).toBe("-EBADF");
  });
});

describe("open()", () => {
  test("open() opens a file, and makes one where it is told to", () => {
    const path = newPath("é file");
    const fd = own(open(path, O.wronly | O.creat | O.cloexec, 0o600));
    expect(write(fd, bytes("kept"))).toBe(4);
    expect(readFileSync(path, "utf8")).toBe("kept");
  });

  test("open() returns -ENOENT for a path that there is not", () => {
    expect(outcome(open(newPath("none"), O.rdonly))).toBe("-ENOENT");
  });

  test("open() returns -ENAMETOOLONG for a name of 256 bytes", () => {
    expect(outcome(open(newPath("n".repeat(256)), O.rdonly))).toBe("-ENAMETOOLONG");
  });
});

describe("unlink()", () => {
  test("unlink() removes a name", () => {
    const path = newPath("file");
    writeFileSync(path, "");
    expect(unlink(path)).toBe(0);
    expect(existsSync(path)).toBe(false);
  });

  test("unlink() returns -ENOENT for a path that there is not", () => {
    expect(outcome(unlink(newPath("none")))).toBe("-ENOENT");
  });
});

describe("poll()", () => {
  test("poll() counts the descriptors that are ready, and says what for", () => {
    const [a, b] = socketPair();
    send(a, bytes("x"));
    const set = new PollSet(3);
    set.set(0, a, POLL.in);
    set.set(1, b, POLL.in | POLL.out);
    set.set(2, 0x7fff_ffff, POLL.in);
    expect(poll(set, 3, 0)).toBe(2);
    expect([0, 1, 2].map((i) => set.revents(i))).toEqual([0, POLL.in | POLL.out, POLL.nval]);
  });

  test("poll() returns -EINVAL for more descriptors than the process may have", () => {
    const set = new PollSet(65);
    for (let i = 0; i < 65; i++) set.set(i, -1, 0);
    withLimit(64, () => expect(outcome(poll(set, 65, 0))).toBe("-EINVAL"));
  });

  test("poll() throws RangeError for more descriptors than the set has", () => {
    expect(() => poll(new PollSet(1), 2, 0)).toThrow(RangeError);
  });
});

describe("pipe2()", () => {
  test("pipe2() fills in a read end and a write end", () => {
    const [readEnd, writeEnd] = pipe(O.cloexec);
    expect(write(writeEnd, bytes("x"))).toBe(1);
    expect(read(readEnd, bytes(8))).toBe(1);
    expect([fcntl(readEnd, F.getfd), fcntl(writeEnd, F.getfd)]).toEqual([F.fdCloexec, F.fdCloexec]);
  });

  test("pipe2() returns -EINVAL for a flag that there is not", () => {
    expect(outcome(pipe2(new Int32Array(2), 1))).toBe("-EINVAL");
  });

  test("pipe2() throws RangeError for a pair without room for two", () => {
    expect(() => pipe2(new Int32Array(1), O.cloexec)).toThrow(RangeError);
  });
});

describe("getrlimit()", () => {
  test("getrlimit() returns a soft limit that is at most the hard one", () => {
    const { soft, hard } = fileLimit();
    expect(soft).toBeGreaterThan(0);
    expect(soft).toBeLessThanOrEqual(hard);
    expect(readFileSync("/proc/self/limits", "utf8")).toMatch(
      new RegExp(`^Max open files\\s+${soft === Infinity ? "unlimited" : soft}\\s`, "m"),
    );
  });

  test("getrlimit() returns -EINVAL for a resource that there is not", () => {
    expect(outcome(getrlimit(99) as number)).toBe("-EINVAL");
  });
});

describe("setrlimit()", () => {
  test("setrlimit() lowers the soft limit and raises it again", () => {
    const limit = fileLimit();
    const lowered = { ...limit, soft: Math.min(limit.soft, 512) };
    expect(setrlimit(RLIMIT.nofile, lowered)).toBe(0);
    const found = getrlimit(RLIMIT.nofile);
    expect(setrlimit(RLIMIT.nofile, limit)).toBe(0);
    expect(found).toEqual(lowered);
  });

  test("setrlimit() returns -EINVAL for a soft limit above the hard one", () => {
    expect(outcome(setrlimit(RLIMIT.nofile, { soft: 512, hard: 256 }))).toBe("-EINVAL");
  });

  test("setrlimit() takes effect at once: open() returns -EMFILE", () => {
    const limit = fileLimit();
    expect(setrlimit(RLIMIT.nofile, { ...limit, soft: 0 })).toBe(0);
    const fd = open("/dev/null", O.rdonly | O.cloexec);
    expect(setrlimit(RLIMIT.nofile, limit)).toBe(0);
    if (fd >= 0) close(fd);
    expect(outcome(fd)).toBe("-EMFILE");
  });
});
