/** Servers in processes of their own that are overloaded, and clients who find no room. */
import type { AcceptCounters, OverloadEvent, ServerOptions } from "../../mod.ts";
import { allAnswered, drive, EchoClient } from "./clients.ts";
import { type ServerProcess, startServer } from "./processes.ts";
import { RUNTIME } from "./scripts.ts";
import { bytes } from "./sockets.ts";

const SCRIPT = "test/fixtures/overloaded_server.ts";
const PING = bytes("ping");

/** How long after its start Deno is left two more descriptors: until it has opened them. See ffi/deno.ts. */
export const SETTLING_MS: number = RUNTIME === "deno" ? 1_000 : 0;

/** What a server says about itself. */
export interface Report {
  readonly counters: AcceptCounters;
  readonly headroom: number;
  readonly isOverloaded: boolean;
  readonly connections: number;
  /** Descriptors of the reserve when complete. */
  readonly size: number;
  /** Those not there now. */
  readonly missing: number;
  /** All since it began. */
  readonly events: readonly OverloadEvent[];
}

/** For `under`: limits soft and hard. */
export function limited(limit: number): string[] {
  return ["prlimit", `--nofile=${limit}:${limit}`];
}

/** Starts test/fixtures/overloaded_server.ts with `limit` descriptors. */
export function startOverloaded(
  limit: number,
  options: ServerOptions & { readonly thieves?: number },
): Promise<ServerProcess> {
  // A thread's module is a file to read, unlike the main one.
  return startServer(SCRIPT, [JSON.stringify(options)], { under: limited(limit), permissions: ["--allow-read"] });
}

/** What a server of {@linkcode startOverloaded} says now. */
export async function report<T = Report>(server: ServerProcess): Promise<T> {
  const next = server.lines.length;
  server.kill("SIGUSR2");
  return JSON.parse(await server.line(next));
}

/** Waits until every client that left has been seen to. */
export async function hasNobody(server: ServerProcess): Promise<void> {
  while ((await report(server)).connections > 0);
}

/** Clients that connect at once, each of which sends `stream` and holds. */
export function connect(server: ServerProcess, count: number, stream: Uint8Array = PING): EchoClient[] {
  return Array.from({ length: count }, () => new EchoClient(server.sockaddr, stream));
}

/** Answered, and connected still. */
export const isServed = (client: EchoClient): boolean => client.isAnswered && client.state === "open";

/** Lets clients go on until each is answered or refused. Returns which are which. */
export async function settled(
  clients: readonly EchoClient[],
): Promise<{ served: EchoClient[]; refused: EchoClient[] }> {
  await drive(clients, () => clients.every((client) => client.isAnswered || client.isGone), "each answered or refused");
  return { served: clients.filter(isServed), refused: clients.filter((client) => !isServed(client)) };
}

/**
 * Those that are served leave, and the server has seen it: who comes in the same turn, while it still accepts, would find
 * no room yet.
 */
export async function leave(server: ServerProcess, served: readonly EchoClient[]): Promise<void> {
  await server.closesSockets(served.length, () => close(served));
}

/** All leave. */
export function close(clients: readonly EchoClient[]): void {
  for (const client of clients) client.close();
}

/** Those that are served still are. */
export async function areServed(clients: readonly EchoClient[]): Promise<void> {
  for (const client of clients) client.ask(PING);
  await allAnswered(clients, "answers to those who hold");
}

/** Whoever comes now is served at the first attempt. */
export async function isServing(server: ServerProcess): Promise<void> {
  const next = connect(server, 1);
  await allAnswered(next, "the next client's answer");
  close(next);
}

/** `counters` but those that are zero. */
export function nonZero(counters: AcceptCounters): string {
  return Object.entries(counters).filter(([, count]) => count > 0).map(([name, count]) => `${name} ${count}`).join(
    ", ",
  );
}

/** What it complained about. Node says of each thread that its FFI is experimental, whatever it was told. */
export function complaints(server: ServerProcess): string[] {
  const lines = server.stderr.split("\n").filter((line) => line !== "");
  return lines.filter((line) => !/ExperimentalWarning: FFI|node --trace-warnings/.test(line));
}

/** How many descriptors of each kind a process has: `{ socket: 3, … }`. */
export function kinds(server: ServerProcess): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const file of server.openFiles) {
    const kind = file.replace(/:?\[\d+\]$/, "");
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}
