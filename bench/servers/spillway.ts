import process from "node:process";
import { serve } from "../../mod.ts";

const server = serve({
  trigger: process.argv[2] as "level" | "edge",
  data(connection, bytes) {
    connection.write(bytes);
  },
});
console.log(server.url.split(":").at(-1));
