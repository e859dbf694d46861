/** What results.json holds, and what can be said of it. */
import { median } from "./figures.ts";
import type { Verdict } from "./goals.ts";
import type { Workload } from "./workloads.ts";

/** What one round of one contestant came to: numbers by name. */
export type Figures = Readonly<Record<string, number>>;

/** A round of a workload. Latencies in microseconds, absent where there are none. */
export type Round = {
  readonly perSecond: number;
  readonly p50?: number;
  readonly p99?: number;
  readonly p999?: number;
  /** CPU time of the server for each message, in microseconds. */
  readonly cpuMicros: number;
  /** How that is shared. A tick is 10 ms: it takes those of several rounds to tell. */
  readonly userTicks: number;
  readonly systemTicks: number;
  /** CPU time of the server, of one core. */
  readonly serverPercent: number;
  /** CPU time of the load generator, of one core. */
  readonly loadPercent: number;
  readonly residentMiB: number;
};

/** All rounds of a contestant. */
export interface Entry<T extends Figures = Round> {
  readonly contestant: string;
  /** The entry that Spillway is compared with on this runtime. */
  readonly own?: string | undefined;
  readonly rounds: T[];
  /** For each message, by name, counted in a pass of its own. */
  syscalls?: Record<string, number> | undefined;
  /** How many messages there were in that pass. */
  traced?: number | undefined;
  /** Why there are no more rounds. */
  failure?: string;
  /** What it said on standard error, though it went on. */
  complaint?: string;
  /** What else is to be said of it, a line each. */
  notes?: string[];
}

/** A workload, as it was run. */
export interface WorkloadResult extends Omit<Workload, "isQuick" | "takesLong"> {
  readonly entries: Entry[];
}

/** A section, as it was measured. */
export interface SectionResult {
  readonly name: string;
  readonly title: string;
  /** The figures of a round that are shown, by name, each with what stands above its column. */
  readonly figures: Readonly<Record<string, string>>;
  readonly entries: readonly Entry<Figures>[];
}

/** A whole run. */
export interface Results {
  readonly date: string;
  readonly machine: Readonly<Record<string, string | number>>;
  readonly versions: Readonly<Record<string, string>>;
  readonly settings: Readonly<Record<string, string | number>>;
  readonly workloads: WorkloadResult[];
  readonly sections: SectionResult[];
  /** Set once everything is measured. */
  goals?: Verdict[];
}

/** What one entry has of something for each that another has: the median of the rounds' ratios. */
export function ratio<T extends Figures = Round>(
  entry: Entry<T> | undefined,
  other: Entry<T> | undefined,
  of: (round: T) => number,
): number | undefined {
  const pairs = Math.min(entry?.rounds.length ?? 0, other?.rounds.length ?? 0);
  if (entry === undefined || other === undefined || pairs === 0) return undefined;
  return median(entry.rounds.slice(0, pairs).map((round, i) => of(round) / of(other.rounds[i]!)));
}
