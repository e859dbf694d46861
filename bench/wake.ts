/** How long a loop takes to be woken from another thread. */
import { fileURLToPath } from "node:url";
import { output } from "./child.ts";
import { compileC } from "./compile.ts";
import { anew, inTurn } from "./in_turn.ts";
import { NAMES, probe, type Runtime, RUNTIMES } from "./runtimes.ts";
import type { Section } from "./sections.ts";

const MOST_ROUNDS = 3;
/** Of a round, for each second that one takes elsewhere. */
const WAKES_PER_SECOND = 300;

interface Sleeper {
  readonly name: string;
  command(wakes: number): readonly string[];
}

/** `what`: see probes/wake.ts. */
function sleeper(name: string, runtime: Runtime, what: "parked" | "blocking" | "runtime"): Sleeper {
  return { name, command: (wakes) => probe(runtime, "wake", `${wakes}`, what) };
}

function sleepers(mayCompile: boolean): Sleeper[] {
  const program = mayCompile ? compileC(fileURLToPath(new URL("./probes/wake.c", import.meta.url))) : undefined;
  return [
    ...RUNTIMES.flatMap((runtime) => {
      const name = NAMES[runtime];
      return [
        sleeper(`Spillway on ${name}`, runtime, "parked"),
        sleeper(`Spillway on ${name}, blocking`, runtime, "blocking"),
        sleeper(`postMessage on ${name}`, runtime, "runtime"),
      ];
    }),
    ...program === undefined ? [] : [{ name: "C, epoll", command: (wakes: number) => [program, `${wakes}`] }],
  ];
}

/** From one thread's call to the other's handler. */
export const WAKE: Section = {
  name: "wake",
  about: "Wake-up from another thread",
  isQuick: false,
  own: sleepers,
  async run({ rounds, roundMs, mayCompile, chosen }) {
    const wakes = Math.ceil(WAKES_PER_SECOND * roundMs / 1000);
    const entries = await inTurn(
      "wake",
      chosen(sleepers(mayCompile)),
      Math.min(MOST_ROUNDS, rounds),
      (sleeper) =>
        anew(async () => {
          const [line] = await output(sleeper.command(wakes));
          return JSON.parse(line!);
        }),
    );
    const title = "Wake-up from another thread after 10 ms of nothing to do, in a process that has been woken often: " +
      "from before wake() to the handler, by CLOCK_MONOTONIC in both threads";
    return { name: "wake", title, figures: { p50: "p50 µs", p99: "p99 µs" }, entries };
  },
};
