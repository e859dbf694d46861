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

/** What each is called. */
export const NAMES: Readonly<Record<Runtime, string>> = { deno: "Deno", bun: "Bun", node: "Node" };

export const RUNTIMES: readonly Runtime[] = ["deno", "bun", "node"];
