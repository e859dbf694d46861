import { fileURLToPath } from "node:url";

/** A runtime that is measured. */
export type Runtime = "deno" | "bun" | "node";

const BIN = fileURLToPath(new URL("../node_modules/.bin/", import.meta.url));

/** How each runs a script: with the permissions that a server needs, and no more. */
export const RUN: Readonly<Record<Runtime, readonly string[]>> = {
  deno: [`${BIN}deno`, "run", "--no-prompt", "--allow-ffi", "--allow-net"],
  bun: [`${BIN}bun`],
  node: [`${BIN}node`, "--disable-warning=ExperimentalWarning"],
};

/** How each runs a program of bench/probes/: such a program loads modules and threads as it goes, and looks at its heap. */
export function probe(runtime: Runtime, name: string, ...args: readonly string[]): readonly string[] {
  const script = fileURLToPath(new URL(`./probes/${name}.ts`, import.meta.url));
  return [...RUN[runtime], ...runtime === "deno" ? ["--allow-read", "--allow-sys=inspector"] : [], script, ...args];
}

/** What each is called. */
export const NAMES: Readonly<Record<Runtime, string>> = { deno: "Deno", bun: "Bun", node: "Node" };

export const RUNTIMES: readonly Runtime[] = ["deno", "bun", "node"];
