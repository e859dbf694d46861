/**
 * examples/redis.ts beside redis-server: the same random commands to both, and the same bytes back. What may differ is
 * listed in support/redis_commands.ts. REDIS_COMMANDS says how many commands.
 */
import fc from "fast-check";
import { dirname } from "node:path";
import process from "node:process";
import { afterEach, describe, expect, test, vi } from "vitest";
import { until } from "./support/conditions.ts";
import { newPath } from "./support/folders.ts";
import { expectNoProcesses, startProgram, startServer } from "./support/processes.ts";
import { needsProgram } from "./support/programs.ts";
import { checkAsync } from "./support/properties.ts";
import { RedisClient, request } from "./support/redis.ts";
import { areAlike, type Args, someCommand } from "./support/redis_commands.ts";
import { someStream } from "./support/redis_streams.ts";

const COMMANDS = Number(process.env.REDIS_COMMANDS ?? 2_000);
/** Of one program, at the most; half as many on average. */
const PROGRAM_COMMANDS = 100;

vi.setConfig({ testTimeout: 90_000 + COMMANDS });
expectNoProcesses();

let ours: RedisClient;
let theirs: RedisClient;

/** @returns Where they listen. */
async function startBoth(): Promise<string[]> {
  const [ourPath, theirPath] = [newPath(), newPath()];
  const redis = startProgram("redis-server", [
    ...["--port", "0", "--unixsocket", theirPath, "--dir", dirname(theirPath)],
    ...["--save", "", "--appendonly", "no", "--databases", "1"],
  ]);
  await startServer("examples/redis.ts", ["--path", ourPath]);
  await until(() => redis.stdout.includes("ready") || redis.exit !== undefined, "redis-server's sockets");
  [ours, theirs] = [new RedisClient({ path: ourPath }), new RedisClient({ path: theirPath })];
  return [ourPath, theirPath];
}

describe.skipIf(needsProgram("redis-server"))("redis, beside redis-server", () => {
  afterEach(async () => {
    await Promise.all([ours.close(), theirs.close()]);
  });

  test("random commands get the same replies, byte for byte", async () => {
    await startBoth();
    const program = fc.array(someCommand, { minLength: 1, maxLength: PROGRAM_COMMANDS, size: "max" });
    const property = fc.asyncProperty(fc.constantFrom("2", "3"), program, async (version, commands) => {
      await Promise.all([ours, theirs].map((client) => client.ask("HELLO", version)));
      const all: Args[] = [["FLUSHALL"], ["CLIENT", "SETNAME", ""], ...commands];
      const bytes = all.map((args) => request(...args)).join("");
      const [our, their] = await Promise.all([ours, theirs].map((client) => {
        client.send(bytes);
        return client.replies(all.length);
      }));
      for (const [i, args] of all.entries()) {
        if (areAlike(args, our![i]!, their![i]!)) continue;
        expect({ args, reply: our![i]!.raw }).toEqual({ args, reply: their![i]!.raw });
      }
    });
    await checkAsync(property, Math.ceil(2 * COMMANDS / PROGRAM_COMMANDS));
  });

  test("random streams in and out of the protocol get the same replies, and the same end", async () => {
    const places = await startBoth();
    const property = fc.asyncProperty(someStream, async (stream) => {
      const [our, their] = await Promise.all(places.map((path) => {
        const client = new RedisClient({ path });
        client.send(stream);
        client.socket.end();
        return client.toTheEnd();
      }));
      expect(our).toBe(their);
    });
    await checkAsync(property, Math.ceil(COMMANDS / 10));
  });
});
