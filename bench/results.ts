/** What results.json holds, and what can be said of it. */
import { median } from "./figures.ts";
import type { Workload } from "./workloads.ts";

/** One round of one contestant. Latencies in microseconds, CPU time in microseconds for each message. */
export interface Round {
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly userMicros: number;
  readonly systemMicros: number;
  /** CPU time of the server, of one core. */
  readonly serverPercent: number;
  /** CPU time of the load generator, of one core. */
  readonly loadPercent: number;
  readonly residentMiB: number;
}

/** All rounds of a contestant in a workload. */
export interface Entry {
  readonly contestant: string;
  /** The entry that Spillway is compared with on this runtime. */
  readonly own?: string | undefined;
  readonly rounds: Round[];
  /** For each message, by name, counted in a pass of its own. */
  syscalls?: Record<string, number> | undefined;
  /** Why there are no more rounds. */
  failure?: string;
}

/** A workload, as it was run. */
export interface WorkloadResult extends Omit<Workload, "isQuick"> {
  readonly entries: Entry[];
}

/** A whole run. */
export interface Results {
  readonly date: string;
  readonly machine: Readonly<Record<string, string | number>>;
  readonly versions: Readonly<Record<string, string>>;
  readonly settings: Readonly<Record<string, string | number>>;
  readonly workloads: WorkloadResult[];
}

/** CPU time of the server for one message, user and system together. */
export function cpuMicros({ userMicros, systemMicros }: Round): number {
  return userMicros + systemMicros;
}

/** How much CPU one entry takes for each that another takes: the median of the rounds' ratios. */
export function cpuRatio(entry: Entry, other: Entry | undefined): number | undefined {
  const pairs = Math.min(entry.rounds.length, other?.rounds.length ?? 0);
  if (other === undefined || pairs === 0) return undefined;
  return median(entry.rounds.slice(0, pairs).map((round, i) => cpuMicros(round) / cpuMicros(other.rounds[i]!)));
}
