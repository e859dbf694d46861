/** Builds the npm package's JavaScript and bundled declarations: `node scripts/build.mjs [directory, by default dist]`. */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { generateDtsBundle } from "dts-bundle-generator";
import { run } from "./run.mjs";

const out = resolve(process.argv[2] ?? "dist");
process.chdir(dirname(dirname(fileURLToPath(import.meta.url))));
const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");

/** Entry points, and the bundled declarations of each. */
const entries = { "mod.ts": "mod.d.ts", "ffi/syscalls.ts": "syscalls.d.ts" };

rmSync(out, { recursive: true, force: true });
const code = await run(process.execPath, [tsc, "-p", "tsconfig.build.json", "--outDir", out]);
if (code !== 0) process.exit(code);

const bundles = generateDtsBundle(
  Object.keys(entries).map((filePath) => ({ filePath, output: { noBanner: true } })),
  { preferredConfigPath: "tsconfig.dts.json" },
);
mkdirSync(out, { recursive: true });
Object.values(entries).forEach((name, i) => writeFileSync(join(out, name), bundles[i]));
