/** `Bun.listen` as its documentation says. Arguments: mode and bytes of a bulk transfer; see ../workloads.ts. */
import { ArrayBufferSink, type Socket } from "bun";
import process from "node:process";

/** Of each connection. */
interface State {
  /** What the kernel has not taken. */
  rest: Uint8Array | undefined;
  /** Bytes of its transfer that are left. */
  left: number;
}

type Handler = (socket: Socket<State>, bytes: Uint8Array) => void;

const [mode = "echo", total = "0"] = process.argv.slice(2);
const REQUEST_BYTES = 64;
const bulk = new Uint8Array(64 * 1024);
const members = new Set<Socket<State>>();
const sink = new ArrayBufferSink();
sink.start({ stream: true, asUint8Array: true, highWaterMark: 64 * 1024 });

const MODES: Record<string, Handler> = {
  echo: write,
  requests(socket, bytes) {
    for (let at = 0; at < bytes.byteLength; at += REQUEST_BYTES) sink.write(bytes.subarray(at, at + REQUEST_BYTES));
    write(socket, sink.flush() as Uint8Array);
  },
  in(socket, { byteLength }) {
    socket.data.left -= byteLength;
    if (socket.data.left === 0) socket.write(".");
  },
  out(socket) {
    pour(socket);
  },
  broadcast(socket, bytes) {
    if (!members.has(socket)) {
      members.add(socket);
      write(socket, bytes);
    } else {
      for (const member of members) write(member, bytes);
    }
  },
};

/** Offers the bytes to the kernel; what it does not take waits for `drain`, and nothing more is read meanwhile. */
function write(socket: Socket<State>, bytes: Uint8Array): void {
  const { data } = socket;
  if (data.rest !== undefined) return void (data.rest = Buffer.concat([data.rest, bytes]));
  const sent = Math.max(0, socket.write(bytes));
  if (sent === bytes.byteLength) return;
  data.rest = bytes.slice(sent);
  socket.pause();
}

function pour(socket: Socket<State>): void {
  const { data } = socket;
  while (data.left > 0) {
    const sent = socket.write(bulk);
    data.left -= Math.max(0, sent);
    if (sent < bulk.byteLength) return;
  }
}

const listener = Bun.listen<State>({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    open(socket) {
      socket.data = { rest: undefined, left: Number(total) };
      socket.setNoDelay(true);
    },
    data: MODES[mode]!,
    drain(socket) {
      if (mode === "out") return pour(socket);
      const { rest } = socket.data;
      if (rest === undefined) return;
      socket.data.rest = undefined;
      socket.resume();
      write(socket, rest);
    },
    close: (socket) => void members.delete(socket),
    error() {}, // the peer has gone, and `close` follows
  },
});
console.log(listener.port);
