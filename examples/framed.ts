/**
 * Sends back what it receives, frame by frame: each is preceded by its length, 4 bytes with the most significant first,
 * and has at most 64 KiB. A client that announces more is disconnected at once, and so is one that takes longer than ten
 * seconds over a frame.
 *
 *     deno run --allow-ffi examples/framed.ts --port 7008
 *     bun examples/framed.ts --port 7008
 *     node examples/framed.ts --port 7008        # Node 26.9 or later
 */
import { type Connection, FrameError, LengthPrefixFramer, serve } from "../mod.ts";
import { runServer, serverOptions } from "./command_line.ts";

runServer(() =>
  serve<LengthPrefixFramer>({
    ...serverOptions(7008),
    readTimeoutMs: 10_000,
    open(connection) {
      connection.data = new LengthPrefixFramer({ lengthBytes: 4, maxFrameBytes: 64 * 1024 });
    },
    data(connection, bytes) {
      // A frame that is too long makes `push` throw, which closes this connection.
      const framer = connection.data;
      const frames = framer.push(bytes, (frame) => reply(connection, frame));
      if (frames > 0) connection.progress(framer.bufferedBytes);
    },
    drain(connection) {
      connection.resume();
    },
    close(_, error, reason) {
      if (reason === "handler error" && !(error instanceof FrameError)) console.error(error); // a bug of ours
    },
  })
);

function reply(connection: Connection<LengthPrefixFramer>, frame: Uint8Array): void {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, frame.byteLength);
  if (!connection.writev([length, frame])) connection.pause();
}
