/** Where libc cannot be called: importing throws nothing, and each use throws one error that says what would help. */
import { describe, expect, test } from "vitest";
import { expectNoLeak } from "./support/descriptors.ts";
import { RUNTIME, type ScriptOptions, scriptOutput } from "./support/scripts.ts";

expectNoLeak();

interface Found {
  readonly isUnavailableError: boolean;
  readonly name: string;
  readonly message: string;
  readonly reason: string;
}

/** The one error that every use threw. */
async function errorOfEveryUse(options: ScriptOptions): Promise<Found> {
  const found = await scriptOutput("unavailable.ts", options) as Found[];
  expect(found).toHaveLength(4);
  for (const error of found) expect(error).toEqual(found[0]);
  expect(found[0]).toMatchObject({ isUnavailableError: true, name: "UnavailableError" });
  return found[0]!;
}

describe("UnavailableError", () => {
  test("another operating system: it names Linux", async () => {
    const { message, reason } = await errorOfEveryUse({ args: ["darwin"] });
    expect(reason).toBe("platform");
    expect(message).toBe(
      "Cannot call libc: epoll is Linux only and this is darwin; run in a Linux container or VM",
    );
  });

  test("another CPU: it names x86-64 and aarch64", async () => {
    const { message, reason } = await errorOfEveryUse({ args: ["linux", "riscv64"] });
    expect(reason).toBe("platform");
    expect(message).toBe("Cannot call libc: struct layouts for riscv64 are unknown; run on x86-64 or aarch64");
  });

  test("with every permission there is none, on this platform", async () => {
    const found = await scriptOutput("unavailable.ts") as { returned: number }[];
    expect(found.map(({ returned }) => returned)).toEqual([
      expect.any(Number),
      expect.any(Number),
      expect.any(Number),
      -9,
    ]);
  });

  describe.runIf(RUNTIME === "deno")("in Deno", () => {
    test("a server needs no process, which takes long to load", async () => {
      expect(await scriptOutput("without_process.ts")).toBe("served");
    });

    test.each([
      ["without --allow-ffi", []],
      ["with --allow-ffi for one library by path", ["--allow-ffi=/lib/x86_64-linux-gnu/libc.so.6"]],
      ["with --allow-ffi for one library by name", ["--allow-ffi=libc.so.6"]],
      ["with --deny-ffi", ["--deny-ffi"]],
    ])("%s it names --allow-ffi", async (_, flags) => {
      const { message, reason } = await errorOfEveryUse({ flags: ["--allow-read", ...flags] });
      expect(reason).toBe("permission");
      expect(message).toContain("run with --allow-ffi (unscoped");
    });
  });

  describe.runIf(RUNTIME === "node")("in Node", () => {
    test("without node:ffi it names the version and the flag", async () => {
      const { message, reason } = await errorOfEveryUse({ flags: ["--no-experimental-ffi"] });
      expect(reason).toBe("runtime");
      expect(message).toContain("Node 26.9");
      expect(message).toContain("--experimental-ffi");
    });

    test("with --permission it names --allow-ffi", async () => {
      const { message, reason } = await errorOfEveryUse({ flags: ["--permission", "--allow-fs-read=*"] });
      expect(reason).toBe("permission");
      expect(message).toContain("--allow-ffi");
    });
  });
});
