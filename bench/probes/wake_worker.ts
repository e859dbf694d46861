/** The other thread of wake.ts. */
import { parentPort, workerData } from "node:worker_threads";
import { RemoteWaker } from "../../mod.ts";
import { nowMicros } from "./clock.ts";

const { fd, wokenAt, seen } = workerData as { fd: number | undefined; wokenAt: Float64Array; seen: Int32Array };
/** Until the woken thread has nothing to do any more. */
const PAUSE_MS = 10;
const never = new Int32Array(new SharedArrayBuffer(4));
const waker = fd === undefined ? undefined : new RemoteWaker(fd);

parentPort!.postMessage("ready");
for (let wakes = 0;; wakes++) {
  while (Atomics.load(seen, 0) < wakes) Atomics.wait(seen, 0, wakes - 1);
  Atomics.wait(never, 0, 0, PAUSE_MS);
  wokenAt[0] = nowMicros();
  if (waker === undefined) parentPort!.postMessage(0);
  else waker.wake();
}
