import { command, type Commands, ONE_KEY } from "./command.ts";
import { CommandError, type Database } from "./database.ts";
import { List } from "./list.ts";
import { index, wholeNumber } from "./numbers.ts";

/** Commands for keys that hold a list. */
export function listCommands(db: Database): Commands {
  const create = (key: string) => db.list(key) ?? db.update(key, new List());

  function pop(name: string, take: (list: List) => string) {
    return command(-2, ONE_KEY, (args, reply) => {
      if (args.length > 3) throw new CommandError(`ERR wrong number of arguments for '${name}' command`);
      const count = args[2] === undefined ? undefined : positive(args[2]);
      const list = db.list(args[1]!);
      if (list === undefined) return count === undefined ? reply.null() : reply.nullArray();
      if (count === undefined) {
        reply.bulk(take(list));
      } else {
        let left = Math.min(count, list.size);
        reply.array(left);
        for (; left > 0; left--) reply.bulk(take(list));
      }
      db.deleteIfEmpty(args[1]!, list);
    });
  }

  return {
    lpush: command(-3, ONE_KEY, (args, reply) => {
      const list = create(args[1]!);
      for (let i = 2; i < args.length; i++) list.unshift(args[i]!);
      reply.integer(list.size);
    }),
    rpush: command(-3, ONE_KEY, (args, reply) => {
      const list = create(args[1]!);
      for (let i = 2; i < args.length; i++) list.push(args[i]!);
      reply.integer(list.size);
    }),
    lpop: pop("lpop", (list) => list.shift()),
    rpop: pop("rpop", (list) => list.pop()),
    llen: command(2, ONE_KEY, (args, reply) => reply.integer(db.list(args[1]!)?.size ?? 0)),
    lrange: command(4, ONE_KEY, (args, reply) => {
      const [start, end] = [index(args[2]!), index(args[3]!)];
      const list = db.list(args[1]!);
      const size = list?.size ?? 0;
      const first = Math.max(0, start < 0 ? start + size : start);
      const last = Math.min(size - 1, end < 0 ? end + size : end);
      reply.array(Math.max(0, last - first + 1));
      for (let i = first; i <= last; i++) reply.bulk(list!.at(i));
    }),
  };
}

/** Commands for keys that hold a hash. */
export function hashCommands(db: Database): Commands {
  return {
    hset: command(-4, ONE_KEY, (args, reply) => {
      if (args.length % 2 !== 0) throw new CommandError("ERR wrong number of arguments for 'hset' command");
      const hash = db.hash(args[1]!) ?? db.update(args[1]!, new Map<string, string>());
      const before = hash.size;
      for (let i = 2; i < args.length; i += 2) hash.set(args[i]!, args[i + 1]!);
      reply.integer(hash.size - before);
    }),
    hget: command(3, ONE_KEY, (args, reply) => reply.bulk(db.hash(args[1]!)?.get(args[2]!))),
    hgetall: command(2, ONE_KEY, (args, reply) => {
      const hash = db.hash(args[1]!);
      reply.map(hash?.size ?? 0);
      for (const [field, value] of hash ?? []) {
        reply.bulk(field);
        reply.bulk(value);
      }
    }),
    hdel: command(-3, ONE_KEY, (args, reply) => {
      const hash = db.hash(args[1]!);
      if (hash === undefined) return reply.integer(0);
      const before = hash.size;
      for (let i = 2; i < args.length; i++) hash.delete(args[i]!);
      db.deleteIfEmpty(args[1]!, hash);
      reply.integer(before - hash.size);
    }),
    hlen: command(2, ONE_KEY, (args, reply) => reply.integer(db.hash(args[1]!)?.size ?? 0)),
  };
}

/** Commands for keys that hold a set. */
export function setCommands(db: Database): Commands {
  return {
    sadd: command(-3, ONE_KEY, (args, reply) => {
      const set = db.set(args[1]!) ?? db.update(args[1]!, new Set<string>());
      const before = set.size;
      for (let i = 2; i < args.length; i++) set.add(args[i]!);
      reply.integer(set.size - before);
    }),
    srem: command(-3, ONE_KEY, (args, reply) => {
      const set = db.set(args[1]!);
      if (set === undefined) return reply.integer(0);
      const before = set.size;
      for (let i = 2; i < args.length; i++) set.delete(args[i]!);
      db.deleteIfEmpty(args[1]!, set);
      reply.integer(before - set.size);
    }),
    sismember: command(3, ONE_KEY, (args, reply) => reply.integer(db.set(args[1]!)?.has(args[2]!) === true ? 1 : 0)),
    smembers: command(2, ONE_KEY, (args, reply) => {
      const set = db.set(args[1]!);
      reply.set(set?.size ?? 0);
      for (const member of set ?? []) reply.bulk(member);
    }),
    scard: command(2, ONE_KEY, (args, reply) => reply.integer(db.set(args[1]!)?.size ?? 0)),
  };
}

function positive(text: string): number {
  const number = wholeNumber(text);
  if (number === undefined || number < 0n) throw new CommandError("ERR value is out of range, must be positive");
  return Number(number);
}
