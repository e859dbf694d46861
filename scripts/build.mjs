/** Builds the npm package's JavaScript and bundled declarations: `node scripts/build.mjs [directory, by default dist]`. */
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { generateDtsBundle } from "dts-bundle-generator";
import { run } from "./run.mjs";

const out = resolve(process.argv[2] ?? "dist");
process.chdir(dirname(dirname(fileURLToPath(import.meta.url))));
const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");

/** The declarations of each entry point as tsc writes them, and where their bundle goes. */
const entries = { "mod.d.ts": "mod.d.ts", "ffi/syscalls.d.ts": "syscalls.d.ts" };

rmSync(out, { recursive: true, force: true });
const code = await run(process.execPath, [tsc, "-p", "tsconfig.build.json", "--outDir", out]);
if (code !== 0) process.exit(code);

// One file for each entry point: tsc leaves "./x.ts" in the imports of declarations, and there is no such file in a
// package. From declarations, and without the types of any runtime, this takes half a second; from sources, half a minute.
const bundles = generateDtsBundle(
  Object.keys(entries).map((name) => ({ filePath: join(out, name), output: { noBanner: true } })),
  { preferredConfigPath: "tsconfig.base.json" },
);
for (const name of readdirSync(out, { recursive: true })) {
  if (name.endsWith(".d.ts")) rmSync(join(out, name));
}
Object.values(entries).forEach((name, i) => writeFileSync(join(out, name), bundles[i]));
