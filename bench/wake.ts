/** How long a loop takes to be woken from another thread. */
import { output } from "./child.ts";
import { anew, inTurn } from "./in_turn.ts";
import { NAMES, probe, type Runtime, RUNTIMES } from "./runtimes.ts";
import type { Section } from "./sections.ts";

const MOST_ROUNDS = 3;
/** Of a round, for each second that one takes elsewhere. */
const WAKES_PER_SECOND = 300;

interface Sleeper {
  readonly name: string;
  readonly runtime: Runtime;
  /** See probes/wake.ts. */
  readonly what: "parked" | "blocking" | "runtime";
}

const SLEEPERS: readonly Sleeper[] = RUNTIMES.flatMap((runtime): Sleeper[] => [
  { name: `Spillway on ${NAMES[runtime]}`, runtime, what: "parked" },
  { name: `Spillway on ${NAMES[runtime]}, blocking`, runtime, what: "blocking" },
  { name: `postMessage on ${NAMES[runtime]}`, runtime, what: "runtime" },
]);

/** From one thread's call to the other's handler. */
export const WAKE: Section = {
  name: "wake",
  isQuick: false,
  async run({ rounds, roundMs, chosen }) {
    const wakes = Math.ceil(WAKES_PER_SECOND * roundMs / 1000);
    const entries = await inTurn(
      "wake",
      chosen(SLEEPERS),
      Math.min(MOST_ROUNDS, rounds),
      ({ runtime, what }) =>
        anew(async () => {
          const [line] = await output(probe(runtime, "wake", `${wakes}`, what));
          return JSON.parse(line!);
        }),
    );
    const title = `Wake-up from another thread after 10 ms of nothing to do: from before wake() to the handler, by ` +
      `CLOCK_MONOTONIC in both threads`;
    return { name: "wake", title, figures: { p50: "p50 µs", p99: "p99 µs" }, entries };
  },
};
