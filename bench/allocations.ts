/** What servers allocate for a message. */
import { Child } from "./child.ts";
import type { Contestant } from "./contestants.ts";
import { anew, inTurn } from "./in_turn.ts";
import type { Entry, Figures } from "./results.ts";
import type { Bench, Section } from "./sections.ts";
import type { LoadMode, ServerMode } from "./workloads.ts";

/** On V8 and on JavaScriptCore: with less for each, there is none for each. */
export const SMALLEST_OBJECT_BYTES = 16;

interface AllocationCase {
  readonly name: string;
  readonly title: string;
  readonly mode: ServerMode;
  readonly load: LoadMode;
  readonly clients: number;
  readonly bytes: number;
  readonly depth: number;
  /** Whether only Spillway's server has the mode. */
  readonly isOurs: boolean;
  /** Whether nothing is to be allocated. */
  readonly isGoal: boolean;
}

const ECHO = { mode: "echo", load: "echo", clients: 64, depth: 1, isOurs: false, isGoal: true } as const;
const BROADCAST = { mode: "broadcast", load: "broadcast", clients: 1000 } as const;

/** The last shows that what is allocated is seen. */
export const ALLOCATION_CASES: readonly AllocationCase[] = [
  { ...ECHO, name: "echo", title: "echo of 64 B", bytes: 64 },
  { ...ECHO, name: "large", title: "echo of 16 KiB", bytes: 16 * 1024 },
  { ...ECHO, name: "pipelined", title: "16 small writes", mode: "answers", bytes: 64, depth: 16, isOurs: true },
  { ...ECHO, ...BROADCAST, name: "broadcast", title: "broadcast of 256 B", bytes: 256 },
  { ...ECHO, name: "planted", title: "planted object", mode: "planted", bytes: 64, isOurs: true, isGoal: false },
];

/** Until what is hot is compiled, in rounds. */
const WARM_ROUNDS = 6;
/** Less than that, for a message, is not worth a line. */
const NOTED_BYTES = 1;

/** The heap-allocation profile of the hot path. */
export const ALLOCATIONS: Section = {
  name: "allocations",
  about: "What a server allocates for a message",
  isQuick: false,
  async run(bench) {
    const contestants = bench.contestantsOf("allocations")
      .filter(({ countingCommand }) => countingCommand !== undefined);
    const entries = await inTurn(
      "allocations",
      contestants,
      1,
      (contestant, entry) => anew((tell) => profile(contestant, entry, bench, tell)),
    );
    const title = "Bytes that a server allocates for a message on its JavaScript heap: by function, as V8's sampling " +
      "profiler has them; on Bun, what a heap that is\nnever collected grows by. The last column makes one small object " +
      "for each message, and shows that it is seen";
    const figures = Object.fromEntries(ALLOCATION_CASES.map(({ name, title }) => [name, title]));
    return { name: "allocations", title, figures, entries };
  },
};

/** All cases of one contestant; Spillway's with the functions. */
async function profile(
  contestant: Contestant,
  entry: Entry<Figures>,
  bench: Bench,
  tell: (complaint: string) => void,
): Promise<Figures> {
  const isSpillway = contestant.own !== undefined;
  const figures: Record<string, number> = {};
  for (const each of ALLOCATION_CASES.filter(({ isOurs }) => isSpillway || !isOurs)) {
    const sites = await measure(contestant, each, bench, tell);
    figures[each.name] = sites.reduce((sum, [, bytes]) => sum + bytes, 0);
    const noted = sites.filter(([site, bytes]) => site !== "" && bytes >= NOTED_BYTES);
    if (!isSpillway || noted.length === 0) continue;
    (entry.notes ??= []).push(
      `${each.title}: ${noted.map(([site, bytes]) => `${bytes.toFixed(1)} ${site}`).join(", ")}`,
    );
  }
  return figures;
}

/** Bytes for a message by the function that allocates them, most first. */
async function measure(
  contestant: Contestant,
  { mode, load: loadMode, clients, bytes, depth }: AllocationCase,
  { generator, roundMs, mostConnections }: Bench,
  tell: (complaint: string) => void,
): Promise<(readonly [site: string, bytes: number])[]> {
  await using server = new Child(contestant.countingCommand!(mode));
  const port = Number(await server.line());
  const plan = { mode: loadMode, idle: 0, bytes, depth, interval: 0, total: 0, ms: roundMs };
  let sites: Record<string, number> = {};
  const most = { clients: Math.min(clients, mostConnections), warmup: WARM_ROUNDS * roundMs };
  const load = await generator.run(server, port, { ...plan, ...most }, async () => {
    server.say("begin");
    await server.line();
    return async () => {
      server.say("end");
      sites = JSON.parse(await server.line());
    };
  });
  tell(server.complaint);
  return Object.entries(sites).map(([site, all]) => [site, all / load.messages] as const).sort((a, b) => b[1] - a[1]);
}
