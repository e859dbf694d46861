import { ChildProcess } from "node:child_process";
import process from "node:process";
import { defineConfig } from "vitest/config";

// Bun 1.4.5's ChildProcess#channel lacks ref() and unref(), which the forks pool of Vitest 5.1 calls.
if (process.versions.bun) {
  const unref = ChildProcess.prototype.unref;
  ChildProcess.prototype.unref = function (this: ChildProcess) {
    const channel = this.channel as { ref?(): void; unref?(): void } | null | undefined;
    if (channel && !channel.unref) channel.ref = channel.unref = () => {};
    return unref.call(this);
  };
}

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    setupFiles: ["test/setup.ts"],
    // Only forks outlive a crash in native code, and the alarm of test/setup.ts.
    pool: "forks",
    maxWorkers: 2,
    // Above the deadlines within tests, which say what did not happen.
    testTimeout: 90_000,
    hookTimeout: 90_000,
  },
});
