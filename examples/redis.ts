/**
 * A server that Redis' own clients and tools can talk to: strings, lists, hashes, sets, expiry and channels, by the
 * versions 2 and 3 of its protocol. Everything is in memory, and nothing is kept when it ends.
 *
 *     deno run --allow-ffi examples/redis.ts --port 6379
 *     bun examples/redis.ts --port 6379
 *     node examples/redis.ts --port 6379        # Node 26.9 or later
 *
 * It replies what Redis 7.0 replies, byte for byte, with few exceptions. `redis/README.md` lists them, and what is
 * missing.
 *
 * Read `redis/client.ts` first: requests come in by `redis/requests.ts`, are looked up by `redis/server.ts` and answered
 * by the tables in `redis/*_commands.ts`; `redis/replies.ts` gathers the answers of one chunk for one write.
 */
import { EventLoop, serve } from "../mod.ts";
import { runServer, serverOptions } from "./command_line.ts";
import type { Client } from "./redis/client.ts";
import { RedisServer } from "./redis/server.ts";

/** What no client may be behind: the longest string, and as much again. Subscribers have a limit of their own. */
const MAX_QUEUED_BYTES = 1024 * 1024 * 1024;
const EXPIRE_INTERVAL_MS = 100;
/** How long a signal may have to wait. */
const SLICE_MS = 50;

const redis = new RedisServer();
const loop = new EventLoop();
let isStopped = false;

/** Keys that nobody asks for expire too: some are looked at now and then, and more at once where many have. */
function expire(): void {
  const deleted = redis.database.expireSome();
  loop.setTimer(deleted > 0 ? 0 : EXPIRE_INTERVAL_MS, expire);
}

/**
 * Nothing but signals goes on beside the server, so it turns its loop itself, and waits in the kernel: that answers
 * sooner than `loop.run()`, which has the runtime go on meanwhile.
 */
function drive(): void {
  if (isStopped) return void loop.close();
  // A timer, and it is due when the slice ends. With setImmediate, Deno 2.9 looks for signals once in seconds.
  setTimeout(drive, 0);
  const beganAt = loop.now;
  do loop.turn(SLICE_MS); while (loop.now - beganAt < SLICE_MS);
}

runServer(() => {
  const server = serve<Client>({
    ...serverOptions(6379, "-ERR max number of clients reached\r\n"),
    loop,
    maxQueuedBytes: MAX_QUEUED_BYTES,
    open: (connection) => redis.open(connection),
    data: (connection, bytes) => connection.data.receive(bytes),
    drain: (connection) => connection.data.drain(),
    close(connection, error, reason) {
      if (reason === "handler error") console.error(error); // a bug: the client sees only an end
      redis.close(connection.data);
    },
  });
  expire();
  setTimeout(drive, 0);
  return server;
}, () => isStopped = true);
