/** src/options.ts: every option is checked once, with an error that says what would be right. */
import { describe, expect, test } from "vitest";
import {
  booleanOption,
  choiceOption,
  functionOption,
  integerOption,
  knownOptions,
  requiredOption,
} from "../src/options.ts";

/** What a caller without types may hand over. */
function untyped<T>(value: unknown): T {
  return value as T;
}

describe("requiredOption()", () => {
  test("requiredOption() returns what is there, and throws TypeError for undefined alone", () => {
    for (const value of [0, "", false, null]) expect(requiredOption("delimiter", value)).toBe(value);
    expect(() => requiredOption("delimiter", undefined)).toThrow(
      new TypeError("Cannot do without delimiter: it must be given"),
    );
  });
});

describe("integerOption()", () => {
  test("integerOption() returns the value, its bounds included", () => {
    for (const value of [1, 2, 10]) expect(integerOption("backlog", value, 5, 1, 10)).toBe(value);
  });

  test("integerOption() returns the fallback for undefined, unchecked", () => {
    expect(integerOption("headroom", undefined, -1, 0)).toBe(-1);
  });

  test("integerOption() throws RangeError for what is out of range or no integer", () => {
    const text = (value: number) => `Cannot use backlog ${value}: it must be an integer, 1 to 10`;
    for (const value of [0, 11, -1, 1.5, NaN, Infinity, -Infinity]) {
      expect(() => integerOption("backlog", value, 5, 1, 10)).toThrow(new RangeError(text(value)));
    }
  });

  test("integerOption() names no upper bound where there is none", () => {
    expect(() => integerOption("reserve", -1, 5, 0)).toThrow(
      "Cannot use reserve -1: it must be an integer, at least 0",
    );
    expect(integerOption("reserve", Number.MAX_SAFE_INTEGER, 5, 0)).toBe(Number.MAX_SAFE_INTEGER);
    expect(() => integerOption("reserve", 2 ** 53, 5, 0)).toThrow(RangeError);
  });

  test("integerOption() throws TypeError for what is no number", () => {
    for (const value of ["5", null, true, 5n, Symbol("five"), [5]]) {
      expect(() => integerOption("backlog", untyped(value), 5, 1)).toThrow(TypeError);
    }
    expect(() => integerOption("backlog", untyped("5"), 5, 1)).toThrow('Cannot use backlog "5": it must be a number');
  });
});

describe("booleanOption()", () => {
  test("booleanOption() returns the value, the fallback for undefined", () => {
    expect(booleanOption("reusePort", false, true)).toBe(false);
    expect(booleanOption("reusePort", true, false)).toBe(true);
    expect(booleanOption("reusePort", undefined, true)).toBe(true);
  });

  test("booleanOption() throws TypeError for what is merely truthy or falsy", () => {
    for (const value of [0, 1, "", "true", null]) {
      expect(() => booleanOption("reusePort", untyped(value), false)).toThrow(TypeError);
    }
    expect(() => booleanOption("reusePort", untyped(1), false)).toThrow(
      "Cannot use reusePort 1: it must be a boolean",
    );
  });
});

describe("choiceOption()", () => {
  test("choiceOption() returns the value, the first choice for undefined", () => {
    expect(choiceOption("trigger", "edge", ["level", "edge"])).toBe("edge");
    expect(choiceOption("trigger", undefined, ["level", "edge"])).toBe("level");
  });

  test("choiceOption() throws TypeError that lists the choices", () => {
    expect(() => choiceOption("trigger", untyped("egde"), ["level", "edge"])).toThrow(
      new TypeError('Cannot use trigger "egde": it must be "level" or "edge"'),
    );
    for (const value of [null, 0, 1n, {}, Symbol("edge")]) {
      expect(() => choiceOption("trigger", untyped(value), ["level", "edge"])).toThrow(TypeError);
    }
  });
});

describe("functionOption()", () => {
  test("functionOption() returns a function, and undefined", () => {
    const handler = () => {};
    expect(functionOption("open", handler)).toBe(handler);
    expect(functionOption("open", undefined)).toBeUndefined();
  });

  test("functionOption() throws TypeError for everything else", () => {
    for (const value of [null, "open", {}, 1]) expect(() => functionOption("open", value)).toThrow(TypeError);
    expect(() => functionOption("open", "x")).toThrow('Cannot use open "x": it must be a function');
  });
});

describe("knownOptions()", () => {
  test("knownOptions() accepts what is known, and nothing at all", () => {
    expect(() => knownOptions("serve", {}, ["port"])).not.toThrow();
    expect(() => knownOptions("serve", { port: 1 }, ["port", "path"])).not.toThrow();
  });

  test("knownOptions() throws TypeError for a misspelt option, also one that is undefined", () => {
    const error = new TypeError('Cannot serve: there is no option "prot"');
    expect(() => knownOptions("serve", { port: 1, prot: 1 }, ["port"])).toThrow(error);
    expect(() => knownOptions("serve", { prot: undefined }, ["port"])).toThrow(error);
  });

  test("knownOptions() throws TypeError for options that are no object", () => {
    for (const options of [null, undefined, 7007, "7007"]) {
      expect(() => knownOptions("serve", untyped(options), [])).toThrow("Cannot serve: options must be an object");
    }
  });
});
