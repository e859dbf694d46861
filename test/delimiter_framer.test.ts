/** src/delimiter_framer.ts: delimiters that overlap themselves, however they are split. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DelimiterFramer, type DelimiterOptions } from "../src/delimiter_framer.ts";
import { cutByDelimiter, frameError, push, pushSplit } from "./support/framers.ts";
import { countedBytes, workOf } from "./support/framing_work.ts";
import { check } from "./support/properties.ts";
import { bytes, text } from "./support/sockets.ts";

const framer = (options: Partial<DelimiterOptions>) =>
  new DelimiterFramer({ delimiter: "\n", maxFrameBytes: 1_000_000, ...options });

describe("DelimiterFramer", () => {
  test.each([
    ["\n", "one\n\ntwo\nrest", ["one", "", "two"]],
    ["\r\n", "one\r\ntwo\r\r\nth\nree\r\n\r", ["one", "two\r", "th\nree"]],
    ["\r\n\r\n", "a\r\n\r\nb\r\n\r\r\n\r\nc\r\n\r\n\r\n", ["a", "b\r\n\r", "c"]],
    ["aab", "aaab|aabaab|aaaab", ["a", "|", "", "|aa"]],
    ["abab", "ababab|aabab", ["", "ab|a"]],
    ["aaa", "aaaaaaa|aaab", ["", "", "a|"]],
    ["abcabd", "abcabcabd", ["abc"]],
    ["--end", "---end--en--end", ["-", "--en"]],
  ])("%j is found in %j wherever that is split", (delimiter, stream, expected) => {
    const all = bytes(stream);
    for (let i = 0; i <= all.length; i++) {
      for (let j = i; j <= all.length; j++) {
        const frames = push(framer({ delimiter }), all.slice(0, i), all.slice(i, j), all.slice(j));
        expect(frames.map((frame) => text(frame))).toEqual(expected);
      }
    }
    const frames = push(framer({ delimiter }), ...Array.from(all, (byte) => Uint8Array.of(byte)));
    expect(frames.map((frame) => text(frame))).toEqual(expected);
  });

  test("keepDelimiter leaves it on the frame, also where it came in pieces", () => {
    const all = bytes("one\r\n\r\n");
    for (let split = 0; split <= all.length; split++) {
      const frames = push(framer({ delimiter: "\r\n", keepDelimiter: true }), all.slice(0, split), all.slice(split));
      expect(frames.map((frame) => text(frame))).toEqual(["one\r\n", "\r\n"]);
    }
  });

  test.each([false, true])("maxFrameBytes does not count the delimiter, keepDelimiter %s", (keepDelimiter) => {
    const options = { delimiter: "\r\n", maxFrameBytes: 3, keepDelimiter };
    for (const chunks of [["one\r\n"], ["one", "\r\n"], ["one\r", "\n"], ["on", "e\r", "\n"]]) {
      expect(push(framer(options), ...chunks.map(bytes))).toHaveLength(1);
    }
    for (const chunks of [["four\r\n"], ["four"], ["fou", "r"], ["one\r", "\r"], ["one\r\r\n"]]) {
      expect(frameError(() => push(framer(options), ...chunks.map(bytes))).code).toBe("too long");
    }
  });

  test("a frame is too long as soon as no delimiter can begin within maxFrameBytes any more, not before", () => {
    const stream = bytes("aaaaaaaaaaaaaaaa");
    for (const [delimiter, soonest] of [["aab", 3 + 2 + 1], ["b", 3 + 1], ["aaaaaab", 3 + 6 + 1]] as const) {
      for (const size of [1, 2, 3]) {
        const limited = framer({ delimiter, maxFrameBytes: 3 });
        let pushed = 0;
        const failure = frameError(() => {
          while (pushed < stream.length) {
            const piece = stream.subarray(pushed, pushed + size);
            pushed += piece.length;
            push(limited, piece);
          }
        });
        expect(failure.code).toBe("too long");
        expect(pushed).toBe(Math.ceil(soonest / size) * size);
      }
    }
  });

  test("the error names the maximum", () => {
    expect(frameError(() => push(framer({ maxFrameBytes: 4 }), bytes("GET / "))).message).toBe(
      "Cannot take a frame of 6 bytes or more: no delimiter within maxFrameBytes, which is 4, raise it if that is legal",
    );
  });

  test.each([
    ["", new RangeError("Cannot use an empty delimiter: it must have a byte")],
    [bytes(0), new RangeError("Cannot use an empty delimiter: it must have a byte")],
    ["é", new TypeError('Cannot use delimiter "é": it must be ASCII, or given as bytes')],
    ["\u{1f600}", new TypeError('Cannot use delimiter "\u{1f600}": it must be ASCII, or given as bytes')],
    [10, new TypeError("Cannot use delimiter 10: it must be a string or a Uint8Array")],
  ])("the delimiter %j is refused", (delimiter, error) => {
    expect(() => framer({ delimiter: delimiter as string })).toThrow(error);
  });

  test("a delimiter of bytes is copied: the caller may reuse them", () => {
    const delimiter = Uint8Array.of(0xff, 0);
    const copying = framer({ delimiter });
    delimiter.fill(7);
    expect(push(copying, Uint8Array.of(7, 7, 0xff, 0))).toEqual([Uint8Array.of(7, 7)]);
  });

  test.each([
    ["a delimiter of 512 bytes that almost matches everywhere", `${"a".repeat(511)}b`, "a".repeat(20_000)],
    ["a delimiter whose first byte is everywhere", "ab", "a".repeat(20_000)],
    ["a delimiter that falls back a step at a time", "aabaaabaaaab", "aabaaabaaaa".repeat(2_000)],
    ["a delimiter that is nowhere", "\r\n", "x".repeat(20_000)],
  ])("each byte is read at most three times, and once more to keep it: %s", (_, delimiter, stream) => {
    const all = bytes(stream);
    for (const size of [all.length, 1_000, 7, 1]) {
      const counting = framer({ delimiter });
      let reads = 0;
      const { searchedBytes } = workOf(() => {
        for (let at = 0; at < all.length; at += size) {
          const counted = countedBytes(all.slice(at, at + size));
          counting.push(counted.bytes, () => {});
          reads += counted.reads();
        }
      });
      expect(reads + searchedBytes).toBeLessThanOrEqual(4 * all.length);
    }
  });

  test("frames and failures are those of a search from the beginning, whatever the alphabet and the splits", () => {
    const word = (maxLength: number, minLength = 0) =>
      fc.array(fc.constantFrom(97, 98), { minLength, maxLength }).map((codes) => Uint8Array.from(codes));
    check(fc.property(word(7, 1), word(60), fc.integer({ min: 1, max: 20 }), fc.boolean(), fc.array(fc.nat(60)), (
      delimiter,
      stream,
      maxFrameBytes,
      keepDelimiter,
      offsets,
    ) => {
      const options = { delimiter, maxFrameBytes, keepDelimiter };
      const borders = offsets.filter((offset) => offset <= stream.length).sort((a, b) => a - b);
      const found = pushSplit(new DelimiterFramer(options), stream, borders);
      const expected = cutByDelimiter(stream, options);
      expect([found.frames, found.failure]).toEqual([expected.frames, expected.failure]);
      if (found.failure === undefined) expect(found.end).toBe(expected.end);
    }));
  });
});
