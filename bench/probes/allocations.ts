/**
 * Runs the server that is its first argument, with the others, and counts what it allocates between the lines `begin` and
 * `end` on standard input. Answers the first with a line, and the second with JSON: bytes by the function that allocated
 * them, or all under the empty name where the runtime does not tell.
 */
import type { HeapProfiler } from "node:inspector";
import process from "node:process";
import { createInterface } from "node:readline";

/** On average so many bytes go by between two that are looked at. */
const SAMPLING_BYTES = 256;

/** Counts what is allocated. */
interface Counter {
  begin(): Promise<void>;
  end(): Promise<Record<string, number>>;
}

/** V8's sampling profiler: what is collected meanwhile counts too. */
async function openProfiler(): Promise<Counter> {
  const { Session } = await import("node:inspector/promises");
  const session = new Session();
  session.connect();
  return {
    async begin() {
      await session.post("HeapProfiler.startSampling", {
        samplingInterval: SAMPLING_BYTES,
        includeObjectsCollectedByMajorGC: true,
        includeObjectsCollectedByMinorGC: true,
      });
    },
    async end() {
      const { profile } = await session.post("HeapProfiler.stopSampling");
      const sites: Record<string, number> = {};
      count(profile.head, sites);
      return sites;
    },
  };
}

function count({ callFrame, selfSize, children }: HeapProfiler.SamplingHeapProfileNode, sites: Record<string, number>) {
  const { functionName, url, lineNumber } = callFrame;
  if (url === import.meta.url) return; // what it takes to count
  const site = `${functionName || "anonymous"} (${url.split("/").at(-1) || "built in"}:${lineNumber + 1})`;
  if (selfSize > 0) sites[site] = (sites[site] ?? 0) + selfSize;
  for (const child of children) count(child, sites);
}

/** For Bun, which has no such profiler. Right only where nothing is ever collected: BUN_JSC_useGC=0. */
function heapGrowth(): Counter {
  let before = 0;
  return {
    begin: () => Promise.resolve(void (before = process.memoryUsage().heapUsed)),
    end: () => Promise.resolve({ "": process.memoryUsage().heapUsed - before }),
  };
}

const counter = process.versions.bun === undefined ? await openProfiler() : heapGrowth();
createInterface(process.stdin).on("line", async (line) => {
  if (line === "end") return console.log(JSON.stringify(await counter.end()));
  await counter.begin();
  console.log("begun");
});

const [server] = process.argv.splice(2, 1);
await import(server!);
