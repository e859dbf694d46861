/** What Spillway has set out to reach: CPU time of the server for one message, as a ratio. */

/** A ratio within a workload. */
export interface Goal {
  readonly workload: string;
  readonly contestant: string;
  readonly against: string;
  readonly atMost: number;
}

/** Ratios between contestants of one workload. */
export const GOALS: readonly Goal[] = [
  ...["Spillway on Deno", "Spillway on Bun"].flatMap((contestant): Goal[] => [
    { workload: "echo-64B-64", contestant, against: "C, epoll", atMost: 1.10 },
    { workload: "echo-64B-64", contestant, against: "node:net on Node", atMost: 0.65 },
    { workload: "broadcast", contestant, against: "C, epoll", atMost: 1.15 },
  ]),
  { workload: "echo-64B-64", contestant: "Spillway on Deno", against: "Deno.listen", atMost: 0.75 },
  { workload: "echo-64B-64", contestant: "Spillway on Bun", against: "Bun.listen", atMost: 0.85 },
];

/** A ratio between workloads of one contestant. */
export const SCALING = {
  title: "1,000 connections against 64, echo of 64 B",
  workload: "echo-64B-1000",
  against: "echo-64B-64",
  atMost: 1.15,
} as const;
