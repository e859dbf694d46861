/**
 * Picks the runtime's way to call C, once and lazily.
 */
import { type Backend, UnavailableError } from "./backend.ts";
import { backend as bunBackend, host as bunHost } from "./bun.ts";
import { backend as denoBackend, host as denoHost } from "./deno.ts";
import type { Host } from "./host_types.ts";
import { backend as nodeBackend, host as nodeHost } from "./node.ts";

/** A runtime that this module knows how to call C in. */
export type Runtime = "deno" | "bun" | "node";

/** A CPU whose struct layouts this module knows. */
export type Cpu = "x64" | "arm64";

/** `process.versions` says who really runs us; a global named `Deno` may be a shim. */
export function runtime(): Runtime {
  const { versions } = globalThis.process;
  if (versions.bun !== undefined) return "bun";
  if (versions.deno !== undefined) return "deno";
  return "node";
}

/** @throws {UnavailableError} If this is not a CPU whose struct layouts are known. */
export function cpu(): Cpu {
  const { arch } = globalThis.process;
  if (arch === "x64" || arch === "arm64") return arch;
  throw new UnavailableError("platform", `struct layouts for ${arch} are unknown; run on x86-64 or aarch64`);
}

/** @throws {UnavailableError} If this is not Linux on x86-64 or aarch64. */
export function backend(): Backend {
  return select().backend;
}

/** @throws {UnavailableError} If this is not Linux on x86-64 or aarch64. */
export function host(): Host {
  return select().host;
}

function select(): { backend: Backend; host: Host } {
  const platform: unknown = globalThis.process?.platform;
  if (platform !== "linux") {
    throw new UnavailableError(
      "platform",
      `epoll is Linux only and this is ${platform}; run in a Linux container or VM`,
    );
  }
  cpu();
  switch (runtime()) {
    case "deno":
      return { backend: denoBackend, host: denoHost };
    case "bun":
      return { backend: bunBackend, host: bunHost };
    case "node":
      return { backend: nodeBackend, host: nodeHost };
  }
}
