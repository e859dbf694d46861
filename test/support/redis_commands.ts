/** Random commands for a server that is compared with Redis, and what may differ in the replies. */
import fc from "fast-check";
import type { Reply } from "./redis.ts";

export type Args = readonly string[];

const byte = fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code));
const binary = (maxLength: number) => fc.string({ unit: byte, maxLength });

const KEYS: Readonly<Record<string, string[]>> = {
  string: ["a", "b", "counter", "\x00\xff\r\n", "key:000000000012"],
  list: ["list", "l\xe9\x80"],
  hash: ["hash", "h\n"],
  set: ["set", ""],
};
const anyKey = fc.constantFrom(...Object.values(KEYS).flat());

/** A key that mostly holds what it is asked for. */
function keyOf(type: string): fc.Arbitrary<string> {
  return fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...KEYS[type]!) }, { weight: 1, arbitrary: anyKey });
}

const ODD_NUMBERS = ["", "-0", "+1", "007", " 1", "1 ", "1.0", "0x10", "1e3", "ten", "9223372036854775807"];
const EXTREMES = ["9223372036854775808", "-9223372036854775808", "-9223372036854775809", "9007199254740993"];
const number = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: -30, max: 30 }).map(String) },
  { weight: 2, arbitrary: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String) },
  { weight: 1, arbitrary: fc.constantFrom(...ODD_NUMBERS, ...EXTREMES) },
);
const value = fc.oneof(
  { weight: 4, arbitrary: binary(12) },
  { weight: 4, arbitrary: number },
  { weight: 2, arbitrary: binary(80) },
  { weight: 1, arbitrary: fc.nat({ max: 70_000 }).map((length) => "\x80x".repeat(length / 2)) },
);
const member = fc.oneof(fc.integer({ min: 0, max: 9 }).map(String), fc.constantFrom("x", "y", "\xff"), binary(8));

/** So far in the future that no run sees it, apart so far that none is taken for another, or past. */
const amount = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 1_000_000, max: 2_000_000_000 }).map(String) },
  { weight: 1, arbitrary: fc.constantFrom("0", "-1", "-100", "9223372036854775", "9223372036854775000") },
  { weight: 1, arbitrary: fc.constantFrom(...ODD_NUMBERS, ...EXTREMES) },
);
/** Of both units: when Redis notices that a key has expired is left open, and DBSIZE tells. */
const since1970 = fc.integer({ min: 4_000_000_000_000, max: 9_000_000_000_000 }).map(String);

const pattern = fc.oneof(
  fc.constantFrom("*", "l*", "?", "*t", "[a-c]", "[^a]*", "[z-a]", "k*:*1?", "\\a", "[", "a[", "**r", "", "[\\", "h\n"),
  fc.string({ unit: fc.constantFrom(..."*?[]^-\\abclist"), maxLength: 8 }),
);
const setOption = fc.oneof(
  fc.constantFrom(["NX"], ["XX"], ["GET"], ["KEEPTTL"], ["EX"], ["bogus"]),
  fc.tuple(fc.constantFrom("EX", "PX"), amount),
  fc.tuple(fc.constantFrom("EXAT", "PXAT"), fc.oneof(since1970, fc.constantFrom("0", "-1", "x"))),
);
const expireOption = fc.constantFrom("NX", "XX", "GT", "LT", "gt", "bogus\r\n");

type Arguments = fc.Arbitrary<readonly string[]>;
const many = (arbitrary: fc.Arbitrary<string>, minLength = 1): Arguments =>
  fc.array(arbitrary, { minLength, maxLength: 6 });
const pairs = (key: fc.Arbitrary<string>, of: fc.Arbitrary<string>): Arguments =>
  fc.array(fc.tuple(key, of), { minLength: 1, maxLength: 4 }).map((all) => all.flat());

function all(name: string, ...parts: (fc.Arbitrary<string> | Arguments)[]): fc.Arbitrary<string[]> {
  return fc.tuple(...parts as fc.Arbitrary<string | readonly string[]>[]).map((args) => [name, ...args.flat()]);
}

const someKeys = many(anyKey);
const [string, list, hash, set] = [keyOf("string"), keyOf("list"), keyOf("hash"), keyOf("set")];
const channel = fc.constantFrom("news", "\x00\xff");
const optional = (arbitrary: fc.Arbitrary<string>): Arguments => fc.array(arbitrary, { maxLength: 1 });

/** Commands that change or ask for data weigh more. */
const data: fc.Arbitrary<string[]> = fc.oneof(
  all("SET", string, value),
  all("SET", string, value, fc.array(setOption, { maxLength: 3 }).map((options) => options.flat())),
  all("GET", string),
  all("DEL", someKeys),
  all("EXISTS", someKeys),
  all("INCR", string),
  all("DECR", string),
  all("INCRBY", string, number),
  all("DECRBY", string, number),
  all("MGET", someKeys),
  all("MSET", pairs(string, value)),
  all("EXPIRE", anyKey, amount, fc.array(expireOption, { maxLength: 2 })),
  all("PEXPIRE", anyKey, amount, fc.array(expireOption, { maxLength: 2 })),
  all("TTL", anyKey),
  all("PTTL", anyKey),
  all("PERSIST", anyKey),
  all("APPEND", string, value),
  all("STRLEN", string),
  all("GETRANGE", string, number, number),
  all("LPUSH", list, many(value)),
  all("RPUSH", list, many(value)),
  all("LPOP", list, optional(number)),
  all("RPOP", list, optional(number)),
  all("LRANGE", list, number, number),
  all("LLEN", list),
  all("HSET", hash, pairs(member, value)),
  all("HGET", hash, member),
  all("HGETALL", hash),
  all("HDEL", hash, many(member)),
  all("HLEN", hash),
  all("SADD", set, many(member)),
  all("SREM", set, many(member)),
  all("SISMEMBER", set, member),
  all("SMEMBERS", set),
  all("SCARD", set),
);

