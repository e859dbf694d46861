/** `node:net` as its documentation says. Arguments: mode and bytes of a bulk transfer; see ../workloads.ts. */
import { type AddressInfo, createServer, type Socket } from "node:net";
import process from "node:process";

const [mode = "echo", total = "0"] = process.argv.slice(2);
const REQUEST_BYTES = 64;
const bulk = new Uint8Array(64 * 1024);
const members = new Set<Socket>();

const MODES: Record<string, (socket: Socket) => void> = {
  echo(socket) {
    socket.on("data", (bytes) => {
      if (!socket.write(bytes)) socket.pause();
    });
    socket.on("drain", () => socket.resume());
  },
  requests(socket) {
    socket.on("data", (bytes: Uint8Array) => {
      socket.cork();
      for (let at = 0; at < bytes.byteLength; at += REQUEST_BYTES) socket.write(bytes.subarray(at, at + REQUEST_BYTES));
      process.nextTick(() => socket.uncork());
    });
  },
  in(socket) {
    let left = Number(total);
    socket.on("data", ({ byteLength }: Uint8Array) => {
      left -= byteLength;
      if (left === 0) socket.write(".");
    });
  },
  out(socket) {
    let left = 0;
    const pour = () => {
      for (let goesOn = true; left > 0 && goesOn; left -= bulk.byteLength) goesOn = socket.write(bulk);
    };
    socket.on("data", () => {
      left = Number(total);
      pour();
    });
    socket.on("drain", pour);
  },
  broadcast(socket) {
    socket.on("data", (bytes) => {
      if (!members.has(socket)) {
        members.add(socket);
        socket.write(bytes);
      } else {
        for (const member of members) member.write(bytes);
      }
    });
    socket.on("close", () => members.delete(socket));
  },
};

const server = createServer({ noDelay: true }, (socket) => {
  MODES[mode]!(socket);
  socket.on("error", () => socket.destroy());
});
server.listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port));
