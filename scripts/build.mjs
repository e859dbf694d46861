/**
 * Builds what is published: to npm a file of code and one of declarations for each entry point, and a file of code that they
 * share; to JSR the same code, with the sources for its types and documentation.
 * `node scripts/build.mjs [directory, by default dist]`
 */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { generateDtsBundle } from "dts-bundle-generator";
import { build } from "rolldown";
import { run } from "./run.mjs";

const out = resolve(process.argv[2] ?? "dist");
process.chdir(dirname(dirname(fileURLToPath(import.meta.url))));
const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
const { name, version, license, exports, publish } = JSON.parse(readFileSync("deno.json", "utf8"));

/** The source of each entry point, by its name in what is built. */
const entries = Object.fromEntries(Object.values(exports).map((source) => [basename(source, ".ts"), source]));

rmSync(out, { recursive: true, force: true });
await buildCode();
await buildDeclarations();
buildJsr();

/** With Rolldown, whose output reads like the sources: names, `const` and private fields stay, and nothing is added. */
async function buildCode() {
  await build({
    input: entries,
    platform: "neutral",
    tsconfig: false,
    optimization: { inlineConst: false },
    output: {
      dir: out,
      // No source maps: Deno reads them at import, which takes longer than the code.
      comments: { jsdoc: false }, // the declarations have it
      minifyInternalExports: false,
      chunkFileNames: "[name].js",
      codeSplitting: { groups: [{ name: "ffi", test: /[/]ffi[/]/ }] },
    },
  });
}

/**
 * In one file for each entry point: tsc leaves "./x.ts" in the imports of declarations, and there is no such file in a
 * package. From declarations, and without the types of any runtime, this takes half a second; from sources, half a minute.
 */
async function buildDeclarations() {
  const folder = mkdtempSync(join(tmpdir(), "spillway-types-"));
  try {
    const code = await run(process.execPath, [tsc, "-p", "tsconfig.build.json", "--outDir", folder]);
    if (code !== 0) process.exit(code);
    const bundles = alike(generateDtsBundle(
      Object.values(entries).map((source) => ({
        filePath: join(folder, source.replace(/\.ts$/, ".d.ts")),
        output: { noBanner: true },
      })),
      { preferredConfigPath: "tsconfig.base.json" },
    ));
    Object.keys(entries).forEach((name, i) => writeFileSync(join(out, `${name}.d.ts`), withLibrary(bundles[i])));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Without the private members of the classes that all bundles declare: by those TypeScript would take them for different ones. */
function alike(bundles) {
  const classes = bundles.map((text) => new Set(Array.from(text.matchAll(/class (\w+)/g), ([, name]) => name)));
  return bundles.map((text) =>
    text.replaceAll(
      /(class (\w+)[^{]*\{\n)\t#private;\n/g,
      (all, head, name) => classes.every((names) => names.has(name)) ? head : all,
    )
  );
}

/** With a reference to what TypeScript has in its libraries only from ESNext on: a project may name an older one. */
function withLibrary(text) {
  return text.includes("[Symbol.asyncDispose]") ? `/// <reference lib="esnext.disposable" />\n${text}` : text;
}

/**
 * JSR takes types and documentation from the sources: in bundled declarations it shows what is not exported too, and a class
 * of both entry points is two.
 */
function buildJsr() {
  const folder = join(out, "jsr");
  for (const path of publish.include) cpSync(path, join(folder, path), { recursive: true });
  rmSync(join(folder, "deno.json"));
  mkdirSync(join(folder, "dist"));
  for (const file of readdirSync(out).filter((file) => file.endsWith(".js"))) {
    const source = entries[basename(file, ".js")];
    const types = source === undefined ? "" : `/* @ts-self-types="${join("..", source)}" */\n`;
    writeFileSync(join(folder, "dist", file), types + readFileSync(join(out, file), "utf8"));
  }
  const built = Object.entries(exports).map(([entry, source]) => [entry, `./dist/${basename(source, ".ts")}.js`]);
  // Git ignores the folder, and Deno would do the same.
  const config = { name, version, license, exports: Object.fromEntries(built), publish: { exclude: ["!*"] } };
  writeFileSync(join(folder, "jsr.json"), `${JSON.stringify(config, undefined, 2)}\n`);
}
