/**
 * Is woken by another thread, again and again, each time after a while in which there was nothing to do, and prints how
 * long that took in microseconds: from before the other thread's call to the first line of the handler, by the kernel's
 * clock. Arguments: how often, and what is woken: `parked`, a loop that runs beside the runtime; `blocking`, one that owns
 * the thread; or `runtime`, by a message.
 */
import process from "node:process";
import { Worker } from "node:worker_threads";
import { EventLoop } from "../../mod.ts";
import { quantile } from "../figures.ts";
import { nowMicros } from "./clock.ts";

const [count, what] = [Number(process.argv[2]), process.argv[3]];
/** That come at once, and that come after a shorter pause; neither is counted: code is compiled meanwhile. */
const [FAST_WAKES, WARM_WAKES] = [5_000, 200];

/** When the other thread woke this one. */
const wokenAt = new Float64Array(new SharedArrayBuffer(8));
/** How many wakes have come. */
const seen = new Int32Array(new SharedArrayBuffer(4));
const micros: number[] = [];

function woken(): void {
  micros.push(nowMicros() - wokenAt[0]!);
  if (micros.length === FAST_WAKES + WARM_WAKES + count) end();
  Atomics.add(seen, 0, 1);
  Atomics.notify(seen, 0);
}

function end(): void {
  const counted = micros.slice(-count);
  console.log(JSON.stringify({ p50: quantile(counted, 0.5), p99: quantile(counted, 0.99) }));
  process.exit();
}

const loop = new EventLoop();
const fd = what === "runtime" ? undefined : loop.createWaker(woken).remote();
const worker = new Worker(new URL("./wake_worker.ts", import.meta.url), {
  workerData: { fd, wokenAt, seen, fast: FAST_WAKES, warm: WARM_WAKES },
});
worker.once("message", () => {
  if (what === "parked") loop.run();
  else if (what === "blocking") loop.runBlocking();
  else worker.on("message", woken);
});
