/** Which address is tried when, and who wins: RFC 8305 as a model, and connect() on a clock of the test's own. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { connect } from "../src/connector.ts";
import type { Connection } from "../src/connection.ts";
import { EventLoop } from "../src/loop.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { FakeNetwork, TestSignal } from "./support/fake_network.ts";
import { ManualHost } from "./support/hosts.ts";
import { checkAsync } from "./support/properties.ts";

expectNoLeak();

const STEP_MS = 10;
const PORT = 7;

/** What becomes of an address: it fails in connect(2) itself, answers after a while, or never. */
interface Fate {
  readonly family: 4 | 6;
  readonly end: "refused at once" | "refused" | "connected" | "silent";
  readonly afterMs: number;
}

interface World {
  readonly fates: readonly Fate[];
  readonly attemptDelayMs: number;
  /** 0 for none. */
  readonly timeoutMs: number;
  /** `undefined` for never. */
  readonly abortMs: number | undefined;
}

interface Outcome {
  /** Address and time of each attempt. */
  readonly attempts: readonly string[];
  /** `"connected to …"`, the code of an error, `"aborted"`, or `"pending"`, and when. */
  readonly end: string;
}

const time = (min: number, max: number) =>
  fc.integer({ min: min / STEP_MS, max: max / STEP_MS }).map((n) => n * STEP_MS);

const worlds: fc.Arbitrary<World> = fc.record({
  fates: fc.array(
    fc.record({
      family: fc.constantFrom(4, 6) as fc.Arbitrary<4 | 6>,
      end: fc.constantFrom("refused at once", "refused", "connected", "silent") as fc.Arbitrary<Fate["end"]>,
      afterMs: time(STEP_MS, 300),
    }),
    { minLength: 1, maxLength: 6 },
  ),
  attemptDelayMs: fc.oneof(fc.constant(0), time(10, 100)),
  timeoutMs: fc.oneof(fc.constant(0), time(10, 600)),
  abortMs: fc.option(time(0, 600), { nil: undefined, freq: 2 }),
});

const nameOf = ({ family }: Fate, i: number) => family === 4 ? `127.0.0.${i + 1}` : `fd00::${i + 1}`;
const addressOf = (fate: Fate, i: number) =>
  fate.family === 4 ? `${nameOf(fate, i)}:${PORT}` : `[${nameOf(fate, i)}]:${PORT}`;
const lastMs = ({ fates, attemptDelayMs }: World) => fates.length * (300 + attemptDelayMs) + 600;

/** What RFC 8305 wants, in steps: at one time first comes the abort, then answers, the timeout, the next address. */
function model({ fates, attemptDelayMs, timeoutMs, abortMs }: World): Outcome {
  const attempts: string[] = [];
  // Section 4: families take turns, beginning with that of the first address.
  const left = fates.map((fate, i) => ({ ...fate, address: addressOf(fate, i) }));
  const queue: typeof left = [];
  for (let family = left[0]!.family; left.length > 0; family = family === 4 ? 6 : 4) {
    const at = left.findIndex((fate) => fate.family === family);
    if (at !== -1) queue.push(...left.splice(at, 1));
  }
  const running: { address: string; end: string; endMs: number }[] = [];
  let nextMs = 0;
  for (let nowMs = 0; nowMs <= lastMs({ fates, attemptDelayMs, timeoutMs, abortMs }); nowMs += STEP_MS) {
    if (nowMs > 0 && nowMs === abortMs) return { attempts, end: `aborted at ${nowMs}` };
    for (const attempt of running.filter(({ endMs }) => endMs === nowMs)) {
      if (attempt.end === "connected") return { attempts, end: `connected to ${attempt.address} at ${nowMs}` };
      // Section 5: the next begins when the latest has had its time, or has failed.
      if (attempt === running.at(-1)) nextMs = nowMs;
      attempt.end = "over";
    }
    const start = () => {
      while (queue.length > 0 && nextMs <= nowMs) {
        const { address, end, afterMs } = queue.shift()!;
        attempts.push(`${address} at ${nowMs}`);
        if (end === "refused at once") continue;
        running.push({ address, end, endMs: end === "silent" ? Infinity : nowMs + afterMs });
        nextMs = attemptDelayMs === 0 ? Infinity : nowMs + attemptDelayMs;
      }
    };
    const hasFailed = running.at(-1)?.end === "over" || nowMs === 0;
    if (hasFailed) start();
    if (queue.length === 0 && running.every(({ end }) => end === "over")) {
      return { attempts, end: `ECONNREFUSED at ${nowMs}` };
    }
    if (nowMs === 0 && abortMs === 0) return { attempts, end: "aborted at 0" };
    if (nowMs === timeoutMs && timeoutMs > 0) return { attempts, end: `ETIMEDOUT at ${nowMs}` };
    start();
    if (queue.length === 0 && running.every(({ end }) => end === "over")) {
      return { attempts, end: `ECONNREFUSED at ${nowMs}` };
    }
  }
  return { attempts, end: "pending" };
}

