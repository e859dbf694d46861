/** examples/redis.ts as its users run it: its tools, slow readers, expiry. */
import { describe, expect, test } from "vitest";
import { CommandError, Database } from "../examples/redis/database.ts";
import { ARGUMENT_MAX_BYTES } from "../examples/redis/requests.ts";
import { stringCommands } from "../examples/redis/string_commands.ts";
import {
  endsWell,
  expectNoProcesses,
  type ServerProcess,
  start,
  startProgram,
  startServer,
} from "./support/processes.ts";
import { needsProgram } from "./support/programs.ts";
import { RedisClient, request } from "./support/redis.ts";

const REDIS = "examples/redis.ts";
const MIB = 1024 * 1024;
/** What a client may be behind before nothing more is read from it: the high-water mark, and the reply that reaches it. */
const HELD_BYTES = 3 * MIB;

expectNoProcesses();

const listen = (...args: string[]) => startServer(REDIS, ["--port", "0", ...args]);
const client = ({ port }: ServerProcess) => new RedisClient({ host: "127.0.0.1", port });
const bulk = (text: string) => `$${text.length}\r\n${text}\r\n`;

/** The clients, and then the server. */
async function allEnd(server: ServerProcess, ...clients: RedisClient[]): Promise<void> {
  for (const one of clients) await one.close();
  await endsWell(server);
}

/** What `program` prints, once it has ended well. */
async function output(program: string, ...args: string[]): Promise<string> {
  const process = startProgram(program, args);
  expect(await process.end()).toEqual({ code: 0, signal: null });
  return process.stdout;
}

describe.each(["level", "edge"])("redis, %s-triggered", (trigger) => {
  test("answers 10,000 requests that are written at once, in order", async () => {
    const server = await listen("--trigger", trigger);
    const one = client(server);
    one.send(Array.from({ length: 10_000 }, (_, i) => request("SET", `key:${i}`, `${i}`)).join(""));
    one.send(Array.from({ length: 10_000 }, (_, i) => request("GET", `key:${i}`)).join(""));
    const replies = await one.replies(20_000);
    expect(replies.slice(0, 10_000).every(({ raw }) => raw === "+OK\r\n")).toBe(true);
    expect(replies.slice(10_000).map(({ raw }) => raw)).toEqual(Array.from({ length: 10_000 }, (_, i) => bulk(`${i}`)));
    await allEnd(server, one);
  });

  test("does not read from a client that takes no replies, and goes on when it does", async () => {
    const server = await listen("--trigger", trigger);
    const [one, other] = [client(server), client(server)];
    const value = "\x00\xfe".repeat(MIB / 2);
    expect(await one.ask("SET", "value", value)).toBe("+OK\r\n");
    expect(await one.ask("CLIENT", "SETNAME", "slow")).toBe("+OK\r\n");
    one.socket.pause();
    one.send(request("GET", "value").repeat(64));
    const held = async () => {
      const list = await other.ask("CLIENT", "LIST");
      return Number(/name=slow .* omem=(\d+)/.exec(list)![1]);
    };
    let most = 0;
    while (most < MIB) most = await held();
    for (let i = 0; i < 50; i++) most = Math.max(most, await held());
    expect(most).toBeLessThan(HELD_BYTES);
    one.socket.resume();
    const replies = await one.replies(64);
    expect(replies.every(({ raw }) => raw === bulk(value))).toBe(true);
    await allEnd(server, one, other);
  });
});

