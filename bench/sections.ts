import { ALLOCATIONS } from "./allocations.ts";
import type { Contestant } from "./contestants.ts";
import type { Generator } from "./generator.ts";
import { MEMORY, REST } from "./idle.ts";
import { REDIS, REDIS_LARGE, REDIS_PIPELINED } from "./redis.ts";
import type { SectionResult } from "./results.ts";
import { IMPORT } from "./import.ts";
import { WAKE } from "./wake.ts";

/** What sections are measured with. */
export interface Bench {
  readonly generator: Generator;
  readonly rounds: number;
  readonly roundMs: number;
  readonly mostConnections: number;
  /** False: as if there were no compiler. */
  readonly mayCompile: boolean;
  /** The servers that are measured in a section. */
  contestantsOf(section: string): Contestant[];
  /** Those of a section's own contestants that are measured. */
  chosen<T extends { readonly name: string }>(all: readonly T[]): T[];
}

/** What is measured beside the workloads, with figures of its own; as they are, in turn. */
export interface Section {
  readonly name: string;
  /** What is measured, in a few words. */
  readonly about: string;
  /** Whether `--quick` has it. */
  readonly isQuick: boolean;
  /** Who is measured, where it is not the servers of the workloads. */
  own?(mayCompile: boolean): readonly { readonly name: string }[];
  run(bench: Bench): Promise<SectionResult>;
}

/** In the order in which they are measured and shown. */
export const SECTIONS: readonly Section[] = [
  MEMORY,
  REDIS,
  REDIS_PIPELINED,
  REDIS_LARGE,
  IMPORT,
  REST,
  WAKE,
  ALLOCATIONS,
];
