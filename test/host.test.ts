/** What holds for the host of every runtime; most of it is the parker's. */
import { readFileSync } from "node:fs";
import { afterEach, describe, expect, test } from "vitest";
import { EFD, EPOLL, EPOLL_CTL, F, O } from "../ffi/constants.ts";
import { host as selectHost, type Parker, ResolveError } from "../ffi/host.ts";
import { epollEventLayout } from "../ffi/layout.ts";
import { backend } from "../ffi/mod.ts";
import { realSyscalls as sys } from "../ffi/syscalls.ts";
import { closeNow, expectNoLeak, openDescriptors, openNumbers, own } from "./support/descriptors.ts";
import { temporaryFolder } from "./support/folders.ts";
import { needsProgram } from "./support/programs.ts";
import { runScript, RUNTIME, type ScriptResult } from "./support/scripts.ts";
import { injection } from "./support/trace.ts";

expectNoLeak();

const inFolder = temporaryFolder();
const parkers: Parker[] = [];

// Runs before what expectNoLeak() does: the descriptors are closed after that.
afterEach(async () => {
  await Promise.all(parkers.splice(0).map((parker) => parker.close()));
});

const host = selectHost();
const DEADLINE_MS = 40_000;

/** Nothing but what a server needs. */
const FLAGS = { deno: ["--allow-ffi"], bun: [], node: ["--disable-warning=ExperimentalWarning"] }[RUNTIME];

/** A parker of an epoll instance that watches one eventfd. */
class Parked {
  readonly epollFd: number = own(sys.epollCreate1(0));
  readonly #eventFd = own(sys.eventfd(0, EFD.nonblock));
  readonly #bytes = new Uint8Array(new ArrayBuffer(8));
  readonly parker: Parker;
  wakes = 0;
  #onWake: (() => void) | undefined;

