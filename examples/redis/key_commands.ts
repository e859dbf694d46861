import { ALL_KEYS, command, type Commands, NO_KEYS, ONE_KEY } from "./command.ts";
import { CommandError, type Database, typeOf } from "./database.ts";
import { expiryTime } from "./expiry.ts";
import { matches } from "./glob.ts";
import { index } from "./numbers.ts";

const SCAN_COUNT = 10;
const CURSOR = /^[+-]?[0-9]+$/;
const NEVER = Infinity;

/** Commands for keys, whatever they hold. */
export function keyCommands(db: Database): Commands {
  function expire(name: string, unitMs: bigint) {
    return command(-3, ONE_KEY, (args, reply) => {
      const isAllowed = expiryCondition(args.slice(3));
      const time = expiryTime(args[2]!, { unitMs, isAbsolute: false }, name, -(2n ** 63n));
      const key = args[1]!;
      if (!db.has(key) || !isAllowed(db.expiry(key), time)) return reply.integer(0);
      if (time <= Date.now()) db.delete(key);
      else db.expireAt(key, time);
      reply.integer(1);
    });
  }

  function timeToLive(unitMs: number) {
    return command(2, ONE_KEY, (args, reply) => {
      const key = args[1]!;
      if (!db.has(key)) return reply.integer(-2);
      const expiry = db.expiry(key);
      reply.integer(expiry === undefined ? -1 : BigInt(Math.round(Math.max(0, expiry - Date.now()) / unitMs)));
    });
  }

  return {
    del: command(-2, ALL_KEYS, (args, reply) => {
      let deleted = 0;
      for (let i = 1; i < args.length; i++) if (db.delete(args[i]!)) deleted++;
      reply.integer(deleted);
    }),
    exists: command(-2, ALL_KEYS, (args, reply) => {
      let found = 0;
      for (let i = 1; i < args.length; i++) if (db.has(args[i]!)) found++;
      reply.integer(found);
    }),
    expire: expire("expire", 1_000n),
    pexpire: expire("pexpire", 1n),
    ttl: timeToLive(1_000),
    pttl: timeToLive(1),
    persist: command(2, ONE_KEY, (args, reply) => {
      const isExpiring = db.has(args[1]!) && db.expiry(args[1]!) !== undefined;
      if (isExpiring) db.expireAt(args[1]!, undefined);
      reply.integer(isExpiring ? 1 : 0);
    }),
    type: command(2, ONE_KEY, (args, reply) => reply.simple(typeOf(db.get(args[1]!)))),
    keys: command(2, NO_KEYS, (args, reply) => {
      const keys = db.keys().filter((key) => matches(args[1]!, key));
      reply.array(keys.length);
      for (const key of keys) reply.bulk(key);
    }),
    scan: command(-2, NO_KEYS, (args, reply) => {
      if (!CURSOR.test(args[1]!) || Math.abs(Number(args[1])) >= 2 ** 64) throw new CommandError("ERR invalid cursor");
      const { pattern, count, type } = scanOptions(args);
      const [next, keys] = db.scan(Number(args[1]), count);
      const wanted = keys.filter((key) =>
        matches(pattern, key) && (type ?? typeOf(db.get(key))) === typeOf(db.get(key))
      );
      reply.array(2);
      reply.bulk(String(next));
      reply.array(wanted.length);
      for (const key of wanted) reply.bulk(key);
    }),
    dbsize: command(1, NO_KEYS, (_args, reply) => reply.integer(db.size)),
    flushall: command(-1, NO_KEYS, (args, reply) => {
      const how = args[1]?.toUpperCase() ?? "SYNC";
      if (args.length > 2 || (how !== "SYNC" && how !== "ASYNC")) throw new CommandError("ERR syntax error");
      db.clear();
      reply.simple("OK");
    }),
  };
}

/** What the options of EXPIRE say: whether a key that expires at `before` may expire at `time` instead. */
function expiryCondition(options: readonly string[]): (before: number | undefined, time: number) => boolean {
  const given = new Set(options.map((option) => option.toUpperCase()));
  for (const option of options) {
    if (!["NX", "XX", "GT", "LT"].includes(option.toUpperCase())) {
      throw new CommandError(`ERR Unsupported option ${option}`);
    }
  }
  if (given.has("NX") && given.size > 1) {
    throw new CommandError("ERR NX and XX, GT or LT options at the same time are not compatible");
  }
  if (given.has("GT") && given.has("LT")) {
    throw new CommandError("ERR GT and LT options at the same time are not compatible");
  }
  return (before, time) =>
    !(given.has("NX") && before !== undefined) && !(given.has("XX") && before === undefined) &&
    !(given.has("GT") && time <= (before ?? NEVER)) && !(given.has("LT") && time >= (before ?? NEVER));
}

function scanOptions(args: readonly string[]): { pattern: string; count: number; type: string | undefined } {
  let [pattern, count, type]: [string, number, string | undefined] = ["*", SCAN_COUNT, undefined];
  for (let i = 2; i < args.length; i += 2) {
    const [option, value] = [args[i]!.toUpperCase(), args[i + 1]];
    if (value === undefined) throw new CommandError("ERR syntax error");
    if (option === "MATCH") pattern = value;
    else if (option === "TYPE") type = value.toLowerCase();
    else if (option === "COUNT" && index(value) >= 1) count = index(value);
    else throw new CommandError("ERR syntax error");
  }
  return { pattern, count, type };
}
