/** `spillway.ts level|edge [blocking]`: `blocking` has the loop own its thread. */
import process from "node:process";
import { EventLoop, serve } from "../../mod.ts";

const [trigger, mode] = process.argv.slice(2) as ["level" | "edge", "blocking"?];
const loop = new EventLoop();
const server = serve({
  loop,
  trigger,
  data(connection, bytes) {
    connection.write(bytes);
  },
});
console.log(server.url.split(":").at(-1));
if (mode === "blocking") loop.runBlocking();
else loop.run();
