/** The command line of bench/main.ts. */
import process from "node:process";
import { parseFlags, refuse } from "./command_line.ts";
import { SECTIONS } from "./sections.ts";
import { WORKLOADS } from "./workloads.ts";

const ROUNDS = 5;
const QUICK_ROUNDS = 3;

const USAGE = `Usage: npm run bench -- [options]

Measures Spillway beside the runtimes' own sockets, a C server and a Go server, everything in turn in one run, and prints
a table for each workload, each with the goals that are set for it, and all goals at the end.

  --quick              fewer workloads, contestants and rounds: about 3 minutes instead of 30
  --workload NAME      only workloads whose name is or contains this; several times for several
  --contestant NAME    only contestants whose name is or contains this, in every workload; several times for several
  --rounds N           rounds of each contestant (${ROUNDS}; --quick ${QUICK_ROUNDS})
  --seconds N          length of a round (0.4; --quick 0.2)
  --connections N      the most that any workload may have (20000)
  --bulk-mib N         size of a bulk transfer (1024; --quick 256)
  --no-compiler        no C: as on a machine without cc
  --json FILE          where the results go
  --help               this

Workloads:
${listed(WORKLOADS.map(({ name, title }) => [name, title]))}
and with figures of their own:
${listed(SECTIONS.map(({ name, about }) => [name, about]))}
A run of everything, ${ROUNDS} rounds or more, with all programs that it looks for, writes bench/results.json and draws
bench/chart.svg; others write results where --json says.
`;

function listed(all: readonly (readonly [name: string, title: string])[]): string {
  return all.map(([name, title]) => `  ${name.padEnd(16)}${title}\n`).join("");
}

/** What is asked for. */
export interface Options {
  readonly isQuick: boolean;
  /** Whether nothing is left out. */
  readonly isWhole: boolean;
  /** Parts of names. */
  readonly workload: readonly string[] | undefined;
  /** Parts of names. */
  readonly contestant: readonly string[] | undefined;
  readonly rounds: number;
  readonly roundMs: number;
  readonly mostConnections: number;
  readonly bulkMiB: number;
  readonly mayCompile: boolean;
  readonly json: string | undefined;
}

/** Reads the arguments of this process. Ends it where they cannot be meant, and after `--help`. */
export function parseOptions(): Options {
  const values = parseFlags({
    quick: { type: "boolean", default: false },
    workload: { type: "string", multiple: true },
    contestant: { type: "string", multiple: true },
    rounds: { type: "string" },
    seconds: { type: "string" },
    connections: { type: "string", default: "20000" },
    "bulk-mib": { type: "string" },
    "no-compiler": { type: "boolean", default: false },
    json: { type: "string" },
    help: { type: "boolean", short: "h", default: false },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    process.exit(0);
  }
  const { quick: isQuick, workload, contestant, "no-compiler": noCompiler } = values;
  const rounds = integer("rounds", values.rounds ?? `${isQuick ? QUICK_ROUNDS : ROUNDS}`, 100);
  return {
    isQuick,
    isWhole: workload === undefined && contestant === undefined && !isQuick && !noCompiler && rounds >= ROUNDS,
    workload,
    contestant,
    rounds,
    roundMs: 1000 * number("seconds", values.seconds ?? (isQuick ? "0.2" : "0.4"), 0.01, 60),
    mostConnections: integer("connections", values.connections, 1_000_000),
    bulkMiB: integer("bulk-mib", values["bulk-mib"] ?? (isQuick ? "256" : "1024"), 65_536),
    mayCompile: !noCompiler,
    json: values.json,
  };
}

/** Those of `all` that the command line names, in whole or in part. */
export function named<T extends { readonly name: string }>(parts: readonly string[], all: readonly T[]): T[] {
  const names = new Set(all.map(({ name }) => name));
  return all.filter(({ name }) => parts.some((part) => names.has(part) ? name === part : name.includes(part)));
}

/** As {@linkcode named}, but ends the process where a part is in no name. */
export function surelyNamed<T extends { readonly name: string }>(
  option: "workload" | "contestant",
  parts: readonly string[],
  all: readonly T[],
): T[] {
  const wrong = parts.find((part) => named([part], all).length === 0);
  if (wrong === undefined) return named(parts, all);
  const names = new Set(all.map(({ name }) => name));
  return refuse(`Cannot measure --${option} ${wrong}: there are ${[...names].join("; ")}`);
}

function integer(name: string, text: string, most: number): number {
  const value = number(name, text, 1, most);
  return Number.isInteger(value) ? value : refuse(`Cannot use --${name} ${text}: it must be an integer`);
}

function number(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (value >= least && value <= most) return value;
  return refuse(`Cannot use --${name} ${text}: it must be a number from ${least} to ${most.toLocaleString("en")}`);
}
