/** Programs of the system that some tests run. */
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import process from "node:process";

/** Whether `name` is on the PATH. */
export function hasProgram(name: string): boolean {
  return (process.env.PATH ?? "").split(":").some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * For `describe.skipIf(needsProgram("strace"))`: whether to skip because a program is missing. With CI=true nothing is
 * skipped, so that the tests fail instead.
 */
export function needsProgram(name: string): boolean {
  return process.env.CI !== "true" && !hasProgram(name);
}
