/** The tests that there are, by name, read from the syntax trees of their files. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const folder = dirname(dirname(fileURLToPath(import.meta.url)));

/** What stands for a value in a title: printf's of `each`, its `$name`, or an expression in a template. */
const PLACEHOLDER = /%[sdifjoO#$]|\$[A-Za-z][\w.]*|\$\{\}/g;

/** One test, as it stands in its file: one of `each` is one test. */
export interface TestTitle {
  /** Name of its file, without `.test.ts`. */
  readonly file: string;
  /** Titles of the groups around it, outermost first, and its own. Expressions in templates read `${}`. */
  readonly titles: readonly string[];
}

/** Every test under test/. */
export function allTests(): TestTitle[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".test.ts"))
    .flatMap((path) => testsIn(path.slice(0, -".test.ts".length), readFileSync(join(folder, path), "utf8")));
}

/** The tests in the text of one file. */
export function testsIn(file: string, text: string): TestTitle[] {
  const found: TestTitle[] = [];
  const visit = (node: ts.Node, groups: readonly string[]): void => {
    let inner = groups;
    if (ts.isCallExpression(node)) {
      const kind = kindOf(node.expression);
      const title = kind === undefined ? undefined : titleOf(node.arguments[0]);
      if (title !== undefined) {
        inner = [...groups, title];
        if (kind === "test") found.push({ file, titles: inner });
      }
    }
    ts.forEachChild(node, (child) => visit(child, inner));
  };
  visit(ts.createSourceFile(file, text, ts.ScriptTarget.Latest), []);
  return found;
}

/**
 * Those of `tests` that `name` means: `"file: title"`, with titles of groups before it, as `"group > title"`, where it
 * would mean several. A placeholder may be there as it is written, or with a value.
 */
export function testsNamed(name: string, tests: readonly TestTitle[]): TestTitle[] {
  const [, file, title] = /^([\w/]+): (.*)$/.exec(name) ?? [];
  const inFile = tests.filter((test) => test.file === file);
  const exact = inFile.filter(({ titles }) => namesOf(titles).includes(title!));
  return exact.length > 0 ? exact : inFile.filter(({ titles }) => namesOf(titles).some((full) => fits(title!, full)));
}

/** A title as it may be named, with fewer and fewer groups before it. */
function namesOf(titles: readonly string[]): string[] {
  return titles.map((_, i) => titles.slice(i).join(" > "));
}

function fits(title: string, full: string): boolean {
  return new RegExp(`^${full.split(PLACEHOLDER).map(escape).join(".+")}$`).test(title);
}

/** What a call that begins with `test`, `it` or `describe` makes, however it goes on: `describe.skipIf(…).each(…)`. */
function kindOf(callee: ts.Expression): "test" | "group" | undefined {
  let root = callee;
  while (ts.isPropertyAccessExpression(root) || ts.isCallExpression(root)) root = root.expression;
  if (!ts.isIdentifier(root)) return undefined;
  if (root.text === "describe") return "group";
  return root.text === "test" || root.text === "it" ? "test" : undefined;
}

function titleOf(node: ts.Expression | undefined): string | undefined {
  if (node === undefined) return undefined;
  if (ts.isStringLiteralLike(node)) return node.text;
  if (!ts.isTemplateExpression(node)) return undefined;
  return node.head.text + node.templateSpans.map(({ literal }) => "${}" + literal.text).join("");
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
