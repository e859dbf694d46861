import { fileURLToPath } from "node:url";
import { compileC, compileGo } from "./compile.ts";
import { RUN, type Runtime } from "./runtimes.ts";
import type { ServerMode } from "./workloads.ts";

/** A server that is measured. */
export interface Contestant {
  readonly name: string;
  /** The runtime's own API that Spillway replaces there, by its name here. */
  readonly own?: string;
  /** Whether `--quick` has it. */
  readonly isQuick: boolean;
  /** Whether it is measured only where `--contestant` names it. */
  readonly isExtra: boolean;
  /** How it is started. */
  command(mode: ServerMode, bulkBytes: number): readonly string[];
}

const SERVERS = fileURLToPath(new URL("./servers/", import.meta.url));

const NAMES: Readonly<Record<Runtime, string>> = { deno: "Deno", bun: "Bun", node: "Node" };
const OWN: Readonly<Record<Runtime, string>> = { deno: "Deno.listen", bun: "Bun.listen", node: "node:net on Node" };
const RUNTIMES = Object.keys(NAMES) as Runtime[];

/** Arguments of servers/spillway.ts by what they are called; the first is what `serve` does by itself. */
const VARIANTS = {
  "": ["level", "shared"],
  ", edge": ["edge", "shared"],
  ", blocking": ["level", "blocking"],
} as const;

function spillway(variant: keyof typeof VARIANTS, runtime: Runtime): Contestant {
  const args = [...RUN[runtime], `${SERVERS}spillway.ts`, ...VARIANTS[variant]];
  return {
    name: `Spillway on ${NAMES[runtime]}${variant}`,
    own: OWN[runtime],
    isQuick: true,
    isExtra: variant !== "",
    command: (mode, bulkBytes) => [...args, mode, `${bulkBytes}`],
  };
}

function peer(name: string, runtime: Runtime, file: string, isQuick: boolean = true): Contestant {
  const args = [...RUN[runtime], `${SERVERS}${file}`];
  return { name, isQuick, isExtra: false, command: (mode, bulkBytes) => [...args, mode, `${bulkBytes}`] };
}

function compiled(name: string, program: string | undefined): Contestant[] {
  if (program === undefined) return [];
  return [{ name, isQuick: true, isExtra: false, command: (mode, bulkBytes) => [program, mode, `${bulkBytes}`] }];
}

/**
 * Who can be measured here. `node:net` is what portable packages use, so it is a rival on Deno and Bun as well.
 *
 * @param mayCompile False: as if there were no compiler.
 */
export function findContestants(mayCompile: boolean): Contestant[] {
  return [
    ...(Object.keys(VARIANTS) as (keyof typeof VARIANTS)[]).flatMap((variant) =>
      RUNTIMES.map((runtime) => spillway(variant, runtime))
    ),
    peer(OWN.deno, "deno", "deno.ts"),
    peer(OWN.bun, "bun", "bun.ts"),
    peer(OWN.node, "node", "node.ts"),
    peer("node:net on Deno", "deno", "node.ts", false),
    peer("node:net on Bun", "bun", "node.ts", false),
    ...compiled("C, epoll", mayCompile ? compileC(`${SERVERS}epoll.c`) : undefined),
    ...compiled("Go", mayCompile ? compileGo(`${SERVERS}echo.go`) : undefined),
  ];
}
