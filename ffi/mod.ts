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
  if (isDeno()) return "deno";
  const { versions } = globalThis.process;
  if (versions.bun !== undefined) return "bun";
  if (versions.deno !== undefined) return "deno";
  return "node";
}

/** What Deno says by itself: to load its `process` takes longer than all the rest of a server's start (2.9). */
function isDeno(): boolean {
  return globalThis.Deno !== undefined && globalThis.navigator?.userAgent.startsWith("Deno/");
}

/** @throws {UnavailableError} If this is not a CPU whose struct layouts are known. */
export function cpu(): Cpu {
  const { arch } = machine();
  if (arch === "x64" || arch === "arm64") return arch;
  throw new UnavailableError("platform", `struct layouts for ${arch} are unknown; run on x86-64 or aarch64`);
}

/** What this runs on, in Node's words. */
function machine(): { readonly platform?: string; readonly arch?: string } {
  if (!isDeno()) return globalThis.process ?? {};
  const { os, arch } = Deno.build;
  return { platform: os, arch: { x86_64: "x64", aarch64: "arm64" }[arch] ?? arch };
}

/** @throws {UnavailableError} If this is not Linux on x86-64 or aarch64. */
export function backend(): Backend {
  return select().backend;
}

/** @throws {UnavailableError} If this is not Linux on x86-64 or aarch64. */
export function host(): Host {
  return select().host;
}

let selected: { backend: Backend; host: Host } | undefined;

function select(): { backend: Backend; host: Host } {
  if (selected !== undefined) return selected;
  const { platform } = machine();
  if (platform !== "linux") {
    throw new UnavailableError(
      "platform",
      `epoll is Linux only and this is ${platform}; run in a Linux container or VM`,
    );
  }
  cpu();
  switch (runtime()) {
    case "deno":
      return selected = { backend: denoBackend, host: denoHost };
    case "bun":
      return selected = { backend: bunBackend, host: bunHost };
    case "node":
      return selected = { backend: nodeBackend, host: nodeHost };
  }
}
