/** Copies of the sources with edits in them, which tests import instead of the real ones. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterAll, expect } from "vitest";

/** One edit. */
export interface Edit {
  readonly file: string;
  /** Stands in the file exactly once. */
  readonly find: string | RegExp;
  readonly replace: string;
}

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const copies: string[] = [];

/** Imports `file` from a copy with `edits`. It must not import packages, nor what does. */
export async function importCopy(file: string, edits: readonly Edit[]): Promise<unknown> {
  const copy = mkdtempSync(join(tmpdir(), "spillway-"));
  copies.push(copy);
  for (const folder of ["ffi", "src", "test/support"]) {
    cpSync(join(ROOT, folder), join(copy, folder), { recursive: true });
  }
  for (const { file, find, replace } of edits) {
    const path = join(copy, file);
    const source = readFileSync(path, "utf8");
    expect(source.split(find), `${find} stands once in ${file}`).toHaveLength(2);
    writeFileSync(path, source.replace(find, () => replace));
  }
  return await import(/* @vite-ignore */ pathToFileURL(join(copy, file)).href);
}

/** Has the copies removed when the tests of this file are done. Called at the top of a test file. */
export function removeCopies(): void {
  afterAll(() => {
    for (const copy of copies.splice(0)) rmSync(copy, { recursive: true });
  });
}
