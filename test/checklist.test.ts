/** test/checklist: what other libraries test, and where it is tested here. */
import { describe, expect, test } from "vitest";
import { LIBUV } from "./checklist/libuv.ts";
import { MIO } from "./checklist/mio.ts";
import { allTests, testsIn, testsNamed } from "./support/titles.ts";

const tests = allTests();

describe.each([["libuv", LIBUV], ["mio", MIO]] as const)("the checklist of %s", (_, { files, leftOut, commit }) => {
  const rows = Object.entries(files).flatMap(([file, rows]) => rows.map((row) => ({ file, ...row })));

  test("names every test once, and no file twice", () => {
    const names = rows.map(({ file, test }) => `${file} ${test}`);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
    expect(Object.keys(leftOut).filter((file) => file in files)).toEqual([]);
    expect(commit).toMatch(/^[0-9a-f]{40}$/);
  });

  test("says of every test what it shows, and either which of ours show it, or why it does not apply", () => {
    const isSaid = (text: string | undefined) => text !== undefined && text.length > 10;
    const wrong = rows.filter(({ behaviour, shownBy, because }) =>
      !isSaid(behaviour) || (shownBy === undefined) !== isSaid(because) || shownBy?.length === 0
    );
    expect(wrong).toEqual([]);
    expect(Object.entries(leftOut).filter(([, because]) => !isSaid(because))).toEqual([]);
  });

  test("names tests of ours that there are, each so that it means one", () => {
    const cited = new Set(rows.flatMap(({ shownBy = [] }) => shownBy));
    const wrong = [...cited].filter((name) => testsNamed(name, tests).length !== 1);
    expect(wrong, "names that mean no test, or several").toEqual([]);
  });
});

describe("the titles of tests", () => {
  const found = testsIn(
    "sub/x",
    `describe.skipIf(slow()).each(["a", "b"])("group %s", (g) => {
       test("plain", () => rig({}, {}, () => test(loop, 1)));
       test.each([1, 2])("of %i", () => {});
       for (const n of names) it(\`\${n} has (a) value\`, () => {});
     });
     test("plain", () => {});
     test("this has (a) value", () => {});
     describe("empty", () => {});`,
  );

  test("are found in groups, in loops and of each, and calls that only look alike are not", () => {
    expect(found.map(({ titles }) => titles)).toEqual([
      ["group %s", "plain"],
      ["group %s", "of %i"],
      ["group %s", "${} has (a) value"],
      ["plain"],
      ["this has (a) value"],
    ]);
  });

  test.each([
    ["sub/x: plain", [0, 3]],
    ["sub/x: group %s > plain", [0]],
    ["sub/x: group a > plain", [0]],
    ["sub/x: of %i", [1]],
    ["sub/x: of 2", [1]],
    ["sub/x: that has (a) value", [2]],
    ["sub/x: this has (a) value", [4]],
    ["sub/x: this has a value", []],
    ["sub/x: group %s", []],
    ["sub/x: plai", []],
    ["x: plain", []],
    ["plain", []],
  ])("are meant by names: %j", (name, indices) => {
    expect(testsNamed(name, found).map((title) => found.indexOf(title))).toEqual(indices);
  });
});
