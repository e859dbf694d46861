/** What it costs to load Spillway. */
import { fileURLToPath } from "node:url";
import { output } from "./child.ts";
import { CACHE } from "./compile.ts";
import { median } from "./figures.ts";
import { anew, inTurn } from "./in_turn.ts";
import { NAMES, probe, RUN, type Runtime, RUNTIMES } from "./runtimes.ts";
import type { Section } from "./sections.ts";

/** The median of so many processes is a round. */
const PROCESSES = 5;
const BUILD = fileURLToPath(new URL("../scripts/build.mjs", import.meta.url));
const DIST = `${CACHE}dist`;

interface Module {
  readonly name: string;
  readonly runtime: Runtime;
  /** Its URL, once it is there. */
  prepare(): Promise<string>;
}

/** As users get it: Deno TypeScript from JSR, which it keeps compiled; Bun and Node JavaScript, from JSR or npm. */
const MODULES: readonly Module[] = RUNTIMES.flatMap((runtime): Module[] => [
  {
    name: `Spillway on ${NAMES[runtime]}`,
    runtime,
    async prepare() {
      if (runtime === "deno") return new URL("../mod.ts", import.meta.url).href;
      await output([...RUN.node, BUILD, DIST]);
      return new URL(`file://${DIST}/mod.js`).href;
    },
  },
  { name: `node:net on ${NAMES[runtime]}`, runtime, prepare: () => Promise.resolve("node:net") },
]);

/** The time that an import takes. */
export const IMPORT: Section = {
  name: "import",
  isQuick: true,
  async run({ rounds, chosen }) {
    const entries = await inTurn("import", chosen(MODULES), rounds, async ({ runtime, prepare }) => {
      const command = probe(runtime, "import", await prepare());
      await output(command); // Deno compiles it, and the kernel reads its files
      return anew(async () => {
        const millis: number[] = [];
        while (millis.length < PROCESSES) millis.push(Number((await output(command))[0]));
        return { importMs: median(millis) };
      });
    });
    const title =
      `Importing the module, as it is published, in a process that has just started; a round is the median of ` +
      `${PROCESSES} processes`;
    return { name: "import", title, figures: { importMs: "ms" }, entries };
  },
};
