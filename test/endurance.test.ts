/**
 * Slow, silent, stopped and very many peers: memory and work stay bounded, who is cut off is told why, and the others do
 * not notice. Time is the test's own, except where the peer is a process.
 */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test, vi } from "vitest";
import { realSyscalls, recv, send } from "../ffi/syscalls.ts";
import type { CloseReason } from "../src/close_reason.ts";
import { Connection } from "../src/connection.ts";
import { type ConnectionOptions, resolveConnection } from "../src/connection_options.ts";
import { EventLoop } from "../src/loop.ts";
import { serve, type Server, type ServerOptions } from "../src/server.ts";
import type { TimerNode } from "../src/timers.ts";
import { until } from "./support/conditions.ts";
import { disown, expectNoLeak, openNumbers } from "./support/descriptors.ts";
import { heapBytes } from "./support/heap.ts";
import { ManualHost } from "./support/hosts.ts";
import { turnUntil, turnUntilQuiet } from "./support/loops.ts";
import { byHand, connectPeers, ENDURANCE, type Hand, Peer, roomForPairs, streamBytes } from "./support/peers.ts";
import { expectNoProcesses, start, type TestProcess, TICKS_PER_SECOND } from "./support/processes.ts";
import { seededRandom } from "./support/random.ts";
import { bytes, socketPair } from "./support/sockets.ts";

vi.setConfig({ testTimeout: 90_000 * ENDURANCE });
expectNoLeak();
expectNoProcesses();

const KIB = 1024;

