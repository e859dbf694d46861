/** What connections cost that are silent. */
import { setTimeout as sleep } from "node:timers/promises";
import { Child } from "./child.ts";
import type { Contestant } from "./contestants.ts";
import { anew, inTurn } from "./in_turn.ts";
import type { Figures } from "./results.ts";
import type { Bench, Section } from "./sections.ts";

/** So many rounds fewer than elsewhere: each starts a server, and connects all over again. */
const ROUNDS_LESS = 2;
/** That talk before the silent ones come. */
const WARM_CLIENTS = 64;
/** For what a runtime does on its own time after something has happened. */
const SETTLE_MS = 200;
/** No client sends a second time. */
const NEVER_MS = 3_600_000;
const MESSAGE = { mode: "echo", bytes: 64, depth: 1, total: 0 } as const;

/** Memory, with so many that it shows. */
export const MEMORY: Section = idle({
  name: "memory",
  about: "Memory of 10,000 idle connections",
  connections: 10_000,
  isQuick: true,
  stretch: 1,
  title: (count) =>
    `Memory of ${count} idle connections, each answered once, for each: anonymous memory of the server's process (RssAnon ` +
    `in /proc/PID/status), less what\nit had before its first connection, or once ${WARM_CLIENTS} clients had talked and left. ` +
    `What the kernel has for sockets is not in it. A new server for every round`,
  figures: { kibEach: "KiB each", warmKibEach: "less warm", idlePercent: "idle CPU %" },
});

/** CPU of a server that has nothing to do, long enough to see it. */
export const REST: Section = idle({
  name: "rest",
  about: "CPU of a server with 64 idle connections",
  connections: 64,
  isQuick: false,
  stretch: 2,
  title: (count) => `CPU of a server with ${count} idle connections, in percent of one core`,
  figures: { idlePercent: "idle CPU %" },
});

interface IdleOptions {
  readonly name: string;
  readonly about: string;
  readonly connections: number;
  readonly isQuick: boolean;
  /** How much longer than others its rounds are. */
  readonly stretch: number;
  title(count: string): string;
  readonly figures: Readonly<Record<string, string>>;
}

function idle({ name, about, connections, isQuick, stretch, title, figures }: IdleOptions): Section {
  return {
    name,
    about,
    isQuick,
    async run(bench) {
      const count = Math.min(connections, bench.mostConnections);
      const rounds = Math.max(1, bench.rounds - ROUNDS_LESS);
      const ms = stretch * bench.roundMs;
      const contestants = bench.contestantsOf(name);
      const entries = await inTurn(
        name,
        contestants,
        rounds,
        (contestant) => anew((tell) => measure(contestant, count, ms, bench, tell)),
      );
      return { name, title: title(count.toLocaleString("en")), figures, entries };
    },
  };
}

async function measure(
  contestant: Contestant,
  count: number,
  ms: number,
  { generator, roundMs }: Bench,
  tell: (complaint: string) => void,
): Promise<Figures> {
  await using server = new Child(contestant.command("echo", 0));
  const port = Number(await server.line());
  await sleep(SETTLE_MS);
  const kib = server.anonymousKiB;
  await generator.run(server, port, {
    ...MESSAGE,
    clients: WARM_CLIENTS,
    idle: 0,
    interval: 0,
    warmup: 0,
    ms: roundMs,
  });
  await sleep(SETTLE_MS);
  const warmKiB = server.anonymousKiB;
  const silent = { clients: 1, idle: count - 1, interval: NEVER_MS, warmup: SETTLE_MS, ms };
  const load = await generator.run(server, port, { ...MESSAGE, ...silent });
  tell(server.complaint);
  return {
    kibEach: (load.anonymousKiB - kib) / count,
    warmKibEach: (load.anonymousKiB - warmKiB) / count,
    idlePercent: 100 * load.serverSeconds / load.seconds,
  };
}
