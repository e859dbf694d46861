/** What Spillway has set out to reach, and whether it has. */
import { ALLOCATION_CASES, SMALLEST_OBJECT_BYTES } from "./allocations.ts";
import { median } from "./figures.ts";
import { type Entry, type Figures, ratio, type Results } from "./results.ts";

/** What a goal is about, of a round. */
interface Figure {
  readonly title: string;
  of(round: Figures): number;
}

const BOUNDS = {
  "≤": (value: number, bound: number) => value <= bound,
  "<": (value: number, bound: number) => value < bound,
  "≥": (value: number, bound: number) => value >= bound,
  ">": (value: number, bound: number) => value > bound,
};

interface Goal {
  /** The workload or section. */
  readonly measure: string;
  readonly figure: Figure;
  readonly contestant: string;
  /** Whose figure it is divided by. Absent: the figure itself counts. */
  readonly against?: string;
  /** That of `against`, where it is another. */
  readonly againstIn?: string;
  readonly bound: readonly [keyof typeof BOUNDS, number];
}

/** What came of a goal. */
export interface Verdict {
  readonly measure: string;
  /** Figure, contestant and what it is compared with, in words. */
  readonly title: string;
  /** Absent where it was not measured. */
  readonly value?: number;
  readonly bound: string;
  readonly isReached: boolean;
}

const CPU: Figure = { title: "CPU", of: ({ cpuMicros }) => cpuMicros! };
const P50: Figure = { title: "p50", of: ({ p50 }) => p50! };
const THROUGHPUT: Figure = { title: "throughput", of: ({ perSecond }) => perSecond! };

const MEMORY: Figure = { title: "KiB each", of: ({ kibEach }) => kibEach! };
const WAKE: Figure = { title: "p50 µs", of: ({ p50 }) => p50! };
const IMPORT: Figure = { title: "ms", of: ({ importMs }) => importMs! };
const IDLE_CPU: Figure = { title: "idle CPU %", of: ({ idlePercent }) => idlePercent! };

/** Spillway's, and what it stands beside on the same runtime. */
const PAIRS = [
  ["Spillway on Deno", "Deno.listen"],
  ["Spillway on Bun", "Bun.listen"],
  ["Spillway on Node", "node:net on Node"],
] as const;
/** Those whose FFI takes buffers without a detour. */
const FAST = ["Spillway on Deno", "Spillway on Bun"];
const [C, NET] = ["C, epoll", "node:net on Node"];
const NODE = { contestant: "Spillway on Node", against: NET };

const GOALS: readonly Goal[] = [
  ...FAST.map((contestant): Goal => ({
    ...{ measure: "echo-64B-64", figure: CPU, contestant, against: C },
    bound: ["≤", 1.10],
  })),
  ...([
    ["Spillway on Deno", "Deno.listen", 0.75],
    ["Spillway on Bun", "Bun.listen", 0.85],
    ["Spillway on Deno", NET, 0.65],
    ["Spillway on Bun", NET, 0.65],
  ] as const).flatMap(([contestant, against, bound]): Goal[] => [
    { measure: "echo-64B-64", figure: CPU, contestant, against, bound: ["≤", bound] },
    { measure: "echo-64B-64", figure: THROUGHPUT, contestant, against, bound: [">", 1.00] },
  ]),
  ...["echo-64B-64", "echo-64B-1", "echo-64B-1000", "echo-16KiB-64"].map((measure): Goal => ({
    ...{ measure, figure: CPU, ...NODE },
    bound: ["<", 1.00],
  })),
  ...PAIRS.flatMap(([contestant, against]): Goal[] => [
    { measure: "echo-64B-1", figure: P50, contestant: `${contestant}, spin`, against, bound: ["≤", 0.70] },
    { measure: "echo-64B-1", figure: P50, contestant, against, bound: ["≤", 1.10] },
  ]),
  ...PAIRS.map(([contestant, against]): Goal => ({
    ...{ measure: "wake-ups", figure: CPU, contestant, against },
    bound: ["≤", 1.20],
  })),
  ...PAIRS.map(([contestant]): Goal => ({
    ...{ measure: "echo-64B-1000", figure: CPU, contestant, against: contestant, againstIn: "echo-64B-64" },
    bound: ["≤", 1.15],
  })),
  ...PAIRS.flatMap(([contestant]): Goal[] => [
    { measure: "memory", figure: MEMORY, contestant, bound: ["≤", 1.50] },
    ...PAIRS.map(([, against]): Goal => ({
      ...{ measure: "memory", figure: MEMORY, contestant, against },
      bound: ["<", 1.00],
    })),
  ]),
  ...["redis-1", "redis-16"].flatMap((measure) =>
    ["SET", "GET", "INCR", "LPUSH"].flatMap((test) =>
      PAIRS.map(([contestant]): Goal => ({
        ...{ measure, figure: { title: test, of: (round) => round[test]! }, contestant, against: "redis-server" },
        bound: ["≥", 1.00],
      }))
    )
  ),
  ...PAIRS.map(([contestant]): Goal => ({
    ...{ measure: "broadcast", figure: CPU, contestant, against: C },
    bound: ["≤", 1.15],
  })),
  ...PAIRS.map(([contestant]): Goal => ({ measure: "import", figure: IMPORT, contestant, bound: ["<", 5] })),
  ...PAIRS.map(([contestant]): Goal => ({ measure: "rest", figure: IDLE_CPU, contestant, bound: ["<", 1] })),
  ...PAIRS.map(([contestant]): Goal => ({ measure: "wake", figure: WAKE, contestant, bound: ["<", 100] })),
  ...PAIRS.flatMap(([contestant]) =>
    ALLOCATION_CASES.filter(({ isGoal }) => isGoal).map(({ name, title }): Goal => ({
      ...{ measure: "allocations", figure: { title, of: (round) => round[name]! }, contestant },
      bound: ["<", SMALLEST_OBJECT_BYTES],
    }))
  ),
];

/** What came of every goal, whether it was measured or not. */
export function judge({ workloads, sections }: Pick<Results, "workloads" | "sections">): Verdict[] {
  const entryOf = (measure: string, name: string): Entry<Figures> | undefined =>
    [...workloads, ...sections].find((each) => each.name === measure)
      ?.entries.find(({ contestant }) => contestant === name);
  return GOALS.map(({ measure, figure, contestant, against, againstIn = measure, bound: [relation, bound] }) => {
    const entry = entryOf(measure, contestant);
    const value = against === undefined
      ? middle(entry, figure)
      : ratio(entry, entryOf(againstIn, against), (round) => figure.of(round));
    const place = againstIn === measure ? "" : ` in ${againstIn}`;
    return {
      measure,
      title: `${figure.title}: ${contestant}${against === undefined ? "" : ` ÷ ${against}${place}`}`,
      ...value === undefined ? {} : { value },
      bound: `${relation} ${bound < 5 ? bound.toFixed(2) : bound}`,
      isReached: value !== undefined && BOUNDS[relation](value, bound),
    };
  });
}

function middle(entry: Entry<Figures> | undefined, figure: Figure): number | undefined {
  if (entry === undefined || entry.rounds.length === 0) return undefined;
  return median(entry.rounds.map((round) => figure.of(round)));
}