describe.each(["level", "edge"] as const)("a slow reader, %s-triggered,", (trigger) => {
  const HIGH = 64 * KIB;
  const CHUNK = 10_000;
  const STREAM = 3 * KIB * KIB * ENDURANCE;
  /** Of a peer that reads slowly: or the kernel takes megabytes on its behalf. */
  const BUFFER = 64 * KIB;
  const OTHERS = 8;
  const QUESTION = "how are you";

  interface Life {
    written: number;
    mostQueued: number;
    reason: CloseReason | undefined;
    error: unknown;
  }

  /** @returns What `write` said. */
  function writeOn(connection: Connection<Life>, length: number): boolean {
    const life = connection.data;
    const chunk = streamBytes(length, life.written);
    life.written += chunk.byteLength;
    const hasRoom = connection.write(chunk);
    life.mostQueued = Math.max(life.mostQueued, connection.queuedBytes);
    return hasRoom;
  }

  /** Sends the stream to who asks with one byte, as fast as `write` allows; echoes everything else. */
  const handlers: ServerOptions<Life> = {
    trigger,
    highWaterBytes: HIGH,
    open(connection) {
      connection.data = { written: 0, mostQueued: 0, reason: undefined, error: undefined };
    },
    data(connection, chunk) {
      if (chunk.byteLength === 1) this.drain!(connection);
      else connection.write(chunk);
    },
    drain(connection) {
      while (connection.data.written < STREAM) {
        if (!writeOn(connection, Math.min(CHUNK, STREAM - connection.data.written))) return;
      }
      connection.end();
    },
    close({ data }, error, reason) {
      data.reason = reason;
      data.error = error;
    },
  };

  /** Other clients of the same server, which ask and are answered, whenever they are told to go on. */
  function conversations(hand: Hand<Life>): { goOn: () => void; expectWell: () => void } {
    const peers = connectPeers(hand, OTHERS);
    return {
      expectWell: () => expect(peers.filter(({ ending }) => ending !== undefined)).toEqual([]),
      goOn() {
        for (const peer of peers) peer.send(QUESTION);
        hand.loop.turn(0);
        const before = peers.map(({ received }) => received);
        turnUntil(hand.loop, () => {
          for (const peer of peers) peer.read();
          return peers.every((peer, i) => peer.received === before[i]! + QUESTION.length || peer.ending !== undefined);
        }, "an answer");
      },
    };
  }

  /** The connection of the only peer there is. */
  function onlyConnection({ server }: Hand<Life>): Connection<Life> {
    expect(server.connections.size).toBe(1);
    return [...server.connections][0]!;
  }

  test("gets every byte in order, and the queue is never longer than the mark and one write", () =>
    byHand(handlers, (hand) => {
      const [peer] = connectPeers(hand, 1, BUFFER) as [Peer];
      const { data } = onlyConnection(hand);
      const others = conversations(hand);
      peer.send("!");
      let reads = 0;
      turnUntil(hand.loop, () => {
        while (peer.read(KIB) > 0) {
          hand.loop.turn(0);
          if (reads++ % 32 === 0) others.goOn();
        }
        return peer.ending !== undefined;
      }, "the end of the stream");
      expect(peer).toMatchObject({ received: STREAM, wrongAt: undefined, ending: "end" });
      peer.close();
      turnUntil(hand.loop, () => data.reason !== undefined, "the end of a connection");
      expect(data).toMatchObject({ written: STREAM, reason: "end" });
      expect(data.mostQueued).toBeGreaterThanOrEqual(HIGH);
      expect(data.mostQueued).toBeLessThan(HIGH + CHUNK);
      others.expectWell();
    }));

  /** Writes more each millisecond than `readOn` reads, whatever `write` says, until the connection is over. */
  function overrun(hand: Hand<Life>, readOn: (connection: Connection<Life>) => void): void {
    const connection = onlyConnection(hand);
    const others = conversations(hand);
    turnUntil(hand.loop, () => {
      for (let rounds = 0; rounds < 32 && connection.state === "open"; rounds++) {
        hand.host.clockMs++;
        writeOn(connection, 2 * KIB);
        hand.loop.turn(0);
        if (connection.state === "open") readOn(connection);
      }
      others.goOn();
      if (connection.state === "open") readOn(connection);
      return connection.state === "closed";
    }, "the end of a connection");
    others.goOn();
    others.expectWell();
    expect(hand.server.connections.size).toBe(OTHERS);
  }

  /** Reads to the end, which must be a reset after a part of the stream. */
  function expectCutOff({ loop }: Hand<Life>, peer: Peer, { written, reason, error }: Life, limit: string): void {
    turnUntil(loop, () => peer.read() === 0 && peer.ending !== undefined, "the end at the peer");
    expect(peer).toMatchObject({ ending: "reset", wrongAt: undefined });
    expect(peer.received).toBeLessThan(written);
    expect(reason).toBe("slow reader");
    expect(String(error)).toContain(limit);
  }

  test("is cut off beyond maxQueuedBytes with a reset, and the others go on", () =>
    byHand({ ...handlers, drain: undefined, maxQueuedBytes: 4 * HIGH }, (hand) => {
      const [peer] = connectPeers(hand, 1, BUFFER) as [Peer];
      const { data } = onlyConnection(hand);
      overrun(hand, () => peer.read(KIB));
      // What is measured after the last write is what is left of it: nothing.
      expect(data.mostQueued).toBeLessThanOrEqual(4 * HIGH);
      expect(data.mostQueued).toBeGreaterThan(4 * HIGH - 4 * KIB);
      expectCutOff(hand, peer, data, `maxQueuedBytes is ${4 * HIGH}`);
    }));

  test("is cut off with a reset once drain takes longer than slowReaderMs, and the others go on", () =>
    byHand({ ...handlers, drain: undefined, slowReaderMs: 100 }, (hand) => {
      const [peer] = connectPeers(hand, 1, BUFFER) as [Peer];
      const { data } = onlyConnection(hand);
      let overSinceMs: number | undefined;
      overrun(hand, ({ queuedBytes }) => {
        if (queuedBytes <= HIGH / 4) overSinceMs = undefined; // the low-water mark
        else if (queuedBytes >= HIGH) overSinceMs ??= hand.host.clockMs;
        peer.read(KIB);
      });
      expect(hand.host.clockMs - overSinceMs!).toBe(100);
      expectCutOff(hand, peer, data, "slowReaderMs");
    }));
});

