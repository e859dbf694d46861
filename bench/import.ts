/** What it costs to load Spillway. */
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { output } from "./child.ts";
import { median } from "./figures.ts";
import { anew, inTurn } from "./in_turn.ts";
import { NAMES, probe, RUN, type Runtime, RUNTIMES } from "./runtimes.ts";
import type { Section } from "./sections.ts";

/** The median of so many processes is a round. */
const PROCESSES = 5;
const BUILD = fileURLToPath(new URL("../scripts/build.mjs", import.meta.url));
const MANIFEST = fileURLToPath(new URL("../package.json", import.meta.url));

interface Import {
  readonly name: string;
  readonly runtime: Runtime;
  /** A file of the folder that is built, or a name. */
  readonly module: "./dist/mod.js" | "./empty.js" | "node:net";
}

const IMPORTS: readonly Import[] = RUNTIMES.flatMap((runtime): Import[] => [
  { name: `Spillway on ${NAMES[runtime]}`, runtime, module: "./dist/mod.js" },
  { name: `an empty module on ${NAMES[runtime]}`, runtime, module: "./empty.js" },
  { name: `node:net on ${NAMES[runtime]}`, runtime, module: "node:net" },
]);

/** The time that an import takes. */
export const IMPORT: Section = {
  name: "import",
  about: "Importing the module",
  isQuick: false,
  own: () => IMPORTS,
  async run({ rounds, chosen }) {
    const folder = mkdtempSync(join(tmpdir(), "spillway-dist-"));
    // As users get it, from npm or JSR. Node parses JavaScript twice where no manifest says that it is a module.
    copyFileSync(MANIFEST, join(folder, "package.json"));
    writeFileSync(join(folder, "empty.js"), "");
    let built: Promise<unknown> | undefined;
    try {
      const entries = await inTurn("import", chosen(IMPORTS), rounds, async ({ runtime, module }) => {
        await (built ??= output([...RUN.node, BUILD, join(folder, "dist")]));
        const url = module.startsWith(".") ? pathToFileURL(join(folder, module)).href : module;
        const command = probe(runtime, "import", url);
        await output(command); // Deno and Bun keep what they make of it, and the kernel reads its files
        return anew(async () => {
          const millis: number[] = [];
          while (millis.length < PROCESSES) millis.push(Number((await output(command))[0]));
          return { importMs: median(millis) };
        });
      });
      const title =
        "Importing the module, as it is published, in a process that has just started; a round is the median " +
        `of ${PROCESSES} processes`;
      return { name: "import", title, figures: { importMs: "ms" }, entries };
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
};