/** Lets promises go on. */
const breathe = () => new Promise<void>((resolve) => setImmediate(resolve));

/** The same with connect(). Checks on the way that nothing is left behind. */
async function run(world: World): Promise<Outcome> {
  const { fates, attemptDelayMs, timeoutMs, abortMs } = world;
  const host = new ManualHost();
  const startMs = host.clockMs;
  const network = new FakeNetwork(() => host.clockMs - startMs);
  const loop = new EventLoop({}, network.sys, host);
  host.names.set("many.test", fates.map(nameOf));
  const fateOf = new Map(fates.map((fate, i) => [addressOf(fate, i), fate]));
  for (const [address, { end }] of fateOf) if (end === "refused at once") network.refusals.set(address, "ECONNREFUSED");
  const signal = new TestSignal();
  let end: string | undefined;
  let connection: Connection | undefined;
  let opened = 0;
  let nowMs = 0;
  connect({
    hostname: "many.test",
    port: PORT,
    loop,
    attemptDelayMs,
    timeoutMs,
    signal,
    open: () => void opened++,
  }).then(
    (connected) => {
      connection = connected;
      const { hostname, port } = connected.remoteAddress as { hostname: string; port: number };
      end = `connected to ${hostname.includes(":") ? `[${hostname}]` : hostname}:${port} at ${nowMs}`;
    },
    (error: { code?: string } | string) => end = `${typeof error === "string" ? error : error.code} at ${nowMs}`,
  );
  await breathe();
  for (; nowMs <= lastMs(world) && end === undefined; nowMs += STEP_MS) {
    host.clockMs = startMs + nowMs;
    if (nowMs === abortMs) signal.abort("aborted");
    for (const { address, fd, atMs } of [...network.attempts]) {
      const fate = fateOf.get(address)!;
      if (atMs + fate.afterMs !== nowMs || !network.open.has(fd)) continue;
      if (fate.end === "connected") network.answer(address);
      if (fate.end === "refused") network.answer(address, "ECONNREFUSED");
    }
    for (let turns = 0; loop.turn(0) && turns < 10; turns++);
    await breathe();
    if (end !== undefined) break;
  }
  const attempts = network.attempts.map(({ address, atMs }) => `${address} at ${atMs}`);
  const found = { attempts, end: end ?? "pending" };
  expect(opened).toBe(connection === undefined ? 0 : 1);
  if (end !== undefined) {
    expect(network.open.size, "sockets besides the winner's").toBe(connection === undefined ? 0 : 1);
    expect(signal.listeners.size, "listeners on the signal").toBe(0);
    connection?.close();
    const running = loop.run();
    await breathe();
    host.settle();
    expect(host.parker.parkedMs, "until the next timer").toBe(Infinity);
    expect(loop.poller.size, "sources besides the waker").toBe(1);
    loop.stop();
    host.settle();
    await running;
  }
  await loop.close();
  await breathe();
  expect(end, "what comes of it when the loop is closed, if nothing did before").toBeDefined();
  expect(network.open.size, "sockets once the loop is closed").toBe(0);
  expect(signal.listeners.size, "listeners once the loop is closed").toBe(0);
  return found;
}

test("connect() tries addresses as RFC 8305 wants, the first to answer wins, and nothing is left of the others", async () => {
  await checkAsync(fc.asyncProperty(worlds, async (world) => {
    expect(await run(world)).toEqual(model(world));
  }));
});
