import { fileURLToPath } from "node:url";
import { RUN, type Runtime } from "../runtimes.ts";

/** A server that is measured. */
export interface Contestant {
  /** The runtime, a colon, and what it is. */
  readonly name: string;
  readonly command: readonly string[];
  /** Whether it announces events of overload, so that they can be counted. */
  readonly isSpillway: boolean;
  /** Whether it is measured at every limit, and with many rounds; the others once. */
  readonly isMain: boolean;
}

const SPILLWAY = fileURLToPath(new URL("./server.ts", import.meta.url));
const SERVERS = fileURLToPath(new URL("../servers/", import.meta.url));

/** What distinguishes Spillway's contestants of one runtime. */
const VARIANTS = [
  { variant: "level", isMain: true, options: { trigger: "level" } },
  { variant: "edge", isMain: true, options: { trigger: "edge" } },
  { variant: "farewell", isMain: false, options: { overload: { refuse: "full, try again later\n" } } },
  { variant: "EPOLLEXCLUSIVE", isMain: false, options: { exclusive: true } },
  { variant: "2 × SO_REUSEPORT", isMain: false, options: { reusePort: true, listeners: 2 } },
];

const PEERS: readonly (readonly [Runtime, what: string, script: string, isMain: boolean])[] = [
  ["deno", "Deno.listen", "deno.ts", true],
  ["deno", "Deno.listen, retry", "deno_retry.ts", true],
  ["bun", "Bun.listen", "bun.ts", true],
  ["node", "node:net", "node.ts", true],
  ["deno", "node:net", "node.ts", false],
  ["bun", "node:net", "node.ts", false],
];

/** Spillway's first, runtime by runtime, then those that it is compared with. */
export const CONTESTANTS: readonly Contestant[] = [
  ...(Object.keys(RUN) as Runtime[]).flatMap((runtime) =>
    VARIANTS.map(({ variant, isMain, options }): Contestant => ({
      name: `${runtime}: Spillway, ${variant}`,
      command: [...RUN[runtime], SPILLWAY, JSON.stringify(options)],
      isSpillway: true,
      isMain,
    }))
  ),
  ...PEERS.map(([runtime, what, script, isMain]): Contestant => ({
    name: `${runtime}: ${what}`,
    command: [...RUN[runtime], `${SERVERS}${script}`],
    isSpillway: false,
    isMain,
  })),
];
