/** The other thread of wake.ts. */
import { parentPort, workerData } from "node:worker_threads";
import { RemoteWaker } from "../../mod.ts";
import { nowMicros } from "./clock.ts";

const { fd, wokenAt, seen, fast, warm } = workerData as {
  fd: number | undefined;
  wokenAt: Float64Array;
  seen: Int32Array;
  fast: number;
  warm: number;
};
/** Until the woken thread has nothing to do any more; longer than a loop waits in the kernel. */
const [WARM_PAUSE_MS, PAUSE_MS] = [2, 10];
const never = new Int32Array(new SharedArrayBuffer(4));
const waker = fd === undefined ? undefined : new RemoteWaker(fd);

parentPort!.postMessage("ready");
for (let wakes = 0;; wakes++) {
  while (Atomics.load(seen, 0) < wakes) Atomics.wait(seen, 0, wakes - 1);
  if (wakes >= fast) Atomics.wait(never, 0, 0, wakes < fast + warm ? WARM_PAUSE_MS : PAUSE_MS);
  wokenAt[0] = nowMicros();
  if (waker === undefined) parentPort!.postMessage(0);
  else waker.wake();
}
