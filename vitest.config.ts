import { ChildProcess } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
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

const root = fileURLToPath(new URL(".", import.meta.url));

export default defineConfig({
  plugins: [{
    name: "no cache of copies",
    configureVitest({ defineCacheKeyGenerator }) {
      // Vitest keeps what it compiles, for ever, and each run makes its copies of the sources (test/support/copies.ts) anew.
      defineCacheKeyGenerator(({ id }) => id.startsWith(root) ? undefined : false);
    },
  }],
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