describe("redis, its connections", () => {
  test("tells what was wrong with the protocol, then ends", async () => {
    const server = await listen();
    const one = client(server);
    one.send(`${request("PING")}*1\r\n$-5\r\n${request("PING")}`);
    expect(await one.toTheEnd()).toBe("+PONG\r\n-ERR Protocol error: invalid bulk length\r\n");
    await endsWell(server);
  });

  test("QUIT is the last request that is answered", async () => {
    const server = await listen();
    const one = client(server);
    one.send(request("PING") + request("QUIT") + request("PING"));
    expect(await one.toTheEnd()).toBe("+PONG\r\n+OK\r\n");
    await endsWell(server);
  });

  test.each(["POST / HTTP/1.1\r\n", "hOsT: x\r\n", request("post")])("a browser's %j ends it", async (line) => {
    const server = await listen();
    const one = client(server);
    one.send(request("PING"));
    await one.replies(1);
    one.send(line + request("SET", "a", "b"));
    expect(await one.toTheEnd()).toBe("");
    const other = client(server);
    expect(await other.ask("EXISTS", "a")).toBe(":0\r\n");
    await allEnd(server, other);
  });

  test("a client that ends its stream still gets its replies", async () => {
    const server = await listen();
    const one = client(server);
    one.send("PING\r\nECHO 'a b'\r\n");
    one.socket.end();
    expect(await one.toTheEnd()).toBe("+PONG\r\n$3\r\na b\r\n");
    await endsWell(server);
  });

  test("a bug ends the connection that runs into it, and is told on standard error", async () => {
    const server = await startServer("test/fixtures/redis_with_bug.ts", ["--port", "0"]);
    const [one, other] = [client(server), client(server)];
    expect(await one.ask("PING")).toBe("+PONG\r\n");
    one.send(request("DBSIZE"));
    expect(await one.toTheEnd()).toBe("");
    expect(await other.ask("PING")).toBe("+PONG\r\n");
    await other.close();
    await endsWell(server, /thrown by the fixture/);
  });

  test("refuses as Redis does, and --help says how", async () => {
    const farewell = "-ERR max number of clients reached\r\n";
    const server = await listen("--max-connections", "1");
    const one = client(server);
    expect(await one.ask("PING")).toBe("+PONG\r\n");
    const other = client(server);
    expect(await other.toTheEnd()).toBe(farewell);
    await one.close();
    await endsWell(server, /1 refused/);
    const help = start(REDIS, ["--help"]);
    expect(await help.end()).toEqual({ code: 0, signal: null });
    expect(help.stdout).toContain(`(${farewell.trimEnd()})\n`);
    expect(help.stdout).toContain("(6379)");
  });

  test("ends with code 2 for a flag that there is not", async () => {
    const server = start(REDIS, ["--bogus"]);
    expect(await server.end()).toEqual({ code: 2, signal: null });
    expect(server.stderr).toContain("--bogus");
  });
});

