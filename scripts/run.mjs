import { spawn } from "node:child_process";

/**
 * Runs a program in this one's place: signals sent to us reach it, and it is waited for.
 *
 * @returns Its exit code; 1 if it could not be started, 128 + the signal's number if a signal ended it.
 */
export function run(command, args, options = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: "inherit", ...options });
    const forward = (signal) => child.kill(signal);
    const finish = (code) => {
      process.off("SIGINT", forward).off("SIGTERM", forward);
      resolve(code);
    };
    process.on("SIGINT", forward).on("SIGTERM", forward);
    child.on("error", (error) => {
      console.error(`Cannot run ${command}: ${error.message}`);
      finish(1);
    });
    child.on("close", (code, signal) => finish(code ?? 128 + (signal === "SIGINT" ? 2 : 15)));
  });
}
