/**
 * Sends back what it receives, and holds a client back that does not read: RFC 862.
 *
 *     deno run --allow-ffi examples/echo.ts --port 7007
 *     bun examples/echo.ts --port 7007
 *     node examples/echo.ts --port 7007        # Node 26.9 or later
 */
import { serve } from "../mod.ts";
import { runServer, serverOptions } from "./command_line.ts";

runServer(() =>
  serve({
    ...serverOptions(7007),
    data(connection, bytes) {
      if (!connection.write(bytes)) connection.pause();
    },
    drain(connection) {
      connection.resume();
    },
  })
);