describe.each(["level", "edge"] as const)("clients that take their time, %s-triggered,", (trigger) => {
  const STEP_MS = 10;
  const STEPS = 500 * ENDURANCE;
  /** Of each kind. */
  const COUNT = 25;
  const MESSAGE_BYTES = 8;
  const LIMITS = { handshakeTimeoutMs: 300, readTimeoutMs: 500, idleTimeoutMs: 2_000 };

  /** How many bytes a client sends at a step, the first of which is 0; and what becomes of it, if anything. */
  const KINDS:
    readonly (readonly [(step: number) => number, end?: { limit: keyof typeof LIMITS; fromStep: number }])[] = [
      // A byte every 40 ms, which is never a message
      [(step) => step % 4 === 3 ? 1 : 0, { limit: "readTimeoutMs", fromStep: 3 }],
      // As slow, with a message every 320 ms
      [(step) => step % 4 === 3 ? 1 : 0],
      // A message each 1.5 s
      [(step) => step % 150 === 0 ? MESSAGE_BYTES : 0],
      // One message and nothing more
      [(step) => step === 7 ? MESSAGE_BYTES : 0, { limit: "idleTimeoutMs", fromStep: 7 }],
      // A message and the beginning of the next
      [(step) => step === 20 ? MESSAGE_BYTES + 3 : 0, { limit: "readTimeoutMs", fromStep: 20 }],
      // Three halves of a message, the last one late: its time begins when the first message is complete
      [
        (step) => [0, 40, 80].includes(step) ? MESSAGE_BYTES / 2 : 0,
        { limit: "readTimeoutMs", fromStep: 80 },
      ],
      [() => 0, { limit: "handshakeTimeoutMs", fromStep: 0 }],
    ];

  interface Life {
    readonly kind: number;
    bytes: number;
    end: { step: number; reason: CloseReason; limit: string } | undefined;
  }

  test("are cut off by the limit they exceed, at its time, and those who complete messages never", () => {
    const lives: Life[] = [];
    let [step, receivedBytes, sentBytes] = [0, 0, 0];
    const handlers: ServerOptions<Life> = {
      ...LIMITS,
      trigger,
      open(connection) {
        connection.data = { kind: lives.length % KINDS.length, bytes: 0, end: undefined };
        lives.push(connection.data);
      },
      data(connection, { byteLength }) {
        const life = connection.data;
        receivedBytes += byteLength;
        life.bytes += byteLength;
        // The first kind sends no messages, whatever the number of its bytes.
        if (life.kind === 0 || life.bytes < MESSAGE_BYTES) return;
        life.bytes %= MESSAGE_BYTES;
        connection.progress(life.bytes);
      },
      close({ data }, error, reason) {
        data.end = { step, reason, limit: /\((\w+)\)/.exec(String(error))?.[1] ?? String(error) };
      },
    };
    return byHand(handlers, (hand) => {
      const peers = connectPeers(hand, COUNT * KINDS.length);
      for (; step < STEPS; hand.host.clockMs += STEP_MS, step++) {
        hand.loop.turn(0);
        for (const [i, peer] of peers.entries()) {
          const count = lives[i]!.end === undefined ? KINDS[i % KINDS.length]![0](step) : 0;
          if (count === 0) continue;
          peer.send(streamBytes(count, 0));
          sentBytes += count;
        }
        turnUntil(hand.loop, () => receivedBytes === sentBytes, "what was sent");
      }
      for (const { kind, end } of lives) {
        const expected = KINDS[kind]![1];
        if (expected === undefined) expect(end).toBe(undefined);
        else {
          const { limit, fromStep } = expected;
          expect(end).toEqual({ step: fromStep + LIMITS[limit] / STEP_MS, reason: "timeout", limit });
        }
      }
      for (const [i, peer] of peers.entries()) {
        peer.read();
        expect(peer.ending !== undefined).toBe(lives[i]!.end !== undefined);
      }
    });
  });
});