describe("redis, channels", () => {
  test("tells subscribers of protocol 2 and 3 in the form of theirs, in order", async () => {
    const server = await listen();
    const [two, three, publisher] = [client(server), client(server), client(server)];
    expect(await three.ask("HELLO", "3")).toMatch(/^%7\r\n/);
    two.send(request("SUBSCRIBE", "news", "weather"));
    three.send(request("SUBSCRIBE", "news"));
    expect((await two.replies(2)).map(({ raw }) => raw)).toEqual([
      `*3\r\n${bulk("subscribe")}${bulk("news")}:1\r\n`,
      `*3\r\n${bulk("subscribe")}${bulk("weather")}:2\r\n`,
    ]);
    expect((await three.replies(1))[0]!.raw).toBe(`>3\r\n${bulk("subscribe")}${bulk("news")}:1\r\n`);
    expect(await publisher.ask("PUBLISH", "news", "\x00\xff")).toBe(":2\r\n");
    expect(await publisher.ask("PUBLISH", "weather", "rain")).toBe(":1\r\n");
    expect(await publisher.ask("PUBLISH", "nothing", "")).toBe(":0\r\n");
    const message = `3\r\n${bulk("message")}${bulk("news")}${bulk("\x00\xff")}`;
    expect((await two.replies(1))[0]!.raw).toBe(`*${message}`);
    expect((await two.replies(1))[0]!.raw).toBe(`*3\r\n${bulk("message")}${bulk("weather")}${bulk("rain")}`);
    expect((await three.replies(1))[0]!.raw).toBe(`>${message}`);
    // Protocol 3 may ask for anything, and hears of what it publishes itself before the reply.
    three.send(request("ECHO", "x") + request("PUBLISH", "news", "mine"));
    expect((await three.replies(3)).map(({ raw }) => raw)).toEqual([
      bulk("x"),
      `>3\r\n${bulk("message")}${bulk("news")}${bulk("mine")}`,
      ":2\r\n",
    ]);
    await allEnd(server, two, three, publisher);
  });

  test("a subscriber of protocol 2 may do little else until it has unsubscribed", async () => {
    const server = await listen();
    const one = client(server);
    await one.ask("SUBSCRIBE", "news");
    expect(await one.ask("GET", "a")).toMatch(/^-ERR Can't execute 'get': only \(P\|S\)SUBSCRIBE /);
    expect(await one.ask("PING", "x")).toBe(`*2\r\n${bulk("pong")}${bulk("x")}`);
    expect(await one.ask("UNSUBSCRIBE")).toBe(`*3\r\n${bulk("unsubscribe")}${bulk("news")}:0\r\n`);
    expect(await one.ask("UNSUBSCRIBE")).toBe(`*3\r\n${bulk("unsubscribe")}$-1\r\n:0\r\n`);
    expect(await one.ask("GET", "a")).toBe("$-1\r\n");
    await allEnd(server, one);
  });

  test("a subscriber that does not read is cut off, and the others hear everything", async () => {
    const server = await listen();
    const [slow, other, publisher] = [client(server), client(server), client(server)];
    for (const one of [slow, other]) await one.ask("SUBSCRIBE", "news");
    slow.socket.pause();
    const text = "x".repeat(MIB);
    let sent = 0;
    for (let receivers = 2; receivers === 2; sent++) {
      receivers = Number((await publisher.ask("PUBLISH", "news", text)).slice(1));
      expect(sent, "messages before the slow one is cut off").toBeLessThan(100);
      for (const { raw } of await other.replies(1)) expect(raw.length).toBeGreaterThan(MIB);
    }
    expect(sent).toBeGreaterThan(32);
    slow.socket.resume();
    await slow.toTheEnd();
    expect(await publisher.ask("PING")).toBe("+PONG\r\n");
    await allEnd(server, other, publisher);
  });
});

describe("redis, the longest string", () => {
  const db = new Database();
  const replies: (number | bigint)[] = [];
  const { append } = stringCommands(db);
  const run = (text: string) =>
    append!.run(["APPEND", "a", text], { integer: (n: number) => replies.push(n) } as never, {} as never);

  /** In pieces of which engines make no whole as long as nobody looks inside. */
  function longText(length: number): string {
    if (length < 2) return "x".repeat(length);
    const half = longText(length >> 1);
    return half + half + "x".repeat(length & 1);
  }

  // Strings of V8 are 24 shorter than 512 MiB: the client was disconnected.
  test("APPEND goes as far as proto-max-bulk-len, and says so beyond", () => {
    run(longText(ARGUMENT_MAX_BYTES - 1));
    run("y");
    expect(() => run("z")).toThrow(new CommandError("ERR string exceeds maximum allowed size (proto-max-bulk-len)"));
    expect(replies).toEqual([ARGUMENT_MAX_BYTES - 1, ARGUMENT_MAX_BYTES]);
    expect(db.string("a")!.length).toBe(ARGUMENT_MAX_BYTES);
  });

  test("CONFIG GET tells it", async () => {
    const server = await listen();
    const one = client(server);
    const name = "proto-max-bulk-len";
    expect(await one.ask("CONFIG", "GET", name)).toBe(`*2\r\n${bulk(name)}${bulk(`${ARGUMENT_MAX_BYTES}`)}`);
    one.send(`*1\r\n$${ARGUMENT_MAX_BYTES + 1}\r\n`);
    expect(await one.toTheEnd()).toBe("-ERR Protocol error: invalid bulk length\r\n");
    await endsWell(server);
  });
});

describe("redis, expiry", () => {
  test("a key is gone when its time has come, for whoever asks", async () => {
    const server = await listen();
    const one = client(server);
    expect(await one.ask("SET", "a", "1", "PX", "20")).toBe("+OK\r\n");
    let reply = "";
    while ((reply = await one.ask("GET", "a")) === bulk("1"));
    expect(reply).toBe("$-1\r\n");
    expect(await one.ask("TTL", "a")).toBe(":-2\r\n");
    expect(await one.ask("LPUSH", "a", "x")).toBe(":1\r\n");
    expect(await one.ask("PTTL", "a")).toBe(":-1\r\n");
    await allEnd(server, one);
  });

  test("what is kept of a key that has expired is not its expiry", async () => {
    const server = await listen();
    const one = client(server);
    for (let i = 0; i < 5; i++) {
      expect(await one.ask("SET", "a", "1", "PX", "1")).toBe("+OK\r\n");
      const expired = Date.now() + 2;
      while (Date.now() <= expired);
      expect(await one.ask("SET", "a", "2", "KEEPTTL")).toBe("+OK\r\n");
      expect(await one.ask("PTTL", "a")).toBe(":-1\r\n");
      expect(await one.ask("GET", "a")).toBe(bulk("2"));
    }
    await allEnd(server, one);
  });

  test("keys that nobody asks for are deleted too, and the others stay", async () => {
    const server = await listen();
    const one = client(server);
    const set = (i: number) => request("SET", `key:${i}`, "x", "PX", i % 2 === 0 ? "10" : "1000000");
    one.send(Array.from({ length: 5_000 }, (_, i) => set(i)).join(""));
    await one.replies(5_000);
    let size = "";
    while ((size = await one.ask("DBSIZE")) !== ":2500\r\n") expect(Number(size.slice(1))).toBeGreaterThan(2_500);
    await allEnd(server, one);
  });
});

describe("redis, what it tells of itself", () => {
  test("a command that there is not has no description, in the form of either protocol", async () => {
    const server = await listen();
    const one = client(server);
    expect(await one.ask("COMMAND", "INFO", "nosuch", "GET")).toMatch(/^\*2\r\n\$-1\r\n\*10\r\n\$3\r\nget\r\n/);
    await one.ask("HELLO", "3");
    expect(await one.ask("COMMAND", "INFO", "nosuch")).toBe("*1\r\n_\r\n");
    await allEnd(server, one);
  });

  test("HELP lists the subcommands that there are, and each of them is one", async () => {
    const server = await listen();
    const one = client(server);
    for (const name of ["CLIENT", "COMMAND", "CONFIG"]) {
      const [title, ...subcommands] = (await one.ask(name, "HELP")).match(/(?<=^\+).*(?=\r\n)/gm)!;
      expect(title).toBe(`${name} <subcommand> [<arg> ...]. Subcommands are:`);
      expect(subcommands.at(-1)).toBe("HELP");
      for (const sub of subcommands) expect(await one.ask(name, sub)).not.toContain("unknown subcommand");
      expect(await one.ask(name, "HELP", "more")).toMatch(/^-ERR wrong number of arguments for '\w+\|help' command/);
    }
    await allEnd(server, one);
  });
});

describe("redis, programs that know Redis", () => {
  test.skipIf(needsProgram("redis-cli"))("redis-cli works with it, with both protocols", async () => {
    const server = await listen();
    const ask = (...args: string[]) => output("redis-cli", "-p", `${server.port}`, ...args);
    expect(await ask("SET", "key", "value")).toBe("OK\n");
    expect(await ask("RPUSH", "list", "a", "b")).toBe("2\n");
    expect(await ask("-3", "HSET", "hash", "field", "value")).toBe("1\n");
    expect(await ask("-3", "HGETALL", "hash")).toBe("field value\n");
    expect(await ask("--scan")).toMatch(/^(?:(?:key|list|hash)\n){3}$/);
    expect(await ask("--bigkeys")).toContain("Sampled 3 keys in the keyspace!");
    expect(await ask("INFO", "server")).toContain("redis_mode:standalone");
    // With a reply to COMMAND DOCS that says nothing, it would know of no command.
    expect(await output("sh", "-c", `echo help get | redis-cli -p ${server.port}`)).toContain("Get the value of a key");
    await endsWell(server);
  });

  test.skipIf(needsProgram("redis-benchmark"))(
    "redis-benchmark works with it, with pipelines and without",
    async () => {
      const server = await listen();
      const tests = [
        "ping",
        "set",
        "get",
        "incr",
        "lpush",
        "rpush",
        "lpop",
        "rpop",
        "sadd",
        "hset",
        "lrange_100",
        "mset",
      ];
      const benchmark = (pipeline: string) =>
        output(
          "redis-benchmark",
          ...["-p", `${server.port}`, "-n", "2000", "-c", "20", "-q", "--csv"],
          "-P",
          pipeline,
          ...[
            "-t",
            tests.join(","),
          ],
        );
      for (const pipeline of ["1", "16"]) {
        const lines = (await benchmark(pipeline)).trim().split("\n");
        expect(lines.length).toBeGreaterThan(tests.length);
      }
      await endsWell(server);
    },
  );
});
