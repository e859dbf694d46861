/**
 * Spillway's contestant: an echo server that prints its port, then each event of overload as a line of JSON. Its log goes
 * to standard error, as by default. `server.ts OPTIONS`: JSON of options for `serve`, and `listeners`.
 */
import process from "node:process";
import { Coordinator, EventLoop, type OverloadEvent, serve, type ServerOptions } from "../../mod.ts";
import { OverloadLog } from "../../src/overload_log.ts";

const { listeners = 1, ...options } = JSON.parse(process.argv[2] ?? "{}") as ServerOptions & { listeners?: number };

const loop = new EventLoop();
const coordinator = new Coordinator(undefined, false); // of one thread
let port = 0;
for (let i = 0; i < listeners; i++) {
  const server = serve({
    ...options,
    port,
    loop,
    coordinator,
    data(connection, bytes) {
      connection.write(bytes);
    },
    overloaded(event: OverloadEvent) {
      console.log(JSON.stringify(event));
      log.log(event, loop.now);
    },
  });
  if (server.address.transport === "tcp") port = server.address.port;
  const log = new OverloadLog(() => server.url, (line) => console.error(line));
}
console.log(port);
loop.run();