describe.each(["level", "edge"] as const)("a client whose process is stopped, %s-triggered,", (trigger) => {
  const HIGH = 256 * KIB;
  const CHUNK = 64 * KIB;
  /** More than kernels take on behalf of one that does not read. */
  const STREAM = 32 * KIB * KIB;
  const IDLE_MS = 400;

  interface Scene {
    readonly client: TestProcess;
    readonly connection: Connection;
    /** How often epoll was asked so far. */
    readonly waits: () => number;
    readonly reasons: CloseReason[];
  }

  /** A client that is stopped before the server begins to send it more than anybody keeps. */
  async function stopped(options: ConnectionOptions, scene: (scene: Scene) => Promise<void>): Promise<void> {
    let waits = 0;
    const loop = new EventLoop({}, {
      ...realSyscalls,
      epollWait(...args) {
        waits++;
        return realSyscalls.epollWait(...args);
      },
    });
    const reasons: CloseReason[] = [];
    let written = 0;
    const stream = (connection: Connection): void => {
      while (written < STREAM) {
        written += CHUNK;
        if (!connection.write(streamBytes(CHUNK, 0))) return;
      }
      connection.end();
    };
    const close = (_: Connection, __: unknown, reason: CloseReason) => void reasons.push(reason);
    const server = serve({ ...options, trigger, highWaterBytes: HIGH, loop, drain: stream, close });
    const running = loop.run();
    const client = start("test/fixtures/reader.ts", [`${portOf(server)}`]);
    try {
      await until(() => server.connections.size === 1, "the client");
      expect(await client.line(0)).toBe("connected");
      client.kill("SIGSTOP");
      await until(() => / T /.test(readFileSync(`/proc/${client.pid}/stat`, "utf8")), "the client stand still");
      const [connection] = server.connections;
      stream(connection!);
      await scene({ client, connection: connection!, waits: () => waits, reasons });
    } finally {
      await server.stop({ timeoutMs: 0 });
      loop.stop();
      await running;
      await loop.close();
    }
  }

  test("is cut off after writeTimeoutMs, and sees a reset when it goes on", () =>
    stopped({ writeTimeoutMs: 100 }, async ({ client, reasons }) => {
      await until(() => reasons.length > 0, "the end of the connection");
      expect(reasons).toEqual(["timeout"]);
      client.kill("SIGCONT");
      expect(await client.line(1)).toMatch(/^reset \d+$/);
    }));

  test("is kept where nothing limits it, costs no turn, and gets the whole stream when it goes on", () =>
    stopped({}, async ({ client, connection, waits, reasons }) => {
      let [seen, sinceMs] = [connection.bytesSent, performance.now()];
      await until(() => {
        if (connection.bytesSent !== seen) [seen, sinceMs] = [connection.bytesSent, performance.now()];
        return connection.queuedBytes >= HIGH && performance.now() - sinceMs > IDLE_MS;
      }, "the kernel full");
      const [waitsBefore, ticksBefore] = [waits(), ownTicks()];
      await sleep(IDLE_MS);
      expect(waits() - waitsBefore).toBeLessThanOrEqual(2);
      expect(ownTicks() - ticksBefore).toBeLessThan(TICKS_PER_SECOND * IDLE_MS / 1_000 / 2);
      expect(connection).toMatchObject({ state: "open", bytesSent: seen });
      expect(connection.queuedBytes).toBeLessThan(HIGH + CHUNK);
      client.kill("SIGCONT");
      expect(await client.line(1)).toBe(`end ${STREAM}`);
      await until(() => reasons.length > 0, "the end of the connection");
      expect(reasons).toEqual(["end"]);
    }));
});

function portOf({ address }: Server): number {
  return address.transport === "tcp" ? address.port : 0;
}

