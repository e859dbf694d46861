/** examples/redis.ts by a client that many programs use. */
import { Redis } from "ioredis";
import { Buffer } from "node:buffer";
import { expect, test } from "vitest";
import { endsWell, expectNoProcesses, startServer } from "./support/processes.ts";

expectNoProcesses();

test("ioredis works with it unchanged", async () => {
  const server = await startServer("examples/redis.ts", ["--port", "0"]);
  const redis = new Redis({ port: server.port, host: "127.0.0.1" });
  const subscriber = redis.duplicate();
  expect(await redis.set("key", "value", "EX", 1_000, "NX")).toBe("OK");
  expect(await redis.get("key")).toBe("value");
  expect(await redis.ttl("key")).toBe(1_000);
  const binary = Buffer.from([0, 13, 10, 255]);
  await redis.set(binary, binary);
  expect(await redis.getBuffer(binary)).toEqual(binary);
  const pipeline = redis.pipeline();
  for (let i = 0; i < 100; i++) pipeline.incr("counter");
  expect((await pipeline.exec())!.at(-1)).toEqual([null, 100]);
  expect(await redis.hset("hash", { one: "1", two: "2" })).toBe(2);
  expect(await redis.hgetall("hash")).toEqual({ one: "1", two: "2" });
  expect(await redis.mget("key", "none")).toEqual(["value", null]);
  await expect(redis.lpush("key", "x")).rejects.toThrow("WRONGTYPE");
  const scanned: string[] = [];
  for await (const keys of redis.scanStream({ match: "c*", count: 1 })) scanned.push(...keys as string[]);
  expect(scanned).toEqual(["counter"]);
  const heard = new Promise((resolve) => subscriber.on("message", (...message) => resolve(message)));
  expect(await subscriber.subscribe("news")).toBe(1);
  expect(await redis.publish("news", "hello")).toBe(1);
  expect(await heard).toEqual(["news", "hello"]);
  expect([await subscriber.quit(), await redis.quit()]).toEqual(["OK", "OK"]);
  await endsWell(server);
});
