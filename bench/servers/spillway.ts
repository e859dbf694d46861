/**
 * Spillway as its documentation says: `spillway.ts level|edge [shared|spin|waiting|blocking [MODE [BYTES]]]`. `spin`
 * has the loop look for events a little longer before it parks, `waiting` has it wait for them in the kernel for longer,
 * `blocking` has it own its thread. MODE and BYTES, of a bulk transfer: see ../workloads.ts.
 */
import process from "node:process";
import { broadcast, type Connection, type ConnectionHandlers, EventLoop, serve, SharedBytes } from "../../mod.ts";

const [trigger, thread = "shared", mode = "echo", total = "0"] = process.argv.slice(2);
const REQUEST_BYTES = 64;
/** A single client that waits in the kernel too is back in a fraction of that. */
const SPIN_MS = 1;
/** Twice the pause of a client that sends every 10 ms. */
const WAIT_MS = 20;
const bulk = new SharedBytes(new Uint8Array(64 * 1024));
const members = new Set<Connection<number>>();

let answer: Uint8Array | undefined;
/** Kept, so that it is really made. */
export let planted: unknown;

/** The data of a connection: bytes of its transfer that are left. */
const HANDLERS: Record<string, ConnectionHandlers<number>> = {
  echo: {
    data(connection, bytes) {
      if (!connection.write(bytes)) connection.pause();
    },
    drain: (connection) => connection.resume(),
  },
  requests: {
    data(connection, bytes) {
      for (let at = 0; at < bytes.byteLength; at += REQUEST_BYTES) {
        connection.write(bytes.subarray(at, at + REQUEST_BYTES));
      }
    },
  },
  answers: {
    data(connection, bytes) {
      answer ??= bytes.slice(0, REQUEST_BYTES);
      for (let at = 0; at < bytes.byteLength; at += REQUEST_BYTES) connection.write(answer);
    },
  },
  planted: {
    data(connection, bytes) {
      planted = { length: bytes.byteLength };
      connection.write(bytes);
    },
  },
  in: {
    open: (connection) => void (connection.data = Number(total)),
    data(connection, bytes) {
      connection.data -= bytes.byteLength;
      if (connection.data === 0) connection.write(".");
    },
  },
  out: {
    data(connection) {
      connection.data = Number(total);
      pour(connection);
    },
    drain: pour,
  },
  broadcast: {
    data(connection, bytes) {
      if (members.has(connection)) broadcast(members, bytes);
      else members.add(connection) && connection.write(bytes);
    },
    close: (connection) => void members.delete(connection),
  },
};

function pour(connection: Connection<number>): void {
  while (connection.data > 0) {
    connection.data -= bulk.byteLength;
    if (!connection.write(bulk)) return;
  }
}

const loop = new EventLoop({
  ...thread === "spin" ? { spinMs: SPIN_MS } : {},
  ...thread === "waiting" ? { waitMs: WAIT_MS } : {},
});
const server = serve<number>({ loop, trigger: trigger as "level" | "edge", ...HANDLERS[mode]! });
console.log(server.url.split(":").at(-1));
if (thread === "blocking") loop.runBlocking();
else loop.run();
