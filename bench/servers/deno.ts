/** `Deno.listen` as its documentation says. Arguments: mode and bytes of a bulk transfer; see ../workloads.ts. */
import process from "node:process";

const [mode = "echo", total = "0"] = process.argv.slice(2);
const REQUEST_BYTES = 64;
const BUFFER_BYTES = 64 * 1024;
/** Each connection has one, and the largest message fits in. */
const MESSAGE_BYTES = 16 * 1024;
const bulk = new Uint8Array(BUFFER_BYTES);
const members = new Set<Deno.TcpConn>();
/** What reading from a peer that is gone, and broadcasting to one, rejects with. */
const GONE = [
  Deno.errors.ConnectionReset,
  Deno.errors.BrokenPipe,
  Deno.errors.BadResource,
  Deno.errors.Interrupted,
  Deno.errors.NotConnected,
];

/** Each serves one connection to its end. */
const MODES: Record<string, (connection: Deno.TcpConn) => Promise<void>> = {
  async echo(connection) {
    const buffer = new Uint8Array(MESSAGE_BYTES);
    for (let count; (count = await connection.read(buffer)) !== null;) {
      await writeAll(connection, buffer.subarray(0, count));
    }
  },
  async requests(connection) {
    const buffer = new Uint8Array(BUFFER_BYTES);
    const answers = new Uint8Array(BUFFER_BYTES);
    for (let count; (count = await connection.read(buffer)) !== null;) {
      for (let at = 0; at < count; at += REQUEST_BYTES) answers.set(buffer.subarray(at, at + REQUEST_BYTES), at);
      await writeAll(connection, answers.subarray(0, count));
    }
  },
  async in(connection) {
    const buffer = new Uint8Array(BUFFER_BYTES);
    let left = Number(total);
    for (let count; (count = await connection.read(buffer)) !== null;) {
      left -= count;
      if (left === 0) await writeAll(connection, buffer.subarray(0, 1));
    }
  },
  async out(connection) {
    const buffer = new Uint8Array(BUFFER_BYTES);
    while (await connection.read(buffer) !== null) {
      for (let left = Number(total); left > 0; left -= bulk.byteLength) await writeAll(connection, bulk);
    }
  },
  async broadcast(connection) {
    const buffer = new Uint8Array(MESSAGE_BYTES);
    try {
      for (let count; (count = await connection.read(buffer)) !== null;) {
        const bytes = buffer.subarray(0, count);
        if (members.has(connection)) await Promise.all(Array.from(members, (member) => writeAll(member, bytes)));
        else await writeAll(connection, bytes);
        members.add(connection);
      }
    } finally {
      members.delete(connection);
    }
  },
};

async function writeAll(connection: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  for (let at = await connection.write(bytes); at < bytes.byteLength;) at += await connection.write(bytes.subarray(at));
}

async function serve(connection: Deno.TcpConn): Promise<void> {
  connection.setNoDelay();
  try {
    await MODES[mode]!(connection);
  } catch (error) {
    if (!GONE.some((each) => error instanceof each)) throw error;
  } finally {
    connection.close();
  }
}

const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
console.log((listener.addr as Deno.NetAddr).port);
for await (const connection of listener) serve(connection);
