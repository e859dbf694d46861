/** What it costs to load Spillway. */
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
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
  readonly isOurs: boolean;
}

const IMPORTS: readonly Import[] = RUNTIMES.flatMap((runtime): Import[] => [
  { name: `Spillway on ${NAMES[runtime]}`, runtime, isOurs: true },
  { name: `node:net on ${NAMES[runtime]}`, runtime, isOurs: false },
]);

/** The time that an import takes. */
export const IMPORT: Section = {
  name: "import",
  isQuick: false,
  async run({ rounds, chosen }) {
    const folder = mkdtempSync(join(tmpdir(), "spillway-dist-"));
    let built: Promise<string> | undefined;
    /** As users get it, from npm or JSR. Node parses JavaScript twice where no manifest says that it is a module. */
    const build = async () => {
      await output([...RUN.node, BUILD, join(folder, "dist")]);
      copyFileSync(MANIFEST, join(folder, "package.json"));
      return pathToFileURL(join(folder, "dist", "mod.js")).href;
    };
    try {
      const entries = await inTurn("import", chosen(IMPORTS), rounds, async ({ runtime, isOurs }) => {
        const command = probe(runtime, "import", isOurs ? await (built ??= build()) : "node:net");
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
