/** src/reserve.ts: descriptors to give up when the table is full. */
import { readlinkSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { F } from "../ffi/constants.ts";
import { SystemError } from "../ffi/errno.ts";
import { realSyscalls, type Syscalls } from "../ffi/syscalls.ts";
import { Reserve } from "../src/reserve.ts";
import { disown, expectNoLeak } from "./support/descriptors.ts";
import { failure, kernelWith } from "./support/kernel.ts";
import { bytes, socketPair } from "./support/sockets.ts";

expectNoLeak();

const reserves: Reserve[] = [];

afterEach(() => {
  for (const reserve of reserves.splice(0)) reserve.close();
});

function newReserve(size: number, sys: Syscalls = realSyscalls): Reserve {
  const reserve = new Reserve(size, sys);
  reserves.push(reserve);
  return reserve;
}

/** A kernel that notes which descriptors its caller holds, and can have a full table. */
class Table {
  /** Those opened or duplicated and not closed, with what each is. */
  readonly held: Map<number, string> = new Map();
  /** Calls that would need a free slot fail with this. */
  full: "EMFILE" | "ENFILE" | undefined;
  /** Slots that may be filled before it is full. */
  room: number = Infinity;
  readonly sys: Syscalls = kernelWith({
    open: (path, flags) => this.#add(() => this.full ?? realSyscalls.open(path, flags), path),
    fcntl: (fd, command, argument) =>
      command === F.dupfdCloexec
        ? this.#add(() => this.full === "EMFILE" ? "EMFILE" : realSyscalls.fcntl(fd, command, argument), "a duplicate")
        : realSyscalls.fcntl(fd, command, argument),
    dup3: (oldFd, newFd, flags) => this.#add(() => realSyscalls.dup3(oldFd, newFd, flags), "a duplicate"),
    close: (fd) => {
      this.held.delete(fd);
      return realSyscalls.close(fd);
    },
  });

  /** What is held, in order of opening. */
  get list(): string[] {
    return [...this.held.values()];
  }

  #add(call: () => number | "EMFILE" | "ENFILE", what: string): number {
    if (this.held.size >= this.room) return failure("EMFILE");
    const result = call();
    if (typeof result === "string") return failure(result);
    if (result >= 0) this.held.set(result, what);
    return result;
  }
}

