/** src/header_framer.ts: headers of every size, and what their reader may say. */
import { describe, expect, test } from "vitest";
import { HeaderFramer, type HeaderOptions } from "../src/header_framer.ts";
import { frameError, push } from "./support/framers.ts";
import { bytes, concat, text } from "./support/sockets.ts";

const framer = (options: Partial<HeaderOptions>) =>
  new HeaderFramer({ headerBytes: 3, bodyBytes: (header) => header[2]!, maxFrameBytes: 100, ...options });
/** A header of three bytes, the last of which is the body's length. */
const frame = (body: string) => concat(bytes("h:"), Uint8Array.of(body.length), bytes(body));

describe("HeaderFramer", () => {
  test("a frame is the header and the body, in one piece", () => {
    const stream = concat(frame("one"), frame(""), frame("three"));
    for (let split = 0; split <= stream.length; split++) {
      const frames = push(framer({}), stream.slice(0, split), stream.slice(split));
      expect(frames).toEqual([frame("one"), frame(""), frame("three")]);
    }
  });

  test("bodyBytes is called once for each frame, with the whole header, however that is split", () => {
    const stream = concat(frame("one"), frame("two"));
    for (const size of [1, 2, 3, 4, stream.length]) {
      const headers: string[] = [];
      const counting = framer({
        bodyBytes(header) {
          headers.push(text(header));
          return header[2]!;
        },
      });
      for (let at = 0; at < stream.length; at += size) push(counting, stream.slice(at, at + size));
      expect(headers).toEqual(["h:\x03", "h:\x03"]);
    }
  });

  test("bodyBytes is told as soon as the header is whole, so a frame that is too long throws before its body", () => {
    expect(push(framer({ maxFrameBytes: 10 }), concat(bytes("h:"), Uint8Array.of(7), bytes("seventh")))).toHaveLength(
      1,
    );
    const failure = frameError(() => push(framer({ maxFrameBytes: 10 }), bytes("h:"), Uint8Array.of(8)));
    expect(failure.code).toBe("too long");
    expect(failure.message).toBe("Cannot take a frame of 11 bytes: maxFrameBytes is 10, raise it if that is legal");
  });

  test.each([
    [-1, "-1"],
    [NaN, "NaN"],
    [1.5, "1.5"],
    [-Infinity, "-Infinity"],
    [Infinity, "Infinity"],
    [undefined, "a value of type undefined"],
    ["3", "a value of type string"],
    [3n, "a value of type bigint"],
    [Object.create(null), "a value of type object"],
  ])("%s from bodyBytes is a bad length", (said, told) => {
    const failure = frameError(() => push(framer({ bodyBytes: () => said as number }), bytes("abc")));
    expect(failure.code).toBe("bad length");
    expect(failure.message).toBe(`Cannot take a frame: bodyBytes returned ${told}, not an integer of 0 or more`);
  });

  test("a length too large to count is too long", () => {
    for (const said of [1e300, Number.MAX_VALUE, Number.MAX_SAFE_INTEGER]) {
      expect(frameError(() => push(framer({ bodyBytes: () => said }), bytes("abc"))).code).toBe("too long");
    }
    expect(push(framer({ bodyBytes: () => -0 }), bytes("abc"))).toEqual([bytes("abc")]);
  });

  test("what bodyBytes throws is thrown by push(), and is the cause of what the next push throws", () => {
    for (const error of [new SyntaxError("bad magic"), "bad magic"]) {
      const failing = framer({
        bodyBytes() {
          throw error;
        },
      });
      let thrown: unknown;
      try {
        push(failing, bytes("abc"));
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toBe(error);
      const again = frameError(() => push(failing, bytes("abc")));
      expect(again.code).toBe("bad length");
      expect(again.message).toContain("(bad magic)");
    }
  });

  // Its text could not be had, and the framer went on in the middle of a frame.
  test("what bodyBytes throws fails the framer, whatever it is", () => {
    const failing = framer({
      bodyBytes() {
        throw Object.create(null);
      },
    });
    for (let pushes = 0; pushes < 2; pushes++) {
      let thrown: unknown;
      try {
        push(failing, bytes("abc"));
      } catch (error) {
        thrown = error;
      }
      if (pushes === 1) expect(thrown).toMatchObject({ code: "bad length" });
      else expect(Object.getPrototypeOf(thrown)).toBe(null);
    }
  });

  test("bodyBytes can neither push nor take", () => {
    for (const call of [(f: HeaderFramer) => f.push(bytes(1), () => {}), (f: HeaderFramer) => f.take()]) {
      const reentrant: HeaderFramer = framer({ bodyBytes: () => Number(call(reentrant)) });
      expect(() => push(reentrant, bytes("abc"))).toThrow(RangeError);
    }
  });

  // It made the next frame the last of its push.
  test("stop() from bodyBytes does nothing", () => {
    const stopping: HeaderFramer = framer({ headerBytes: 1, bodyBytes: () => (stopping.stop(), 0) });
    expect(push(stopping, bytes("abc"))).toHaveLength(3);
  });

  test("HeaderFramer refuses a maximum below the header", () => {
    expect(() => framer({ headerBytes: 4, maxFrameBytes: 3 })).toThrow(
      new RangeError("Cannot use maxFrameBytes 3: it must be an integer, at least 4"),
    );
    expect(push(framer({ maxFrameBytes: 3, bodyBytes: () => 0 }), bytes("abcdef"))).toHaveLength(2);
    for (const headerBytes of [0, -1, 1.5]) expect(() => framer({ headerBytes })).toThrow(RangeError);
  });
});
