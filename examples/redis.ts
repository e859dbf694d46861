/**
 * A server that Redis' own clients and tools can talk to: strings, lists, hashes, sets, expiry and channels, by the
 * versions 2 and 3 of its protocol. Everything is in memory, and nothing is kept when it ends.
 *
 *     deno run --allow-ffi examples/redis.ts --port 6379
 *     bun examples/redis.ts --port 6379
 *     node examples/redis.ts --port 6379        # Node 26.9 or later
 *
 * It replies what Redis 7.0 replies, byte for byte, with few exceptions, which `test/redis_differential.test.ts` lists.
 *
 * Read `redis/client.ts` first: requests come in by `redis/requests.ts`, are looked up by `redis/server.ts` and answered
 * by the tables in `redis/*_commands.ts`; `redis/replies.ts` gathers the answers of one chunk for one write.
 */
import { serve } from "../mod.ts";
import { runServer, serverOptions } from "./command_line.ts";
import type { Client } from "./redis/client.ts";
import { RedisServer } from "./redis/server.ts";

/** What no client may be behind: the longest string, and as much again. Subscribers have a limit of their own. */
const MAX_QUEUED_BYTES = 1024 * 1024 * 1024;
const EXPIRE_INTERVAL_MS = 100;

const redis = new RedisServer();

runServer(() => {
  const server = serve<Client>({
    ...serverOptions(6379),
    maxQueuedBytes: MAX_QUEUED_BYTES,
    open: (connection) => redis.open(connection),
    data: (connection, bytes) => connection.data.receive(bytes),
    drain: (connection) => connection.data.drain(),
    close: (connection) => redis.close(connection.data),
  });

  /** Keys that nobody asks for expire too: some are looked at now and then, and more at once where many have. */
  function expire(): void {
    const deleted = redis.database.expireSome();
    server.loop.setTimer(deleted > 0 ? 0 : EXPIRE_INTERVAL_MS, expire);
  }
  expire();
  return server;
});
