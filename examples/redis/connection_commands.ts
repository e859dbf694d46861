import process from "node:process";
import type { Client } from "./client.ts";
import { command, type Commands, container, NO_KEYS } from "./command.ts";
import { CommandError } from "./database.ts";
import { matches } from "./glob.ts";
import { index, wholeNumber } from "./numbers.ts";
import type { Replies } from "./replies.ts";
import { ARGUMENT_MAX_BYTES } from "./requests.ts";
import type { RedisServer } from "./server.ts";

/** Whose behaviour this server has. */
const VERSION = "7.0.15";
/** What clients and tools ask for. */
const CONFIG: Readonly<Record<string, string>> = {
  appendonly: "no",
  databases: "1",
  maxmemory: "0",
  "proto-max-bulk-len": String(ARGUMENT_MAX_BYTES),
  save: "",
  timeout: "0",
};

/** Commands about the connection, the server and channels. */
export function connectionCommands(server: RedisServer): Commands {
  const { channels, clients, database } = server;

  function hello(args: readonly string[], reply: Replies, client: Client): void {
    let { protocol, name } = client;
    if (args.length > 1) {
      const version = wholeNumber(args[1]!);
      if (version === undefined) throw new CommandError("ERR Protocol version is not an integer or out of range");
      if (version !== 2n && version !== 3n) throw new CommandError("NOPROTO unsupported protocol version");
      protocol = version === 3n ? 3 : 2;
    }
    for (let i = 2; i < args.length; i++) {
      const option = args[i]!.toUpperCase();
      if (option === "AUTH" && i + 2 < args.length) {
        // There is one user, who needs no password.
        if (args[i + 1] !== "default") {
          throw new CommandError("WRONGPASS invalid username-password pair or user is disabled.");
        }
        i += 2;
      } else if (option === "SETNAME" && i + 1 < args.length) {
        name = clientName(args[++i]!);
      } else {
        throw new CommandError(`ERR Syntax error in HELLO option '${args[i]}'`);
      }
    }
    client.name = name;
    reply.protocol = client.protocol = protocol;
    reply.map(7);
    for (const text of ["server", "redis", "version", VERSION, "proto"]) reply.bulk(text);
    reply.integer(protocol);
    reply.bulk("id");
    reply.integer(client.id);
    for (const text of ["mode", "standalone", "role", "master", "modules"]) reply.bulk(text);
    reply.array(0);
  }

  function subscribed(how: string, channel: string | undefined, reply: Replies, client: Client): void {
    reply.push(3);
    reply.bulk(how);
    reply.bulk(channel);
    reply.integer(client.channels.size);
  }

  function describe(name: string, reply: Replies): void {
    if (!Object.hasOwn(server.commands, name)) return reply.null();
    const found = server.commands[name]!;
    reply.array(10); // its name, arity, flags and keys; and categories, hints, key specifications and subcommands: none
    reply.bulk(name);
    reply.integer(found.arity);
    reply.array(0);
    for (const number of found.keys) reply.integer(number);
    for (let i = 0; i < 4; i++) reply.array(0);
  }

  function describeAll(names: readonly string[], reply: Replies): void {
    reply.array(names.length);
    for (const name of names) describe(name.toLowerCase(), reply);
  }

  const aboutCommands = container("command", {
    count: command(2, NO_KEYS, (_args, reply) => reply.integer(Object.keys(server.commands).length)),
    info: command(-2, NO_KEYS, (args, reply) => {
      describeAll(args.length > 2 ? args.slice(2) : Object.keys(server.commands), reply);
    }),
    list: command(2, NO_KEYS, (_args, reply) => {
      const names = Object.keys(server.commands);
      reply.array(names.length);
      for (const name of names) reply.bulk(name);
    }),
  });

  function info(wanted: readonly string[]): string {
    const sections: Readonly<Record<string, Readonly<Record<string, string | number>>>> = {
      Server: {
        redis_version: VERSION,
        redis_mode: "standalone",
        process_id: process.pid,
        uptime_in_seconds: Math.floor((Date.now() - server.startedAtMs) / 1_000),
      },
      Clients: { connected_clients: clients.size },
      Memory: { used_memory: process.memoryUsage().heapUsed, used_memory_rss: process.memoryUsage().rss },
      Persistence: { loading: 0 },
      Stats: { total_connections_received: server.connected, total_commands_processed: server.executed },
      Replication: { role: "master", connected_slaves: 0 },
      Keyspace: database.size === 0 ? {} : { db0: `keys=${database.size},expires=${database.expiring},avg_ttl=0` },
    };
    return Object.entries(sections)
      .filter(([name]) => wanted.length === 0 || wanted.includes(name.toLowerCase()))
      .map(([name, lines]) =>
        `# ${name}\r\n${Object.entries(lines).map(([key, value]) => `${key}:${value}\r\n`).join("")}`
      )
      .join("\r\n");
  }

  return {
    ping: command(-1, NO_KEYS, (args, reply, client) => {
      if (args.length > 2) throw new CommandError("ERR wrong number of arguments for 'ping' command");
      if (client.channels.size > 0 && client.protocol === 2) {
        reply.array(2);
        reply.bulk("pong");
        reply.bulk(args[1] ?? "");
      } else if (args.length === 2) {
        reply.bulk(args[1]);
      } else {
        reply.simple("PONG");
      }
    }),
    echo: command(2, NO_KEYS, (args, reply) => reply.bulk(args[1])),
    hello: command(-1, NO_KEYS, hello),
    select: command(2, NO_KEYS, (args, reply) => {
      const number = index(args[1]!);
      if (Math.abs(number + 0.5) > 2 ** 31) {
        throw new CommandError("ERR value is out of range, value must between -2147483648 and 2147483647");
      }
      if (number !== 0) throw new CommandError("ERR DB index is out of range");
      reply.simple("OK");
    }),
    quit: command(-1, NO_KEYS, (_args, reply, client) => {
      client.quit();
      reply.simple("OK");
    }),

    subscribe: command(-2, NO_KEYS, (args, reply, client) => {
      for (const channel of args.slice(1)) {
        channels.subscribe(client, channel);
        subscribed("subscribe", channel, reply, client);
      }
    }),
    unsubscribe: command(-1, NO_KEYS, (args, reply, client) => {
      const left = args.length > 1 ? args.slice(1) : [...client.channels];
      for (const channel of left) {
        channels.unsubscribe(client, channel);
        subscribed("unsubscribe", channel, reply, client);
      }
      if (left.length === 0) subscribed("unsubscribe", undefined, reply, client);
    }),
    publish: command(3, NO_KEYS, (args, reply, client) => {
      if (client.channels.size > 0) reply.flush(); // its own message follows what it was replied
      reply.integer(channels.publish(args[1]!, args[2]!));
    }),

    client: container("client", {
      id: command(2, NO_KEYS, (_args, reply, client) => reply.integer(client.id)),
      getname: command(2, NO_KEYS, (_args, reply, client) => reply.bulk(client.name === "" ? undefined : client.name)),
      setname: command(3, NO_KEYS, (args, reply, client) => {
        client.name = clientName(args[2]!);
        reply.simple("OK");
      }),
      info: command(2, NO_KEYS, (_args, reply, client) => reply.verbatim(clientLine(client))),
      list: command(-2, NO_KEYS, (args, reply) => {
        if (args.length > 2) throw new CommandError("ERR syntax error");
        reply.verbatim([...clients].map(clientLine).join(""));
      }),
    }),
    config: container("config", {
      get: command(-3, NO_KEYS, (args, reply) => {
        const found = new Map<string, string>(); // a name that was asked for is told as it was asked
        for (const asked of args.slice(2)) {
          const pattern = asked.toLowerCase();
          for (const name of Object.keys(CONFIG)) {
            if (!found.has(name) && matches(pattern, name)) found.set(name, pattern === name ? asked : name);
          }
        }
        reply.map(found.size);
        for (const [name, told] of found) {
          reply.bulk(told);
          reply.bulk(CONFIG[name]);
        }
      }),
    }),
    command: command(-1, NO_KEYS, (args, reply, client) => {
      if (args.length > 1) return aboutCommands.run(args, reply, client);
      describeAll(Object.keys(server.commands), reply);
    }),
    info: command(-1, NO_KEYS, (args, reply) => {
      const wanted = args.slice(1).map((section) => section.toLowerCase());
      const isAll = wanted.some((section) => ["all", "default", "everything"].includes(section));
      reply.verbatim(info(isAll ? [] : wanted));
    }),
  };
}

function clientName(name: string): string {
  if (/^[!-~]*$/.test(name)) return name;
  throw new CommandError("ERR Client names cannot contain spaces, newlines or special characters.");
}

function clientLine({ id, name, protocol, channels, connection }: Client): string {
  const address = connection.remoteAddress;
  const addr = address?.transport === "tcp" ? `${address.hostname}:${address.port}` : address?.path ?? "";
  const [age, idle] = [connection.ageMs, connection.idleMs].map((ms) => Math.floor(ms / 1_000));
  return `id=${id} addr=${addr} name=${name} age=${age} idle=${idle} db=0 sub=${channels.size} ` +
    `omem=${connection.queuedBytes} resp=${protocol}\n`;
}