describe("Reserve", () => {
  test("Reserve opens its size and a keeper, each a file of its own, not inherited by children", () => {
    const table = new Table();
    const reserve = newReserve(3, table.sys);
    expect(table.list).toEqual(Array(4).fill("/dev/null"));
    for (const fd of table.held.keys()) expect(realSyscalls.fcntl(fd, F.getfd)).toBe(F.fdCloexec);
    expect([reserve.size, reserve.missing]).toEqual([3, 0]);
  });

  test("Reserve of 0 opens nothing and has nothing to give", () => {
    const table = new Table();
    const reserve = newReserve(0, table.sys);
    expect(table.list).toEqual([]);
    expect(reserve.release()).toBe(false);
    expect(reserve.refill()).toBe(true);
    expect(reserve.missing).toBe(0);
  });

  test("Reserve opens the root folder where there is no /dev/null", () => {
    const table = new Table();
    const { open } = table.sys;
    const sys = {
      ...table.sys,
      open: (path: string, flags: number) => path === "/" ? open(path, flags) : failure("ENOENT"),
    };
    newReserve(1, sys);
    expect(table.list).toEqual(["/", "/"]);
  });

  test.each([0, 1, 2])(
    "Reserve throws EMFILE where only %i of 3 descriptors are free, and leaves none behind",
    (room) => {
      const table = new Table();
      table.room = room;
      let error: unknown;
      try {
        new Reserve(2, table.sys);
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toBeInstanceOf(SystemError);
      expect((error as SystemError).code).toBe("EMFILE");
      expect((error as SystemError).message).toContain("Cannot open 3 reserve descriptors");
      expect(table.list).toEqual([]);
    },
  );
});

describe("Reserve.release()", () => {
  test("Reserve.release() frees one slot a call, until there is none to give; the keeper stays", () => {
    const table = new Table();
    const reserve = newReserve(2, table.sys);
    expect(reserve.release()).toBe(true);
    expect([reserve.missing, table.held.size]).toEqual([1, 2]);
    expect(reserve.release()).toBe(true);
    expect([reserve.missing, table.held.size]).toEqual([2, 1]);
    expect(reserve.release()).toBe(false);
    expect([reserve.missing, table.held.size]).toEqual([2, 1]);
  });
});

describe("Reserve.retake()", () => {
  test("Reserve.retake() closes the client and keeps its number, not inherited by children", () => {
    const reserve = newReserve(1);
    const [peer, client] = socketPair();
    expect(reserve.release()).toBe(true);
    reserve.retake(disown(client));
    expect(reserve.missing).toBe(0);
    expect(realSyscalls.recv(peer, bytes(1))).toBe(0); // the client is closed
    expect(readlinkSync(`/proc/self/fd/${client}`)).toBe("/dev/null");
    expect(realSyscalls.fcntl(client, F.getfd)).toBe(F.fdCloexec);
  });

  test("Reserve.retake() closes the client and refills where dup3() fails", () => {
    const table = new Table();
    const reserve = newReserve(1, { ...table.sys, dup3: () => failure("EBUSY") });
    const [peer, client] = socketPair();
    expect(reserve.release()).toBe(true);
    reserve.retake(disown(client));
    expect(realSyscalls.recv(peer, bytes(1))).toBe(0);
    expect(reserve.missing).toBe(0);
    expect(table.list).toEqual(["/dev/null", "/dev/null"]);
  });

  test("Reserve.retake() closes the client where dup3() fails and the slot is stolen, and the reserve is missing", () => {
    const table = new Table();
    const reserve = newReserve(1, { ...table.sys, dup3: () => failure("EBUSY") });
    const [peer, client] = socketPair();
    expect(reserve.release()).toBe(true);
    table.full = "EMFILE";
    reserve.retake(disown(client));
    expect(realSyscalls.recv(peer, bytes(1))).toBe(0);
    expect(reserve.missing).toBe(1);
  });

  test("Reserve gives and retakes any number of times, and ends as it began", () => {
    const table = new Table();
    const reserve = newReserve(2, table.sys);
    for (let i = 0; i < 200; i++) {
      const [, client] = socketPair();
      expect(reserve.release()).toBe(true);
      reserve.retake(disown(client));
    }
    expect([reserve.missing, table.held.size]).toEqual([0, 3]);
  });
});

describe("Reserve.refill()", () => {
  test("Reserve.refill() leaves a stolen slot missing, and regrows it once one is free", () => {
    const table = new Table();
    const reserve = newReserve(2, table.sys);
    expect(reserve.release()).toBe(true);
    table.full = "EMFILE"; // another thread has the slot
    expect(reserve.refill()).toBe(false);
    expect(reserve.missing).toBe(1);
    expect(reserve.release()).toBe(true); // the other one serves meanwhile
    expect(reserve.refill()).toBe(false);
    expect(reserve.missing).toBe(2);
    expect(reserve.release()).toBe(false);
    table.full = undefined;
    expect(reserve.refill()).toBe(true);
    expect(reserve.missing).toBe(0);
    expect(table.list).toEqual(Array(3).fill("/dev/null"));
  });

  test("Reserve.refill() keeps what it got where there is room for some only", () => {
    const table = new Table();
    const reserve = newReserve(3, table.sys);
    while (reserve.release());
    table.room = 2;
    expect(reserve.refill()).toBe(false);
    expect(reserve.missing).toBe(2);
  });

  test("Reserve.refill() shares the keeper's file where the system has no file left", () => {
    const table = new Table();
    const reserve = newReserve(1, table.sys);
    expect(reserve.release()).toBe(true);
    table.full = "ENFILE";
    expect(reserve.refill()).toBe(true);
    expect(table.list).toEqual(["/dev/null", "a duplicate"]);
  });

  test("Reserve.refill() of a complete reserve opens nothing", () => {
    const table = new Table();
    const reserve = newReserve(2, table.sys);
    expect(reserve.refill()).toBe(true);
    expect(table.held.size).toBe(3);
  });
});

describe("Reserve.close()", () => {
  test("Reserve.close() gives everything back; safe twice", () => {
    const table = new Table();
    const reserve = newReserve(2, table.sys);
    expect(reserve.release()).toBe(true);
    reserve.close();
    reserve.close();
    expect(table.list).toEqual([]);
  });

  // Connections outlive their acceptor: each one that closed after it refilled the reserve, whose descriptors nobody
  // closed any more.
  test("Reserve.refill() opens nothing once closed", () => {
    const table = new Table();
    const reserve = newReserve(2, table.sys);
    reserve.close();
    expect(reserve.refill()).toBe(false);
    expect(reserve.release()).toBe(false);
    expect(table.list).toEqual([]);
  });
});