  constructor() {
    const event = new Uint32Array(new ArrayBuffer(4 * epollEventLayout().words));
    event[0] = EPOLL.in;
    sys.epollCtl(this.epollFd, EPOLL_CTL.add, this.#eventFd, event);
    const wake = () => {
      this.wakes++;
      this.#onWake?.();
    };
    this.parker = host.createParker({ epollFd: this.epollFd, wake, nudge: () => this.raise() });
    parkers.push(this.parker);
  }

  /** Makes the epoll descriptor readable. */
  raise(): void {
    this.#bytes.set([1, 0, 0, 0, 0, 0, 0, 0]);
    expect(sys.write(this.#eventFd, this.#bytes)).toBe(8);
  }

  /** Makes it unreadable. */
  lower(): void {
    expect(sys.read(this.#eventFd, this.#bytes)).toBe(8);
  }

  /** The next wake; fails when it does not come. */
  woken(): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("the wake-up was lost")), DEADLINE_MS);
      this.#onWake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

async function createParked(): Promise<Parked> {
  const parked = new Parked();
  await parked.parker.ready;
  return parked;
}

/** By then, a wake that was on its way would have come: a parker made after it has been woken by an event and a timer. */
async function afterAnyWake(): Promise<void> {
  const other = await createParked();
  for (let i = 0; i < 3; i++) {
    const woken = other.woken();
    other.raise();
    other.parker.park(Infinity);
    await woken;
    other.lower();
  }
  const woken = other.woken();
  other.parker.park(20);
  await woken;
}

describe("Parker", () => {
  test("wakes when the epoll descriptor becomes readable", async () => {
    const parked = await createParked();
    const woken = parked.woken();
    parked.parker.park(Infinity);
    setTimeout(() => parked.raise(), 20);
    await woken;
    expect(parked.wakes).toBe(1);
  });

  test.runIf(RUNTIME === "bun")("wakes though the byte of its ring was not sent, and goes on", async () => {
    const before = openNumbers();
    const parked = await createParked();
    const sender = Math.max(...openNumbers().filter((fd) => !before.includes(fd)));
    const kept = own(sys.fcntl(sender, F.dupfdCloexec, 0));
    const other = own(sys.open("/dev/null", O.rdonly | O.cloexec)); // no socket: send(2) fails
    for (const fd of [other, kept]) {
      expect(sys.dup3(fd, sender, O.cloexec)).toBe(sender);
      const woken = parked.woken();
      parked.parker.park(Infinity);
      parked.raise();
      await woken;
      parked.lower();
    }
  });

  test("wakes for what was readable before it was parked", async () => {
    const parked = await createParked();
    parked.raise();
    const woken = parked.woken();
    parked.parker.park(Infinity);
    await woken;
  });

  test("wakes before anybody waited for ready", async () => {
    const parked = new Parked();
    parked.raise();
    const woken = parked.woken();
    parked.parker.park(Infinity);
    await woken;
    await parked.parker.ready;
  });

  test("wakes as a task of its own, never inside park or unpark", async () => {
    const parked = await createParked();
    parked.raise();
    for (let i = 0; i < 50; i++) {
      const woken = parked.woken();
      const before = parked.wakes;
      parked.parker.park(i % 2 === 0 ? Infinity : 0);
      parked.parker.unpark();
      parked.parker.park(i % 2 === 0 ? Infinity : 0);
      expect(parked.wakes).toBe(before);
      await woken;
    }
  });

  test("wakes when the timeout is over, and not before", async () => {
    const parked = await createParked();
    for (const timeoutMs of [0, 0.3, 1, 7.5, 20]) {
      const woken = parked.woken();
      const start = host.now();
      parked.parker.park(timeoutMs);
      await woken;
      expect(host.now() - start).toBeGreaterThanOrEqual(timeoutMs);
    }
    expect(parked.wakes).toBe(5);
  });

  test("wakes in time when a timeout follows a longer one, and a longer one a shorter", async () => {
    const parked = await createParked();
    for (const [firstMs, thenMs] of [[1_000_000, 5], [5, 30], [3, 3.5], [Infinity, 5], [5, 0]] as const) {
      parked.parker.park(firstMs);
      parked.parker.unpark();
      const woken = parked.woken();
      const start = host.now();
      parked.parker.park(thenMs);
      await woken;
      expect(host.now() - start).toBeGreaterThanOrEqual(thenMs);
    }
    parked.parker.park(5);
    parked.parker.unpark();
    parked.parker.park(Infinity);
    await afterAnyWake();
    expect(parked.wakes).toBe(5);
  });

  test("takes a timeout longer than setTimeout does", async () => {
    const parked = await createParked();
    const woken = parked.woken();
    parked.parker.park(2 ** 40);
    await afterAnyWake();
    expect(parked.wakes).toBe(0);
    parked.raise();
    await woken;
  });

  test("wakes once for each park", async () => {
    const parked = await createParked();
    parked.raise();
    const woken = parked.woken();
    parked.parker.park(1);
    await woken;
    await afterAnyWake();
    expect(parked.wakes).toBe(1);
  });

  test("does not wake after unpark", async () => {
    const parked = await createParked();
    parked.parker.park(5);
    parked.parker.unpark();
    parked.parker.unpark();
    parked.raise();
    await afterAnyWake();
    expect(parked.wakes).toBe(0);
  });

  test("wakes for a park that follows an unpark while it still waits for the first", async () => {
    const parked = await createParked();
    parked.parker.park(Infinity);
    await afterAnyWake();
    parked.parker.unpark();
    let woken = parked.woken();
    parked.parker.park(10);
    await woken;
    woken = parked.woken();
    parked.parker.park(Infinity);
    parked.raise();
    await woken;
    expect(parked.wakes).toBe(2);
  });

  test("loses no wake-up, whenever the event comes", async () => {
    const parked = await createParked();
    const when = [
      (task: () => void) => task(),
      queueMicrotask,
      (task: () => void) => host.macrotask(task),
      (task: () => void) => void setTimeout(task, 0),
    ];
    for (let i = 0; i < 2_000; i++) {
      const woken = parked.woken();
      const raised = new Promise<void>((resolve) =>
        when[i % when.length]!(() => {
          parked.raise();
          resolve();
        })
      );
      parked.parker.park(Infinity);
      if (i % 3 === 0) {
        parked.parker.unpark();
        parked.parker.park(Infinity);
      }
      await Promise.all([woken, raised]);
      parked.lower();
    }
  });

  test("opens no more descriptors than the host says, and none after ready", async () => {
    const before = openDescriptors().length + 2;
    const parked = await createParked();
    const ready = openDescriptors().length;
    expect(ready - before).toBeLessThanOrEqual(host.parkerDescriptors);
    const woken = parked.woken();
    parked.parker.park(Infinity);
    parked.raise();
    await woken;
    expect(openDescriptors().length).toBe(ready);
  });

  test("closes while it is parked, without a wake", async () => {
    const parked = await createParked();
    parked.parker.park(Infinity);
    await afterAnyWake();
    await parked.parker.close();
    closeNow(parked.epollFd);
    await afterAnyWake();
    expect(parked.wakes).toBe(0);
  });

  test("closes before and after ready, parked or not, and twice", async () => {
    const before = new Parked();
    const closing = before.parker.close();
    await closing;
    await before.parker.ready;

    const parkedBefore = new Parked();
    parkedBefore.parker.park(Infinity);
    await parkedBefore.parker.close();

    const after = await createParked();
    await Promise.all([after.parker.close(), after.parker.close()]);
    await after.parker.close();

    const wakes = [before, parkedBefore, after].map((parked) => parked.wakes);
    expect(wakes).toEqual([0, 0, 0]);
  });

  test("refuses to park once closed, and takes the rest as done", async () => {
    const { parker } = await createParked();
    const closed = parker.close();
    expect(() => parker.park(0)).toThrow("Cannot park: the parker is closed");
    await closed;
    parker.unpark();
    parker.ref();
    parker.unref();
    expect(() => parker.park(0)).toThrow("Cannot park: the parker is closed");
  });
});

describe("a process with a parker", () => {
  const run = (scene: string, where?: string): Promise<ScriptResult> =>
    runScript("host.ts", { args: where === undefined ? [scene] : [scene, where], flags: FLAGS });

  test.each(["parked", "parked, woken by an event", "referenced again"])(
    "goes on until the wake: %s",
    async (scene) => {
      expect(await run(scene)).toMatchObject({ code: 0, stdout: "woken\n" });
    },
  );

  test.each([
    "created",
    "not awaited",
    "unreferenced",
    "unreferenced with a deadline",
    "unreferenced later",
    "unparked",
  ])("ends by itself: %s", async (scene) => {
    expect(await run(scene)).toMatchObject({ code: 0, stdout: "" });
  });

  test("is woken though unreferenced, while something else keeps it alive", async () => {
    expect(await run("unreferenced but busy")).toMatchObject({ code: 0, stdout: "woken\ndone\n" });
  });

  test("ends though the epoll descriptor is readable", async () => {
    expect(await run("left readable")).toMatchObject({ code: 0, stdout: "woken\n" });
    expect(await run("left readable, unreferenced")).toMatchObject({ code: 0, stderr: "" });
    expect(await run("closed on exit")).toMatchObject({ code: 0, stderr: "" });
  });

  test.each(["closed", "closed early"])("goes on until the parker is closed: %s", async (scene) => {
    expect(await run(scene)).toMatchObject({ code: 0, stdout: "closed\n" });
  });

  test("ends by exit and by an uncaught error", async () => {
    expect(await run("exit")).toMatchObject({ code: 7 });
    expect(await run("throw")).toMatchObject({ code: 1, stderr: expect.stringContaining("thrown by the fixture") });
  });

  test("uses no CPU while it is parked", async () => {
    const { stdout } = await run("cpu");
    // Less than 1 of 100 ticks; the runtimes do things of their own now and then.
    expect(JSON.parse(stdout).shareOfCpu).toBeLessThan(0.02);
  });

  test.runIf(RUNTIME === "deno")("ends by itself in a Deno without the internals that the parker uses", async () => {
    expect(await run("without internals")).toMatchObject({ code: 0, stdout: "" });
  });

  // libuv has rings of its own, and aborts where their calls fail.
  describe.skipIf(RUNTIME !== "bun" || needsProgram("strace"))("where io_uring is refused or short of memory", () => {
    const injected = (scene: string, inject: string) =>
      runScript("host.ts", { args: [scene], flags: FLAGS, under: ["strace", ...injection(inFolder("trace"), inject)] });

    test.each(["ENOSYS", "EPERM", "EINVAL", "ENOMEM"])(
      "waits in another way: io_uring_setup returns %s",
      async (error) => {
        const inject = `io_uring_setup:error=${error}`;
        expect(await injected("parked, woken by an event", inject)).toMatchObject({ code: 0, stdout: "woken\n" });
        expect(await injected("unreferenced", inject)).toMatchObject({ code: 0, stdout: "" });
        expect(await injected("closed", inject)).toMatchObject({ code: 0, stdout: "closed\n" });
      },
    );

    test("tries again where the kernel takes no requests", async () => {
      const inject = "io_uring_enter:error=EAGAIN:when=1..3";
      expect(await injected("parked, woken by an event", inject)).toMatchObject({ code: 0, stdout: "woken\n" });
      expect(await injected("closed", inject)).toMatchObject({ code: 0, stdout: "closed\n" });
    });
  });

  describe("in a Worker", () => {
    const inWorker = (scene: string) =>
      runScript("host.ts", {
        args: [scene, "worker"],
        flags: RUNTIME === "deno" ? [...FLAGS, "--allow-read"] : FLAGS,
      });

    test.each(["parked", "parked, woken by an event"])("goes on until the wake: %s", async (scene) => {
      expect(await inWorker(scene)).toMatchObject({ code: 0, stdout: "woken\n" });
    });

    test.each(["created", "unreferenced", "unparked", "exit"])("ends with the Worker: %s", async (scene) => {
      expect(await inWorker(scene)).toMatchObject({ code: 0, signal: null, stdout: "" });
    });

    test("goes on until the parker is closed", async () => {
      expect(await inWorker("closed")).toMatchObject({ code: 0, stdout: "closed\n" });
    });
  });
});

describe("Host", () => {
  test("now counts milliseconds and never goes back", async () => {
    const start = host.now();
    await new Promise((resolve) => setTimeout(resolve, 5));
    let last = host.now();
    expect(last - start).toBeGreaterThan(3);
    for (let i = 0; i < 1_000; i++) {
      const now = host.now();
      expect(now).toBeGreaterThanOrEqual(last);
      last = now;
    }
  });

  test("microtask runs before macrotask, and neither at once", async () => {
    const order: string[] = [];
    await new Promise<void>((resolve) => {
      host.macrotask(() => {
        order.push("macrotask");
        resolve();
      });
      host.microtask(() => order.push("microtask"));
      order.push("job");
    });
    expect(order).toEqual(["job", "microtask", "macrotask"]);
  });

  test("macrotask lets timers, fetch and signals go on though it is never idle", async () => {
    const flags = RUNTIME === "deno" ? ["-A"] : FLAGS;
    const { stdout } = await runScript("host.ts", { args: ["saturated"], flags });
    expect(JSON.parse(stdout)).toEqual({ text: "fetched", spun: true });
  });

  test("encode gives bytes that stay where they are", () => {
    const kept: { bytes: Uint8Array; address: bigint }[] = [];
    for (let i = 0; i < 200; i++) {
      const bytes = host.encode("x".repeat(i % 50 + 1));
      const address = backend().addressOf(bytes);
      bytes.subarray(1);
      kept.push({ bytes, address });
    }
    for (const { bytes, address } of kept) expect(backend().addressOf(bytes)).toBe(address);
  });

  test("decode gives back what was encoded, and marks what is not UTF-8", () => {
    const text = "\uFEFFé€\u{1F600}\0";
    expect(host.decode(host.encode(text))).toBe(text);
    expect(host.decode(Uint8Array.of(0x61, 0xff, 0x62))).toBe("a\uFFFDb");
  });

  test("resolve finds what /etc/hosts says, each address once", async () => {
    const named = readFileSync("/etc/hosts", "utf8").split("\n").map((line) =>
      line.replace(/#.*/, "").trim().split(/\s+/)
    );
    const [address, name] = named.find(([address]) => address === "127.0.0.1")!;
    const found = await host.resolve(name!);
    expect(found).toContain(address);
    expect(found).toEqual([...new Set(found)]);
  });

  test("resolve rejects with the name and the cause where there is no address", async () => {
    const error = await host.resolve("no..such.invalid").then(() => undefined, (error: unknown) => error);
    expect(error).toBeInstanceOf(ResolveError);
    expect(error).toMatchObject({ hostname: "no..such.invalid", code: "ENOTFOUND", cause: { syscall: "getaddrinfo" } });
    expect((error as Error).message).toBe(
      'Cannot resolve "no..such.invalid": the resolver returned ENOTFOUND (no such name, or it has no address)',
    );
  });

  test.each(
    {
      deno: [["--allow-ffi"], ["--allow-ffi", "--allow-net=other.invalid"]],
      node: [["--permission", "--allow-ffi", "--allow-fs-read=*"], [
        "--permission",
        "--allow-ffi",
        "--allow-fs-read=*",
      ]],
      bun: [undefined, undefined],
    }[RUNTIME].map((flags, i) => [i, flags] as const),
  )("resolve, refused by the runtime, names the flag (%#)", async (_, flags) => {
    if (flags === undefined) return; // refuses nothing
    const { stdout } = await runScript("host.ts", { args: ["resolve"], flags });
    const { name, reason, message } = JSON.parse(stdout) as Record<string, string>;
    expect({ name, reason }).toEqual({ name: "UnavailableError", reason: "permission" });
    expect(message).toMatch(/^Cannot resolve "localhost": .*--allow-net/);
  });

  test("diagnose writes one line to standard error, and nothing else", async () => {
    const said = await runScript("host.ts", { args: ["diagnose"], flags: FLAGS });
    expect(said).toMatchObject({ code: 0, stdout: "", stderr: "said in one line\n" });
  });

  test("diagnose does not throw when nobody reads standard error", async () => {
    const unread = await runScript("host.ts", {
      args: ["diagnose to nobody"],
      flags: FLAGS,
      under: ["sh", "-c", '{ "$@" 2>&1 >&3 | true; } 3>&1', "sh"],
    });
    expect(JSON.parse(unread.stdout)).toEqual({ isBroken: true });
    const closed = await runScript("host.ts", {
      args: ["diagnose when closed"],
      flags: FLAGS,
      under: ["sh", "-c", 'exec "$@" 2>&-', "sh"],
    });
    expect(closed).toMatchObject({ code: 0, stdout: "alive\n" });
  });
});
