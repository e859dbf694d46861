import { ALL_KEYS, command, type Commands, KEYS_AND_VALUES, ONE_KEY } from "./command.ts";
import { CommandError, type Database } from "./database.ts";
import { expiryTime, type TimeUnit } from "./expiry.ts";
import { integer, negative, sum } from "./numbers.ts";
import { ARGUMENT_MAX_BYTES } from "./requests.ts";

/** Options of SET that say a time, and how. */
const TIMES: Readonly<Record<string, TimeUnit>> = {
  EX: { unitMs: 1_000n, isAbsolute: false },
  PX: { unitMs: 1n, isAbsolute: false },
  EXAT: { unitMs: 1_000n, isAbsolute: true },
  PXAT: { unitMs: 1n, isAbsolute: true },
};

interface SetOptions {
  readonly condition?: "NX" | "XX";
  readonly isGet?: boolean;
  readonly keepsExpiry?: boolean;
  readonly expiry?: number;
}

/** Commands for keys that hold a string. */
export function stringCommands(db: Database): Commands {
  const add = (key: string, increment: string) => db.update(key, sum(db.string(key) ?? "0", increment));

  return {
    get: command(2, ONE_KEY, (args, reply) => reply.bulk(db.string(args[1]!))),
    set: command(-3, ONE_KEY, (args, reply) => {
      const key = args[1]!;
      if (args.length === 3) {
        db.replace(key, args[2]!);
        return reply.simple("OK");
      }
      const { condition, isGet, keepsExpiry, expiry } = setOptions(args);
      const before = isGet ? db.string(key) : undefined;
      const isSet = condition === undefined || (condition === "XX") === db.has(key);
      if (isSet) {
        if (keepsExpiry) db.update(key, args[2]!);
        else db.replace(key, args[2]!);
        if (expiry !== undefined) db.expireAt(key, expiry);
      }
      if (isGet || !isSet) reply.bulk(before);
      else reply.simple("OK");
    }),
    mget: command(-2, ALL_KEYS, (args, reply) => {
      reply.array(args.length - 1);
      for (let i = 1; i < args.length; i++) {
        const value = db.get(args[i]!);
        reply.bulk(typeof value === "string" ? value : undefined);
      }
    }),
    mset: command(-3, KEYS_AND_VALUES, (args, reply) => {
      if (args.length % 2 === 0) throw new CommandError("ERR wrong number of arguments for 'mset' command");
      for (let i = 1; i < args.length; i += 2) db.replace(args[i]!, args[i + 1]!);
      reply.simple("OK");
    }),
    incr: command(2, ONE_KEY, (args, reply) => reply.number(add(args[1]!, "1"))),
    decr: command(2, ONE_KEY, (args, reply) => reply.number(add(args[1]!, "-1"))),
    incrby: command(3, ONE_KEY, (args, reply) => {
      integer(args[2]!); // what is wrong with it is told first
      reply.number(add(args[1]!, args[2]!));
    }),
    decrby: command(3, ONE_KEY, (args, reply) => reply.number(add(args[1]!, negative(args[2]!)))),
    append: command(3, ONE_KEY, (args, reply) => {
      const before = db.string(args[1]!) ?? "";
      if (before.length + args[2]!.length > ARGUMENT_MAX_BYTES) {
        throw new CommandError("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
      }
      reply.integer(db.update(args[1]!, before + args[2]!).length);
    }),
    strlen: command(2, ONE_KEY, (args, reply) => reply.integer(db.string(args[1]!)?.length ?? 0)),
    getrange: command(4, ONE_KEY, (args, reply) => {
      const [start, end] = [integer(args[2]!), integer(args[3]!)];
      const value = db.string(args[1]!) ?? "";
      if (start < 0n && end < 0n && start > end) return reply.bulk("");
      const [first, last] = [start, end].map((at) => Math.max(0, Number(at) + (at < 0n ? value.length : 0)));
      reply.bulk(value.slice(first, last! + 1));
    }),
  };
}

function setOptions(args: readonly string[]): SetOptions {
  let [condition, time]: [SetOptions["condition"], string | undefined] = [undefined, undefined];
  let [isGet, keepsExpiry] = [false, false];
  let amount = "";
  for (let i = 3; i < args.length; i++) {
    const option = args[i]!.toUpperCase();
    if ((option === "NX" || option === "XX") && (condition ?? option) === option) {
      condition = option;
    } else if (option === "GET") {
      isGet = true;
    } else if (option === "KEEPTTL" && time === undefined) {
      keepsExpiry = true;
    } else if (Object.hasOwn(TIMES, option) && (time ?? option) === option && !keepsExpiry && i + 1 < args.length) {
      time = option;
      amount = args[++i]!;
    } else {
      throw new CommandError("ERR syntax error");
    }
  }
  const expiry = time === undefined ? undefined : expiryTime(amount, TIMES[time]!, "set", 1n);
  return { condition, isGet, keepsExpiry, expiry };
}