/** CPU time of all threads of this process, in ticks. */
function ownTicks(): number {
  const stat = readFileSync("/proc/self/stat", "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

test("connects and resets leave nothing behind: descriptors, sources, timers, memory", async () => {
  const TOTAL = 10_000 * ENDURANCE;
  const QUARTERS = 4;
  const BATCH = 50;
  const MINUTE_MS = 60_000;
  /** What garbage collectors leave undone differs by more than a byte or two for each connection. */
  const HEAP_BYTES_EACH = 40;

  /** What a client does before it resets; none reads. */
  const ACTS = ["go", "ask little", "say nothing", "ask for much"];
  const MUCH = bytes(256 * KIB);
  const reasons: Partial<Record<CloseReason, number>> = {};
  let told = 0;
  const handlers: ServerOptions = {
    ...{ idleTimeoutMs: MINUTE_MS, readTimeoutMs: MINUTE_MS, writeTimeoutMs: MINUTE_MS },
    ...{ handshakeTimeoutMs: MINUTE_MS, slowReaderMs: MINUTE_MS, highWaterBytes: 64 * KIB },
    data(connection, chunk) {
      told++;
      connection.write(chunk.byteLength === ACTS[3]!.length ? MUCH : chunk);
    },
    close(_, __, reason) {
      reasons[reason] = (reasons[reason] ?? 0) + 1;
    },
  };
  const quarters: { descriptors: number; sources: number; heap: number }[] = [];
  await byHand(handlers, (hand) => {
    const { loop, server, host, errors } = hand;
    const timers: TimerNode[] = [];
    const { schedule } = loop;
    loop.schedule = (timer, ms) => {
      schedule.call(loop, timer, ms);
      timers.push(timer);
    };

    const before = { descriptors: openNumbers().length, sources: loop.poller.size };
    function batch(): void {
      const peers = Array.from({ length: BATCH }, () => new Peer(server.address, 16 * KIB));
      told = 0;
      for (const [i, peer] of peers.entries()) {
        if (ACTS[i % ACTS.length] === "go") peer.reset(); // before it is accepted
        if (ACTS[i % ACTS.length]!.startsWith("ask")) peer.send(ACTS[i % ACTS.length]!);
      }
      const asking = peers.filter((_, i) => ACTS[i % ACTS.length]!.startsWith("ask")).length;
      turnUntil(loop, () => told === asking, "what was asked");
      expect(loop.queueBudget.queuedBytes).toBeGreaterThan(64 * KIB); // some are told more than goes
      for (const [i, peer] of peers.entries()) if (ACTS[i % ACTS.length] !== "go") peer.reset();
      turnUntil(loop, () => server.connections.size === 0, "the end of all connections");
      expect(timers.length).toBeGreaterThanOrEqual(BATCH);
      expect(timers.filter(({ index }) => index !== -1)).toEqual([]);
      timers.length = 0;
      host.clockMs++;
    }

    const startedAtMs = performance.now();
    for (let quarter = 0; quarter < QUARTERS; quarter++) {
      for (let i = 0; i < TOTAL / QUARTERS / BATCH; i++) batch();
      turnUntilQuiet(loop);
      quarters.push({ descriptors: openNumbers().length, sources: loop.poller.size, heap: heapBytes() });
    }
    console.log(
      `${TOTAL} connects and resets, ${Math.round(1_000 * TOTAL / (performance.now() - startedAtMs))} a second; ` +
        `heap after each quarter: ${quarters.map(({ heap }) => (heap / KIB).toFixed(0)).join(", ")} KiB`,
    );
    expect(quarters).toMatchObject(quarters.map(() => before));
    expect(loop.queueBudget.queuedBytes).toBe(0);
    expect(errors).toEqual([]);
  });
  expect(reasons).toEqual({ reset: TOTAL });
  expect(quarters.at(-1)!.heap - quarters[0]!.heap).toBeLessThan(HEAP_BYTES_EACH * TOTAL * (QUARTERS - 1) / QUARTERS);
});

describe("what timeouts cost", () => {
  const MINUTE_MS = 60_000;
  const ask = streamBytes(64, 0);
  const target = bytes(64 * KIB);

  interface Load {
    readonly timeouts: ConnectionOptions;
    readonly connections: number;
    /** On each of them, in `elapsedMs` together. */
    readonly messages: number;
    readonly elapsedMs: number;
    readonly answerBytes: number;
  }

  /** Lets peers ask and be answered. @returns How many timers were set for each connection. */
  async function timersSet({ timeouts, messages, elapsedMs, answerBytes, ...load }: Load): Promise<number> {
    const connections = roomForPairs(load.connections);
    const host = new ManualHost();
    const errors: unknown[] = [];
    const loop = new EventLoop({ onError: (error) => void errors.push(error) }, realSyscalls, host);
    let set = 0;
    const { schedule } = loop;
    loop.schedule = (timer, ms) => {
      set++;
      schedule.call(loop, timer, ms);
    };
    const answer = bytes(answerBytes);
    const settings = resolveConnection<undefined>(
      timeouts,
      {
        data(connection) {
          connection.progress();
          connection.write(answer);
        },
        close: (_, error) => void (error === undefined || errors.push(error)),
      },
      (error) => loop.report(error),
    );
    const pairs = Array.from({ length: connections }, () => {
      const [peer, fd] = socketPair();
      return { peer, connection: new Connection(loop, disown(fd), settings) };
    });
    try {
      for (let i = 0; i < messages; i++) {
        host.clockMs += elapsedMs / messages;
        for (const { peer } of pairs) send(peer, ask);
        let missing = connections * answerBytes;
        turnUntil(loop, () => {
          for (const { peer } of pairs) for (let count; (count = recv(peer, target)) > 0;) missing -= count;
          return missing === 0 || errors.length > 0;
        }, "every answer");
      }
    } finally {
      for (const { connection } of pairs) connection.close();
      turnUntilQuiet(loop);
      await loop.close();
    }
    expect(errors).toEqual([]);
    expect(set % connections).toBe(0);
    return set / connections;
  }

  const long = {
    ...{ idleTimeoutMs: MINUTE_MS, readTimeoutMs: MINUTE_MS, writeTimeoutMs: MINUTE_MS },
    ...{ handshakeTimeoutMs: MINUTE_MS, slowReaderMs: MINUTE_MS },
  };

  test("is one timer for each of a thousand connections, not one for each message", async () => {
    const load = { timeouts: long, elapsedMs: 1_000, answerBytes: 64 };
    expect(await timersSet({ ...load, connections: 1_000, messages: 100 })).toBe(1);
  });

  test("is one timer where each answer is more than the kernel takes at once", async () => {
    const load = { timeouts: { ...long, highWaterBytes: 64 * KIB }, elapsedMs: 1_000, answerBytes: 512 * KIB };
    expect(await timersSet({ ...load, connections: 20, messages: 50 })).toBe(1);
  });

  test("is a timer now and then where they are short, however many messages there are", async () => {
    const timeouts = {
      ...{ idleTimeoutMs: 300, readTimeoutMs: 100, writeTimeoutMs: 100, handshakeTimeoutMs: 200, slowReaderMs: 150 },
      highWaterBytes: 64 * KIB,
    };
    for (const answerBytes of [64, 512 * KIB]) {
      const load = { timeouts, connections: 10, elapsedMs: 3_000, answerBytes };
      const few = await timersSet({ ...load, messages: 60 });
      const many = await timersSet({ ...load, messages: 600 });
      // The shortest is set, runs, and leaves a longer one behind, which the next message replaces.
      const most = 2 + 2 * load.elapsedMs / timeouts.readTimeoutMs;
      expect(few).toBeLessThanOrEqual(most);
      expect(many).toBeLessThanOrEqual(most);
    }
  });
});

describe("the loop's maxQueuedBytes", () => {
  const PEERS = 50;
  const CAP = 4 * KIB * KIB;

  test("cuts off the largest of many queues, one after the other, and keeps the sum under the cap", () => {
    const random = seededRandom("the loop's maxQueuedBytes");
    const cut: { connection: Connection<number>; reason: CloseReason; error: unknown }[] = [];
    const handlers: ServerOptions<number> = {
      highWaterBytes: KIB,
      open: (connection) => void (connection.data = 0),
      close: (connection, error, reason) => void cut.push({ connection, error, reason }),
    };
    return byHand(handlers, (hand) => {
      const { server, loop } = hand;
      const room = roomForPairs(PEERS);
      const peers = connectPeers(hand, room, 16 * KIB);
      const all = [...server.connections];
      const queues = () => all.map(({ queuedBytes }) => queuedBytes);
      const sum = () => queues().reduce((total, each) => total + each, 0);
      // Until the kernel takes no more: from here on what is written is what is queued.
      for (const connection of all) while (connection.queuedBytes === 0) connection.write(streamBytes(32 * KIB, 0));
      turnUntilQuiet(loop);
      let cuts = 0;
      for (let writes = 0; cuts < room / 2; writes++) {
        const open = all.filter(({ state }) => state === "open");
        const connection = open[random(open.length)]!;
        const length = 1 + random(65_000);
        const before = queues();
        connection.write(streamBytes(length, 0));
        const expected = [...before];
        expected[all.indexOf(connection)]! += length;
        for (let total = expected.reduce((one, other) => one + other, 0); total > CAP;) {
          const largest = Math.max(...expected);
          expected[expected.indexOf(largest)] = 0;
          total -= largest;
          cuts++;
        }
        expect(queues()).toEqual(expected);
        expect(loop.queueBudget.queuedBytes).toBe(sum());
      }
      turnUntil(loop, () => cut.length === cuts, "the close handlers");
      for (const { connection, reason, error } of cut) {
        expect(reason).toBe("slow reader");
        expect(String(error)).toContain(`${CAP} (maxQueuedBytes)`);
        const peer = peers[all.indexOf(connection)]!;
        turnUntil(loop, () => peer.read() === 0 && peer.ending !== undefined, "a peer's end");
        expect(peer.ending).toBe("reset");
      }
      for (const [i, peer] of peers.entries()) {
        if (all[i]!.state !== "open") continue;
        while (peer.read() > 0);
        expect(peer.ending).toBe(undefined);
      }
    }, { maxQueuedBytes: CAP });
  });
});
