/** What is measured. A workload says what the server does, and what its clients do. */

/**
 * What a server does, its first argument. `echo`: what comes goes back. `requests`: each 64 bytes are a request that gets
 * an answer of its own. `in`: takes as many bytes as its second argument says, then answers with one. `out`: answers a
 * message with that many bytes. `broadcast`: a client's first message goes back to it, each later one to all clients.
 * Spillway's alone: `answers`, as `requests`, but with an answer that is there already; and `planted`, as `echo`, but with
 * an object made for each message.
 */
export type ServerMode = "echo" | "requests" | "in" | "out" | "broadcast" | "answers" | "planted";

/** What the clients do; load.c has them in words. */
export type LoadMode = "echo" | "churn" | "broadcast" | "in" | "out";

/** One workload. */
export interface Workload {
  readonly name: string;
  readonly title: string;
  /** What is counted, and what CPU time and system calls are divided by. */
  readonly unit: string;
  /** The same, of several. */
  readonly units: string;
  /** What the latencies are of; absent where there are none. */
  readonly latency?: string;
  readonly server: ServerMode;
  readonly load: LoadMode;
  /** `Infinity`: as many as the machine allows. */
  readonly clients: number;
  readonly idle: number;
  /** Of a message. */
  readonly bytes: number;
  /** Messages of a client that are under way at a time. */
  readonly depth: number;
  /** Milliseconds from one message of a client to the next; 0: as soon as it is answered. */
  readonly interval: number;
  /** How much longer than those of others its rounds are. */
  readonly stretch: number;
  /** Whether `--quick` has it. */
  readonly isQuick: boolean;
  /** Whether only the main contestants are measured: to connect that many takes minutes for each. */
  readonly takesLong: boolean;
}

const ECHO = {
  unit: "message",
  units: "messages",
  latency: "from sending to the whole answer",
  server: "echo",
  load: "echo",
} as const;
const SINGLE = {
  clients: 1,
  idle: 0,
  bytes: 64,
  depth: 1,
  interval: 0,
  stretch: 1,
  isQuick: true,
  takesLong: false,
} as const;
const BULK = { ...SINGLE, unit: "MiB", units: "MiB" } as const;

function echo(bytes: number, size: string, clients: number, isQuick: boolean): Workload {
  const [name, title] = clients === Infinity
    ? ["most", "as many connections as the machine allows"]
    : [`${clients}`, `${clients.toLocaleString("en")} connection${clients === 1 ? "" : "s"}`];
  const label = `echo-${size.replace(" ", "")}-${name}`;
  return {
    ...ECHO,
    ...SINGLE,
    name: label,
    title: `Echo of ${size}, ${title}`,
    clients,
    bytes,
    isQuick,
    takesLong: clients === Infinity,
  };
}

/** In the order in which they are measured and shown. */
export const WORKLOADS: readonly Workload[] = [
  echo(64, "64 B", 1, true),
  echo(64, "64 B", 64, true),
  echo(64, "64 B", 1000, true),
  echo(64, "64 B", Infinity, false),
  echo(16 * 1024, "16 KiB", 1, false),
  echo(16 * 1024, "16 KiB", 64, true),
  echo(16 * 1024, "16 KiB", 1000, false),
  echo(16 * 1024, "16 KiB", Infinity, false),
  {
    ...ECHO,
    ...SINGLE,
    name: "wake-ups",
    title: "Echo of 64 B, 1 connection, a message every 10 ms: the server waits for each",
    interval: 10,
    stretch: 4,
  },
  {
    ...ECHO,
    ...SINGLE,
    name: "pipelined",
    title: "Pipelined requests of 64 B: 16 under way on each of 64 connections",
    unit: "request",
    units: "requests",
    server: "requests",
    clients: 64,
    depth: 16,
  },
  {
    ...SINGLE,
    name: "churn",
    title: "Connect, request of 64 B, answer, close; 64 at a time",
    unit: "connection",
    units: "connections",
    latency: "from connecting to the whole answer",
    server: "echo",
    load: "churn",
    clients: 64,
  },
  {
    ...ECHO,
    ...SINGLE,
    name: "idle",
    title: "Echo of 64 B, one active among 10,000 idle connections",
    idle: 10_000,
    isQuick: false,
  },
  {
    ...ECHO,
    ...SINGLE,
    name: "sparse",
    title: "Echo of 64 B, 100 of 10,000 connections send every 50 ms",
    clients: 100,
    idle: 9_900,
    interval: 50,
    isQuick: false,
  },
  { ...BULK, name: "bulk-in", title: "Bulk, to the server", server: "in", load: "in", isQuick: false },
  { ...BULK, name: "bulk-out", title: "Bulk, from the server", server: "out", load: "out" },
  {
    ...SINGLE,
    name: "broadcast",
    title: "Broadcast of 256 B to 1,000 clients, one message at a time",
    unit: "delivery",
    units: "deliveries",
    latency: "from publishing until the last has it",
    server: "broadcast",
    load: "broadcast",
    clients: 1000,
    bytes: 256,
  },
];
