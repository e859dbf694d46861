/**
 * A closed loop: each of CLIENTS connections sends BYTES, waits for as many, and sends again, for SECONDS. Prints how
 * many came back. Runs under Bun: `bun bench/load.ts PORT CLIENTS BYTES SECONDS`.
 */
import process from "node:process";

const [port, clients, bytes, seconds] = process.argv.slice(2).map(Number) as [number, number, number, number];
const message = new Uint8Array(bytes).fill(0x2e);
let messages = 0;

await Promise.all(Array.from({ length: clients }, () => {
  let left = bytes;
  return Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      open: (socket) => void socket.write(message),
      data(socket, { byteLength }) {
        left -= byteLength;
        if (left > 0) return;
        left = bytes;
        messages++;
        socket.write(message);
      },
      error: (_, error) => {
        throw error;
      },
    },
  });
}));
setTimeout(() => {
  console.log(messages);
  process.exit(0);
}, 1000 * seconds);
