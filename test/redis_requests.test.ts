/** How examples/redis.ts reads requests, whatever the chunks, and makes strings of bytes and bytes of strings. */
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ARGUMENT_MAX_BYTES, ProtocolError, RequestReader } from "../examples/redis/requests.ts";
import { bytesOf, putText, textOf } from "../examples/redis/text.ts";
import { check } from "./support/properties.ts";
import { request } from "./support/redis.ts";

const ALL_BYTES = String.fromCharCode(...Array.from({ length: 256 }, (_, i) => i));

interface Read {
  readonly requests: string[][];
  /** What was wrong with what followed. */
  readonly error: string | undefined;
}

/** What a reader makes of chunks that are overwritten once it has seen them. */
function read(...chunks: string[]): Read {
  const reader = new RequestReader();
  const requests: string[][] = [];
  try {
    for (const chunk of chunks) {
      const bytes = new Uint8Array(Buffer.from(chunk, "latin1"));
      reader.read(bytes, (args) => requests.push(args) > 0);
      bytes.fill(0xee);
    }
    return { requests, error: undefined };
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    return { requests, error: error.message };
  }
}

const stream = [
  request("SET", "key", ALL_BYTES),
  "*0\r\nPING\r\n",
  request("ECHO", "x".repeat(1_000), ""),
  "set \"a \\x00b\" 'it\\'s'\n\r\n",
  request("GET", "a"),
].join("");
const requests = [
  ["SET", "key", ALL_BYTES],
  ["PING"],
  ["ECHO", "x".repeat(1_000), ""],
  ["set", "a \0b", "it's"],
  ["GET", "a"],
];

describe("RequestReader", () => {
  test("reads requests of every kind from one chunk", () => {
    expect(read(stream)).toEqual({ requests, error: undefined });
  });

  test("reads the same from two chunks, wherever they part", () => {
    for (let at = 1; at < stream.length; at++) {
      expect(read(stream.slice(0, at), stream.slice(at)), `parted at ${at}`).toEqual({ requests, error: undefined });
    }
  });

  test("reads the same byte by byte", () => {
    expect(read(...stream)).toEqual({ requests, error: undefined });
  });

  test("reads random requests from random chunks", () => {
    const byte = fc.nat({ max: 255 }).map((code) => String.fromCharCode(code));
    const args = fc.array(fc.string({ unit: byte, maxLength: 50 }), { minLength: 1, maxLength: 5 });
    check(fc.property(fc.array(args), fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1 }), (sent, lengths) => {
      const text = sent.map((one) => request(...one)).join("");
      const chunks: string[] = [];
      for (let at = 0, i = 0; at < text.length; at += lengths[i++ % lengths.length]!) {
        chunks.push(text.slice(at, at + lengths[i % lengths.length]!));
      }
      expect(read(...chunks)).toEqual({ requests: sent, error: undefined });
    }));
  });

  test("stops where it is told to, keeps the rest, and goes on from there", () => {
    const reader = new RequestReader();
    const bytes = new Uint8Array(Buffer.from(stream, "latin1"));
    const got: string[][] = [];
    const takeOne = (args: string[]) => (got.push(args), false);
    reader.read(bytes, takeOne);
    bytes.fill(0);
    for (let count = 1; count <= requests.length; count++) {
      expect(got).toEqual(requests.slice(0, count));
      reader.read(new Uint8Array(0), takeOne);
    }
    expect(got).toEqual(requests);
  });

  test.each([
    ["*x\r\n", "invalid multibulk length"],
    ["*\r\n", "invalid multibulk length"],
    ["*2147483648\r\n", "invalid multibulk length"],
    ["*1\r\n$-1\r\n", "invalid bulk length"],
    ["*1\r\n+OK\r\n", "expected '$', got '+'"],
    ['ECHO "a\r\n', "unbalanced quotes in request"],
    ["ECHO 'a'b\r\n", "unbalanced quotes in request"],
    ["x".repeat(65_537), "too big inline request"],
    [`*${"1".repeat(65_536)}`, "too big mbulk count string"],
    [`*1\r\n$${"1".repeat(65_536)}`, "too big bulk count string"],
  ])("refuses %j after the requests before it", (wrong, error) => {
    expect(read(request("PING") + wrong)).toEqual({ requests: [["PING"]], error });
    expect(read(...request("PING"), wrong.slice(0, 3), wrong.slice(3))).toEqual({ requests: [["PING"]], error });
  });

  test("takes the longest announcement, and waits for its bytes; one byte more is refused", () => {
    expect(read(`*2147483647\r\n$${ARGUMENT_MAX_BYTES}\r\nx`)).toEqual({ requests: [], error: undefined });
    const wrong = `*1\r\n$${ARGUMENT_MAX_BYTES + 1}\r\n`;
    expect(read(request("PING") + wrong)).toEqual({ requests: [["PING"]], error: "invalid bulk length" });
  });
});

test("textOf() gives a code unit for each byte, at every length", () => {
  const bytes = new Uint8Array(300).map((_, i) => i);
  for (let length = 0; length <= bytes.byteLength; length++) {
    for (const from of [0, 300 - length]) {
      const units = Array.from(textOf(bytes, from, from + length), (unit) => unit.charCodeAt(0));
      expect(units).toEqual(Array.from(bytes.subarray(from, from + length)));
    }
  }
});

/** Lengths about those where another way is taken. */
const LENGTHS = [...Array(100).keys(), 300, 4_095, ...[1, 2].flatMap((n) => [-1, 0, 1, 40].map((i) => n * 65_536 + i))];

test.each([
  ["ASCII", "ab\0\x7f", ""],
  ["ASCII but for its end", "ab\0\x7f", "\x80"],
  ["ASCII that is full of others", "ab\x80\xff\xe9c", ""],
  ["every byte", ALL_BYTES, ""],
  ["no ASCII", "\xff\x80", ""],
])("putText() and bytesOf() give a byte for each code unit, at every length: %s", (_name, unit, end) => {
  for (const length of LENGTHS) {
    const text =
      `${"a".repeat(Math.min(40, length))}${unit.repeat(length / unit.length + 1)}`.slice(0, length - end.length) +
      end;
    for (const one of [text, text.slice(Math.min(40, length))]) {
      const units = Array.from(one, (unit) => unit.charCodeAt(0));
      const target = Buffer.alloc(one.length + 20, 0xee);
      expect(putText(one, target, 10)).toBe(10 + one.length);
      const around = Array<number>(10).fill(0xee);
      expect(target.equals(Buffer.from([...around, ...units, ...around])), `${one.length} bytes`).toBe(true);
      expect(bytesOf(one).equals(Buffer.from(units)), `${one.length} bytes`).toBe(true);
    }
  }
});
