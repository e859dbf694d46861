/** src/framer.ts: what all framers have in common. */
import { Buffer } from "node:buffer";
import { describe, expect, test } from "vitest";
import { FrameError, Framer } from "../src/framer.ts";
import { FRAMER_KEPT_BYTES, FRAMER_MIN_BYTES } from "../src/limits.ts";
import { DelimiterFramer } from "../src/delimiter_framer.ts";
import { HeaderFramer } from "../src/header_framer.ts";
import { LengthPrefixFramer } from "../src/length_prefix_framer.ts";
import { frameError, KINDS, push } from "./support/framers.ts";
import { workOf } from "./support/framing_work.ts";
import { bytes, concat, text } from "./support/sockets.ts";

const NONE = bytes(0);
const body = (length: number, value = 65) => bytes(length).fill(value);

describe.each(KINDS)("$name", ({ make, encode, framed, broken }) => {
  const [one, two, three] = ["one", "two", "three"].map((word) => encode(bytes(word)));
  const all = concat(one!, two!, three!);
  const words = (frames: readonly Uint8Array[]) => frames.map((frame) => text(frame).replace(/^\0.../s, ""));

  test("push() hands out every whole frame, in order, and returns how many", () => {
    const frames: Uint8Array[] = [];
    expect(make().push(all, (frame) => frames.push(frame.slice()))).toBe(3);
    expect(frames).toEqual(["one", "two", "three"].map((word) => framed(bytes(word))));
  });

  test("push() finds the same frames wherever a stream is split in three", () => {
    for (let i = 0; i <= all.length; i++) {
      for (let j = i; j <= all.length; j++) {
        const frames = push(make(), all.slice(0, i), all.slice(i, j), all.slice(j));
        expect(words(frames)).toEqual(["one", "two", "three"]);
      }
    }
  });

  test("push() of no bytes hands out nothing", () => {
    const framer = make();
    expect(push(framer, NONE, one!.subarray(0, 3), NONE)).toEqual([]);
    expect(framer.bufferedBytes).toBe(3);
  });

  test("a frame of no bytes is a frame", () => {
    expect(push(make(), concat(encode(NONE), one!, encode(NONE)))).toEqual([NONE, bytes("one"), NONE].map(framed));
  });

  test("a frame that lies in the chunk whole is a view of it", () => {
    const chunk = concat(one!, two!, three!.subarray(0, 4));
    const framer = make();
    framer.push(chunk, (frame) => expect(frame.buffer).toBe(chunk.buffer));
    const seen = framer.push(concat(three!.subarray(4), one!), (frame) => expect(frame.buffer).not.toBe(chunk.buffer));
    expect(seen).toBe(2);
  });

  test("a chunk is borrowed: it may be overwritten once push() has returned", () => {
    const framer = make();
    for (const split of [1, 3, 4]) {
      const chunk = one!.slice(0, split);
      push(framer, chunk);
      chunk.fill(0xff);
      expect(words(push(framer, one!.subarray(split)))).toEqual(["one"]);
    }
  });

  test("a frame of a Buffer is a plain Uint8Array, whose slice() copies", () => {
    const chunk = Buffer.from(all);
    const kept: Uint8Array[] = [];
    make().push(chunk, (frame) => {
      expect(Object.getPrototypeOf(frame)).toBe(Uint8Array.prototype);
      kept.push(frame.slice());
    });
    chunk.fill(0);
    expect(words(kept)).toEqual(["one", "two", "three"]);
  });

  test("bufferedBytes counts what is in no frame yet, the rest of the chunk included", () => {
    const framer = make();
    const counts: number[] = [];
    for (const chunk of [one!.subarray(0, 2), concat(one!.subarray(2), two!, three!.subarray(0, 3))]) {
      framer.push(chunk, () => counts.push(framer.bufferedBytes));
      counts.push(framer.bufferedBytes);
    }
    expect(counts).toEqual([2, two!.length + 3, 3, 3]);
  });

  test("a framer made for one chunk holds nothing afterwards", () => {
    const framer = make();
    push(framer, all);
    expect(framer.bufferedBytes).toBe(0);
    expect(framer.take()).toEqual(NONE);
  });

  describe("stop()", () => {
    test("stop() makes a frame the last of its push, and the next push goes on behind it", () => {
      const framer = make();
      const frames: string[] = [];
      const takeOne = (frame: Uint8Array) => {
        frames.push(text(frame.slice(-3)));
        framer.stop();
      };
      expect(framer.push(concat(all, one!.subarray(0, 3)), takeOne)).toBe(1);
      expect(framer.bufferedBytes).toBe(two!.length + three!.length + 3);
      expect(framer.push(NONE, takeOne)).toBe(1);
      expect(framer.push(one!.subarray(3), takeOne)).toBe(1);
      expect(framer.push(two!, takeOne)).toBe(1);
      expect(framer.push(NONE, takeOne)).toBe(1);
      expect(framer.push(NONE, takeOne)).toBe(0);
      expect(frames).toEqual(["one", "two", "ree", "one", "two"]);
    });

    test("stop() at the end of a chunk keeps nothing", () => {
      const framer = make();
      framer.push(one!, () => framer.stop());
      expect(framer.bufferedBytes).toBe(0);
    });

    test("stop() outside of onFrame does nothing", () => {
      const framer = make();
      framer.stop();
      expect(words(push(framer, all))).toEqual(["one", "two", "three"]);
    });
  });

  describe("take()", () => {
    test("take() returns the bytes of an unfinished frame, and the next byte begins a new one", () => {
      for (let split = 1; split < one!.length; split++) {
        const framer = make();
        push(framer, one!.subarray(0, split));
        expect(framer.take()).toEqual(one!.slice(0, split));
        expect(framer.bufferedBytes).toBe(0);
        expect(words(push(framer, two!))).toEqual(["two"]);
      }
    });

    test("take() returns the caller's own bytes", () => {
      const framer = make();
      push(framer, one!.subarray(0, 3));
      const taken = framer.take();
      push(framer, two!.subarray(0, 4));
      expect(taken).toEqual(one!.slice(0, 3));
      taken.fill(0xff);
      expect(words(push(framer, two!.subarray(4)))).toEqual(["two"]);
    });

    test("take() inside onFrame returns all bytes after the frame, and ends the push", () => {
      const upgraded = concat(two!, bytes("another protocol"));
      for (let split = 0; split <= one!.length + upgraded.length; split++) {
        const framer = make();
        const stream = concat(one!, upgraded);
        const taken: Uint8Array[] = [];
        for (const chunk of [stream.subarray(0, split), stream.subarray(split)]) {
          if (taken.length > 0) taken.push(chunk);
          else {
            framer.push(chunk, (frame) => {
              taken.push(framer.take());
              expect(frame).toEqual(framed(bytes("one")));
              expect(framer.bufferedBytes).toBe(0);
            });
          }
        }
        expect(concat(...taken)).toEqual(upgraded);
        expect(framer.bufferedBytes).toBe(0);
      }
    });

    test("take() after stop() returns what the stopped push has left, those left before it first", () => {
      const framer = make();
      framer.push(concat(one!, two!), () => framer.stop());
      framer.push(three!, () => framer.stop());
      expect(framer.take()).toEqual(three!);
      framer.push(all, () => framer.stop());
      let taken = NONE;
      framer.push(concat(one!, one!.subarray(0, 1)), () => taken = framer.take());
      expect(taken).toEqual(concat(three!, one!, one!.subarray(0, 1)));
    });
  });

  describe("an onFrame that throws", () => {
    test("what onFrame throws is thrown by push(), and the frames behind it follow with the next push", () => {
      for (let split = 0; split < one!.length; split++) {
        const framer = make();
        push(framer, all.slice(0, split));
        const chunk = all.slice(split);
        const error = new Error("a bug of the protocol");
        expect(() =>
          framer.push(chunk, () => {
            throw error;
          })
        ).toThrow(error);
        chunk.fill(0xff);
        expect(framer.bufferedBytes).toBe(two!.length + three!.length);
        expect(words(push(framer, NONE, one!))).toEqual(["two", "three", "one"]);
      }
    });
  });

  describe("re-entrancy", () => {
    test("push() inside onFrame throws RangeError, takes nothing, and disturbs nothing", () => {
      const framer = make();
      const frames: Uint8Array[] = [];
      framer.push(all, (frame) => {
        expect(() => framer.push(one!, () => {})).toThrow(
          new RangeError("Cannot push: a push of this framer is under way, and they do not nest"),
        );
        frames.push(frame.slice());
      });
      expect(words(frames)).toEqual(["one", "two", "three"]);
      expect(framer.bufferedBytes).toBe(0);
    });

    test("onFrame may push to another framer", () => {
      const frames: Uint8Array[] = [];
      const inner = make();
      make().push(all, () => inner.push(one!, (frame) => frames.push(frame.slice())));
      expect(words(frames)).toEqual(["one", "one", "one"]);
    });
  });

  describe("failing", () => {
    test("the frames before a broken one are handed out before push() throws", () => {
      const framer = make();
      const frames: Uint8Array[] = [];
      const failure = frameError(() => framer.push(concat(one!, two!, broken), (frame) => frames.push(frame.slice())));
      expect(failure.name).toBe("FrameError");
      expect(words(frames)).toEqual(["one", "two"]);
    });

    test("a framer that has failed holds nothing, and every push says why it failed", () => {
      const framer = make();
      const first = frameError(() => push(framer, broken));
      expect(framer.bufferedBytes).toBe(0);
      expect(framer.take()).toEqual(NONE);
      for (const chunk of [one!, NONE]) {
        const again = frameError(() => push(framer, chunk));
        expect(again.message).toBe(
          `Cannot push to a framer that has failed: close its connection (${first.message})`,
        );
        expect([again.code, again.cause]).toEqual([first.code, first]);
      }
    });

    test("a framer that fails in the middle of a frame holds nothing either", () => {
      const framer = make();
      push(framer, broken.subarray(0, 2));
      expect(framer.bufferedBytes).toBe(2);
      frameError(() => push(framer, broken.subarray(2)));
      expect([framer.bufferedBytes, framer.take()]).toEqual([0, NONE]);
    });

    test("what comes behind a broken frame is not looked at until a stopped push goes on", () => {
      const framer = make();
      expect(framer.push(concat(one!, broken), () => framer.stop())).toBe(1);
      expect(framer.bufferedBytes).toBe(broken.length);
      expect(frameError(() => push(framer, NONE))).toBeInstanceOf(FrameError);
    });

    test("push() throws TypeError for what is no Uint8Array, and goes on", () => {
      const framer = make();
      push(framer, one!.subarray(0, 3));
      for (const chunk of ["text", [1, 2], new ArrayBuffer(4), new DataView(new ArrayBuffer(4)), undefined]) {
        expect(() => framer.push(chunk as unknown as Uint8Array, () => {}))
          .toThrow(new TypeError("Cannot push: the chunk must be a Uint8Array"));
      }
      expect(words(push(framer, one!.subarray(3)))).toEqual(["one"]);
    });

    test("a chunk that onFrame detaches fails the framer instead of losing frames in silence", () => {
      const framer = make();
      const chunk = all.slice();
      const detach = () => void structuredClone(chunk, { transfer: [chunk.buffer] });
      expect(() => framer.push(chunk, detach)).toThrow(
        new TypeError("Cannot go on: onFrame has detached the bytes; hand a copy, frame.slice(), away"),
      );
      expect(frameError(() => push(framer, one!)).message).toContain("frame.slice()");
    });

    test("a frame of the framer's own buffer may be detached: only that frame is gone", () => {
      const framer = make();
      push(framer, one!.subarray(0, 3));
      const frames: Uint8Array[] = [];
      framer.push(concat(one!.subarray(3), two!), (frame) => {
        if (frames.push(frame.slice()) === 1) structuredClone(frame, { transfer: [frame.buffer as ArrayBuffer] });
      });
      push(framer, three!.subarray(0, 3));
      expect(words([...frames, ...push(framer, three!.subarray(3))])).toEqual(["one", "two", "three"]);
    });

    test("kept frames that onFrame detaches fail the framer", () => {
      const framer = make();
      framer.push(all, () => framer.stop());
      expect(() =>
        framer.push(NONE, (frame) => void structuredClone(frame, { transfer: [frame.buffer as ArrayBuffer] }))
      ).toThrow("onFrame has detached the bytes");
    });
  });

  describe("memory", () => {
    test("an announced length allocates nothing: the buffer is at most twice what has arrived", () => {
      const framer = make();
      const frame = encode(body(60_000));
      let arrived = 0;
      while (arrived < frame.length - 1) {
        const piece = frame.subarray(arrived, Math.min(arrived + 1 + (arrived >> 3), frame.length - 1));
        const { allocatedBytes } = workOf(() => push(framer, piece));
        arrived += piece.length;
        expect(Math.max(...allocatedBytes, 0)).toBeLessThanOrEqual(Math.max(FRAMER_MIN_BYTES, 2 * arrived));
      }
      expect(framer.bufferedBytes).toBe(arrived);
    });

    test("the buffer of a large frame is given back, that of a small one is kept", () => {
      const framer = make();
      const own = (length: number) => {
        const frame = encode(body(length));
        push(framer, frame.subarray(0, length));
        let buffer: ArrayBufferLike | undefined;
        framer.push(frame.subarray(length), (frame) => buffer = frame.buffer);
        return buffer!;
      };
      const small = own(100);
      expect(own(100)).toBe(small);
      const large = own(50_000);
      expect(large.byteLength).toBeGreaterThan(FRAMER_KEPT_BYTES);
      expect(own(50_000)).not.toBe(large);
      expect(own(100).byteLength).toBeLessThanOrEqual(FRAMER_KEPT_BYTES);
    });

    test("the buffer of a large frame is given back before what follows in its chunk is kept", () => {
      const framer = make();
      const frame = encode(body(50_000));
      push(framer, frame.subarray(0, 49_000));
      const { allocatedBytes } = workOf(() => push(framer, concat(frame.subarray(49_000), one!.subarray(0, 3))));
      expect(allocatedBytes).toContain(FRAMER_MIN_BYTES);
      expect(words(push(framer, one!.subarray(3)))).toEqual(["one"]);
    });
  });

  describe("work, counted", () => {
    test("frames that lie in their chunk whole are not copied", () => {
      const chunk = concat(...Array.from({ length: 1_000 }, () => encode(body(50))));
      const framer = make();
      expect(workOf(() => framer.push(chunk, () => {})).copiedBytes).toBeLessThanOrEqual(4_000);
    });

    test.each([1, 2, 7])("a frame that comes in pieces of %i bytes is copied less than four times", (size) => {
      const frame = encode(body(60_000));
      const framer = make();
      const { copiedBytes, searchedBytes } = workOf(() => {
        for (let i = 0; i < frame.length; i += size) framer.push(frame.subarray(i, i + size), () => {});
      });
      expect(copiedBytes).toBeLessThanOrEqual(4 * frame.length);
      expect(searchedBytes).toBeLessThanOrEqual(2 * frame.length);
    });

    test("a push stopped after each frame costs a copy of each byte, not of the rest each time", () => {
      const count = 10_000;
      const chunk = concat(...Array.from({ length: count }, () => encode(body(1))));
      const framer = make();
      let frames = 0;
      const { copiedBytes, searchedBytes } = workOf(() => {
        frames += framer.push(chunk, () => framer.stop());
        while (framer.bufferedBytes > 0) frames += framer.push(NONE, () => framer.stop());
      });
      expect(frames).toBe(count);
      expect(copiedBytes).toBeLessThanOrEqual(3 * chunk.length);
      expect(searchedBytes).toBeLessThanOrEqual(4 * chunk.length);
    });

    test("a push stopped after each frame while more comes than goes costs no more either", () => {
      const two = concat(encode(body(1)), encode(body(1)));
      const framer = make();
      let pushed = 0;
      const { copiedBytes, searchedBytes } = workOf(() => {
        for (let i = 0; i < 5_000; i++) pushed += two.length * framer.push(two, () => framer.stop());
      });
      expect(framer.bufferedBytes).toBe(pushed / 2);
      expect(copiedBytes).toBeLessThanOrEqual(5 * pushed);
      expect(searchedBytes).toBeLessThanOrEqual(4 * pushed);
    });
  });
});

