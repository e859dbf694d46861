import { backend } from "../../ffi/mod.ts";

const CLOCK_MONOTONIC = 1;
const time = new Uint8Array(new ArrayBuffer(16));
const words = new BigInt64Array(time.buffer);
const { clock_gettime } = backend().open({
  // int clock_gettime(clockid_t clock, struct timespec *time);
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
});

/** Microseconds of the kernel's clock, which all threads share; those of a runtime begin with the thread. */
export function nowMicros(): number {
  clock_gettime(CLOCK_MONOTONIC, time);
  return Number(words[0]) * 1e6 + Number(words[1]) / 1e3;
}