const other: fc.Arbitrary<string[]> = fc.oneof(
  all("PING", optional(value)),
  all("ECHO", value),
  all("TYPE", anyKey),
  all("KEYS", pattern),
  all("SCAN", fc.constantFrom("0", "0", "0", "x", " 0", "0 ", "18446744073709551616"), fc.constant(["COUNT", "1000"])),
  all("SCAN", fc.constant(["0", "COUNT", "1000", "MATCH"]), pattern),
  all("SCAN", fc.constant(["0", "COUNT", "1000", "TYPE"]), fc.constantFrom("string", "list", "HASH", "set", "bogus")),
  all("SCAN", fc.constant("0"), fc.constantFrom(["COUNT"], ["COUNT", "0"], ["COUNT", "x"], ["bogus", "1"])),
  all("DBSIZE"),
  all("FLUSHALL", optional(fc.constantFrom("ASYNC", "sync", "bogus"))),
  all("SELECT", fc.oneof(fc.constant("0"), number)),
  all("PUBLISH", channel, value),
  all("CLIENT", fc.constantFrom("GETNAME", "ID", "bogus", "HELP", "LIST")),
  all("CLIENT", fc.constant("LIST"), fc.constant("x")),
  all("CLIENT", fc.constant("SETNAME"), fc.oneof(fc.constantFrom("", "me", "a b"), binary(8))),
  all(
    "CONFIG",
    fc.constant("GET"),
    many(fc.constantFrom("save", "SAVE", "appendonly", "databases", "app*only", "no-such")),
  ),
  all("CONFIG", fc.constant("HELP")),
  all("COMMAND", fc.constantFrom("COUNT", "INFO", "HELP", "bogus")),
  all("HELLO", fc.oneof(fc.constantFrom("4", "x", "2", "3"), number), fc.constantFrom([], ["SETNAME"], ["bogus", "x"])),
  all("INFO", optional(fc.constantFrom("server", "keyspace"))),
  all("NOSUCH", many(value, 0)),
  all("no\0su\r\nch", many(binary(300), 0)),
);

const wellFormed = fc.oneof({ weight: 8, arbitrary: data }, { weight: 1, arbitrary: other });

/** A command, sometimes in small letters, sometimes with an argument too many or too few. */
export const someCommand: fc.Arbitrary<Args> = fc.tuple(wellFormed, fc.nat({ max: 39 })).map(([args, odd]) => {
  if (odd === 0) return args.slice(0, Math.max(1, args.length - 1));
  if (odd === 1) return [...args, "more"];
  return odd < 10 ? [args[0]!.toLowerCase(), ...args.slice(1)] : args;
});

/** Replies that say what a server is: of these only the kind has to be the same. */
const OWN_WORDS = ["INFO", "COMMAND", "HELLO", "CLIENT ID", "CLIENT LIST", "CLIENT HELP", "CONFIG HELP"];
/** Replies in an order that Redis leaves open. A hash is pairs. */
const UNORDERED = ["KEYS", "SMEMBERS", "SCAN", "HGETALL", "CONFIG GET"];
/** Replies that say how much time is left: a moment passes between the two servers. */
const TIMES: Readonly<Record<string, number>> = { TTL: 1, PTTL: 1_000 };
/** Of what is left, where that is more than JavaScript's numbers can say to the millisecond. */
const TIME_PRECISION = 2 ** -50;

/** What both servers must have in common in their replies to a command. All of it, but for the exceptions above. */
function comparable(args: Args, reply: Reply): string {
  const name = args[0]!.toUpperCase();
  const names = [name, `${name} ${(args[1] ?? "").toUpperCase()}`];
  const isOneOf = (list: readonly string[]) => names.some((one) => list.includes(one));
  if (reply.line.startsWith("-")) return reply.raw;
  if (isOneOf(OWN_WORDS)) return reply.line[0]!;
  if (!isOneOf(UNORDERED)) return reply.raw;
  const { line, children } = name === "SCAN" ? reply.children[1]! : reply;
  const raw = children.map((child) => child.raw);
  const isPairs = name === "HGETALL" || name === "CONFIG";
  const items = isPairs ? raw.flatMap((text, i) => i % 2 === 0 ? [text + raw[i + 1]] : []) : raw;
  return line + items.sort().join("");
}

/** Whether two servers may give these replies to a command. */
export function areAlike(args: Args, ours: Reply, theirs: Reply): boolean {
  if (comparable(args, ours) === comparable(args, theirs)) return true;
  const unit = TIMES[args[0]!.toUpperCase()];
  if (unit === undefined || !/^:\d+$/.test(ours.line) || !/^:\d+$/.test(theirs.line)) return false;
  const [one, other] = [ours, theirs].map(({ line }) => Number(line.slice(1))) as [number, number];
  return Math.abs(one - other) <= 2 * unit + TIME_PRECISION * other;
}