describe("Framer, extended", () => {
  /** A length of 7 bits a byte, the highest bit set in all but its last one: protobuf's varint. */
  class VarintFramer extends Framer {
    #length = 0;
    #digit = 1;
    #left: number | undefined;

    protected override scan(bytes: Uint8Array, from: number, to: number): number {
      let at = from;
      while (this.#left === undefined) {
        if (at === to) return -1;
        if (this.#digit > 2 ** 14) throw new FrameError("bad length", "Cannot take a length of more than 3 bytes");
        const byte = bytes[at++]!;
        this.#length += (byte & 0x7f) * this.#digit;
        this.#digit *= 128;
        if (byte < 0x80) this.#left = this.#length;
      }
      const count = Math.min(this.#left, to - at);
      this.#left -= count;
      if (this.#left > 0) return -1;
      this.reset();
      return at + count;
    }

    protected override reset(): void {
      this.#length = 0;
      this.#digit = 1;
      this.#left = undefined;
    }
  }

  test("a framer of a protocol's own is cut at every offset as ours are", () => {
    const stream = concat(Uint8Array.of(0, 0xac, 0x02), body(300), Uint8Array.of(1, 7));
    for (let split = 0; split <= stream.length; split++) {
      const frames = push(new VarintFramer(), stream.slice(0, split), stream.slice(split));
      expect(frames.map(({ length }) => length)).toEqual([1, 302, 2]);
    }
    expect(frameError(() => push(new VarintFramer(), body(4, 0xff))).code).toBe("bad length");
  });

  class Returning extends Framer {
    readonly #end: number;
    constructor(end: number) {
      super();
      this.#end = end;
    }
    protected override scan(): number {
      return this.#end;
    }
    protected override reset(): void {}
  }

  test("a scan() that returns what is no end of a frame fails the framer", () => {
    for (const end of [0, -2, 4, NaN, 1.5e9, Infinity]) {
      const framer = new Returning(end);
      const error = new RangeError(`Cannot cut a frame: scan() returned ${end}, it must be -1, or 1 to 3`);
      expect(() => push(framer, bytes("abc"))).toThrow(error);
      expect(frameError(() => push(framer, bytes("abc"))).cause).toEqual(error);
    }
  });
});

describe("options that all framers take", () => {
  const makers: readonly [string, (options: object) => unknown, object][] = [
    ["LengthPrefixFramer", (o) => new LengthPrefixFramer(o as never), { lengthBytes: 2, maxFrameBytes: 9 }],
    ["DelimiterFramer", (o) => new DelimiterFramer(o as never), { delimiter: "\n", maxFrameBytes: 9 }],
    ["HeaderFramer", (o) => new HeaderFramer(o as never), { headerBytes: 2, bodyBytes: () => 0, maxFrameBytes: 9 }],
  ];

  test.each(makers)("%s refuses wrong options, and names them", (_, make, options) => {
    make(options);
    for (const [key, value] of Object.entries(options)) {
      expect(() => make({ ...options, [key]: undefined })).toThrow(
        new TypeError(`Cannot do without ${key}: it must be given`),
      );
      const wrong = typeof value === "number" ? "1" : 1;
      expect(() => make({ ...options, [key]: wrong })).toThrow(TypeError);
      expect(() => make({ ...options, [key]: wrong })).toThrow(
        `Cannot use ${key} ${JSON.stringify(wrong)}: it must be`,
      );
    }
    for (const maxFrameBytes of [0, -1, 1.5, NaN, Infinity]) {
      expect(() => make({ ...options, maxFrameBytes })).toThrow(RangeError);
    }
    expect(() => make({ ...options, maxBytes: 1 })).toThrow('Cannot make a framer: there is no option "maxBytes"');
    expect(() => make(undefined as never)).toThrow("Cannot make a framer: options must be an object");
  });
});
