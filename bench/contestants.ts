import { fileURLToPath } from "node:url";
import { compileC, compileGo } from "./compile.ts";
import { NAMES, probe, RUN, type Runtime, RUNTIMES } from "./runtimes.ts";
import type { ServerMode } from "./workloads.ts";

/** A server that is measured. */
export interface Contestant {
  readonly name: string;
  /** The runtime's own API that Spillway replaces there, by its name here. */
  readonly own?: string;
  /** Whether it is measured by `--quick`, and in workloads whose rounds take long. */
  readonly isMain: boolean;
  /** The workloads and sections in which it is measured though `--contestant` does not name it; absent: all. */
  readonly only?: readonly string[];
  /** How it is started. */
  command(mode: ServerMode, bulkBytes: number): readonly string[];
  /** How it is started so that it counts what it allocates; absent where it has no time to tell. */
  countingCommand?(mode: ServerMode): readonly string[];
}

const SERVERS = fileURLToPath(new URL("./servers/", import.meta.url));

const OWN: Readonly<Record<Runtime, string>> = { deno: "Deno.listen", bun: "Bun.listen", node: "node:net on Node" };

/** Arguments of servers/spillway.ts by what they are called; the first is what `serve` does by itself. */
const VARIANTS: Readonly<Record<string, { args: readonly string[]; only?: readonly string[] }>> = {
  "": { args: ["level", "shared"] },
  ", spin": { args: ["level", "spin"], only: ["echo-64B-1", "rest"] },
  ", waiting": { args: ["level", "waiting"], only: ["wake-ups"] },
  ", edge": { args: ["edge", "shared"], only: [] },
  ", blocking": { args: ["level", "blocking"], only: [] },
};

function spillway(variant: string, runtime: Runtime): Contestant {
  const { args, ...where } = VARIANTS[variant]!;
  const name = `Spillway on ${NAMES[runtime]}${variant}`;
  const { command, countingCommand } = commands(runtime, "spillway.ts", args);
  const counting = variant === ", blocking" ? {} : { countingCommand };
  return { name, own: OWN[runtime], isMain: true, ...where, command, ...counting };
}

function peer(name: string, runtime: Runtime, file: string, isMain: boolean = true): Contestant {
  return { name, isMain, ...commands(runtime, file, []) };
}

function commands(runtime: Runtime, file: string, args: readonly string[]) {
  const script = `${SERVERS}${file}`;
  // Bun knows what was allocated where nothing is ever collected.
  const environment = runtime === "bun" ? ["env", "BUN_JSC_useGC=0"] : [];
  return {
    command: (mode: ServerMode, bulkBytes: number) => [...RUN[runtime], script, ...args, mode, `${bulkBytes}`],
    countingCommand: (mode: ServerMode) => [...environment, ...probe(runtime, "allocations", script, ...args, mode)],
  };
}

function compiled(name: string, program: string | undefined): Contestant[] {
  if (program === undefined) return [];
  return [{ name, isMain: true, command: (mode, bulkBytes) => [program, mode, `${bulkBytes}`] }];
}

/**
 * Who can be measured here. `node:net` is what portable packages use, so it is a rival on Deno and Bun as well.
 *
 * @param mayCompile False: as if there were no compiler.
 */
export function findContestants(mayCompile: boolean): Contestant[] {
  return [
    ...Object.keys(VARIANTS).flatMap((variant) => RUNTIMES.map((runtime) => spillway(variant, runtime))),
    peer(OWN.deno, "deno", "deno.ts"),
    peer(OWN.bun, "bun", "bun.ts"),
    peer(OWN.node, "node", "node.ts"),
    peer("node:net on Deno", "deno", "node.ts", false),
    peer("node:net on Bun", "bun", "node.ts", false),
    ...compiled("C, epoll", mayCompile ? compileC(`${SERVERS}epoll.c`) : undefined),
    ...compiled("Go", mayCompile ? compileGo(`${SERVERS}echo.go`) : undefined),
  ];
}
