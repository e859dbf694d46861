/** src/length_prefix_framer.ts: every size and order of a length, and what is refused. */
import { describe, expect, test } from "vitest";
import { LengthPrefixFramer, type LengthPrefixOptions } from "../src/length_prefix_framer.ts";
import { frameError, push } from "./support/framers.ts";
import { workOf } from "./support/framing_work.ts";
import { bytes, concat, text } from "./support/sockets.ts";

const framer = (options: Partial<LengthPrefixOptions>) =>
  new LengthPrefixFramer({ lengthBytes: 4, maxFrameBytes: 2 ** 32, ...options });

describe("LengthPrefixFramer", () => {
  test.each(
    [
      [[3], { lengthBytes: 1 }],
      [[0, 3], { lengthBytes: 2 }],
      [[3, 0], { lengthBytes: 2, littleEndian: true }],
      [[0, 0, 3], { lengthBytes: 3 }],
      [[3, 0, 0], { lengthBytes: 3, littleEndian: true }],
      [[0, 0, 0, 3], { lengthBytes: 4 }],
      [[3, 0, 0, 0], { lengthBytes: 4, littleEndian: true }],
      [[4], { lengthBytes: 1, includesLength: true }],
      [[0, 5], { lengthBytes: 2, includesLength: true }],
      [[6, 0, 0], { lengthBytes: 3, littleEndian: true, includesLength: true }],
      [[0, 0, 0, 7], { lengthBytes: 4, includesLength: true }],
    ] as const,
  )("the length %j is read with %j", (prefix, options) => {
    const stream = concat(Uint8Array.from(prefix), bytes("one"));
    for (let split = 0; split <= stream.length; split++) {
      expect(push(framer(options), stream.slice(0, split), stream.slice(split)).map((f) => text(f))).toEqual(["one"]);
    }
  });

  test.each(
    [
      [1, 255],
      [2, 65_535],
      [3, 2 ** 24 - 1],
      [4, 2 ** 32 - 1],
    ] as const,
  )("a length of %i bytes, all bits set, is %i, not negative", (lengthBytes, length) => {
    for (const littleEndian of [false, true]) {
      const all = bytes(lengthBytes).fill(255);
      const failure = frameError(() => push(framer({ lengthBytes, littleEndian, maxFrameBytes: 254 }), all));
      expect(failure.code).toBe("too long");
      expect(failure.message).toContain(`a frame of ${length} bytes`);
      expect(push(framer({ lengthBytes, littleEndian }), all)).toEqual([]);
    }
  });

  test("a frame of exactly maxFrameBytes is taken, one of a byte more throws as soon as its length is here", () => {
    const options = { lengthBytes: 2, maxFrameBytes: 300 } as const;
    expect(push(framer(options), Uint8Array.of(1, 44), bytes(300))).toEqual([bytes(300)]);
    const longer = framer(options);
    expect(push(longer, Uint8Array.of(1))).toEqual([]);
    const failure = frameError(() => push(longer, Uint8Array.of(45)));
    expect(failure.code).toBe("too long");
    expect(failure.message).toBe(
      "Cannot take a frame of 301 bytes: maxFrameBytes is 300, raise it if that is legal",
    );
  });

  test("maxFrameBytes does not count the length, whether or not the length counts itself", () => {
    const options = { lengthBytes: 2, maxFrameBytes: 3, includesLength: true } as const;
    expect(push(framer(options), Uint8Array.of(0, 5), bytes("one"))).toEqual([bytes("one")]);
    expect(frameError(() => push(framer(options), Uint8Array.of(0, 6))).code).toBe("too long");
  });

  test("a length that is to count itself and is less than itself is a bad length", () => {
    expect(push(framer({ includesLength: true }), Uint8Array.of(0, 0, 0, 4))).toEqual([bytes(0)]);
    const failure = frameError(() => push(framer({ includesLength: true }), Uint8Array.of(0, 0, 0, 3)));
    expect(failure.code).toBe("bad length");
    expect(failure.message).toBe("Cannot take a frame of length 3: a length counts its own 4 bytes");
  });

  test("a peer that announces a gibibyte and sends nothing costs no more than what it has sent", () => {
    const announced = framer({ maxFrameBytes: 2 ** 30 });
    const { allocatedBytes } = workOf(() => push(announced, Uint8Array.of(0x3f, 0xff, 0xff, 0xff)));
    expect(allocatedBytes.every((size) => size <= 256), `${allocatedBytes}`).toBe(true);
    expect(announced.bufferedBytes).toBe(4);
  });

  test("LengthPrefixFramer refuses a size of the length that it cannot read", () => {
    for (const lengthBytes of [0, 5, 8, -1, 1.5] as number[]) {
      expect(() => framer({ lengthBytes: lengthBytes as 4 })).toThrow(
        new RangeError(`Cannot use lengthBytes ${lengthBytes}: it must be an integer, 1 to 4`),
      );
    }
    expect(() => framer({ littleEndian: 1 as never })).toThrow("Cannot use littleEndian 1: it must be a boolean");
    expect(() => framer({ includesLength: "no" as never })).toThrow('Cannot use includesLength "no"');
  });
});
