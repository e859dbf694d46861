/** The import rules of the source tree, read from the syntax tree of every file. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { describe, expect, test } from "vitest";

/** All that src/ and mod.ts may see of ffi/. */
const WALL = ["ffi/syscalls.ts", "ffi/errno.ts", "ffi/constants.ts", "ffi/layout.ts", "ffi/host.ts"];

/**
 * Every file, lowest level first. A file imports lower levels and, without a cycle, its own; `import type` may point
 * anywhere. To add a file, place it here: what it needs is above it, what needs it is below.
 */
const LEVELS: readonly (readonly string[])[] = [
  // How each runtime calls C.
  [
    "ffi/backend.ts",
    "ffi/constants.ts",
    "ffi/symbols.ts",
    "ffi/host_types.ts",
    "ffi/errno.ts",
    "ffi/parker.ts",
    "ffi/poll_ring.ts",
    "ffi/web.ts",
    "ffi/resolver.ts",
    "ffi/short_calls.ts",
  ],
  ["ffi/deno.ts", "ffi/bun.ts", "ffi/node.ts"],
  ["ffi/mod.ts"],
  ["ffi/syscalls.ts", "ffi/layout.ts", "ffi/host.ts", "ffi/doubt.ts"],
  [
    "src/token.ts",
    "src/write_queue.ts",
    "src/interest.ts",
    "src/limits.ts",
    "src/counters.ts",
    "src/assert.ts",
    "src/options.ts",
    "src/accept_answer.ts",
    "src/descriptors.ts",
    "src/reserve.ts",
    "src/overload.ts",
    "src/episode.ts",
    "src/overload_log.ts",
    "src/error_text.ts",
    "src/error_log.ts",
    "src/token_bucket.ts",
    "src/shares.ts",
    "src/idle_list.ts",
    "src/close_reason.ts",
    "src/queue_budget.ts",
    "src/shared_bytes.ts",
    "src/scratch.ts",
    "src/sender.ts",
    "src/leak_watch.ts",
    "src/lulls.ts",
    "src/batch.ts",
    "src/receive_buffer.ts",
    "src/framer.ts",
    "src/length_prefix_framer.ts",
    "src/delimiter_framer.ts",
    "src/header_framer.ts",
  ],
  [
    "src/poller.ts",
    "src/timers.ts",
    "src/waker.ts",
    "src/socket.ts",
    "src/address.ts",
    "src/ladder.ts",
    "src/coordinator.ts",
    "src/listener.ts",
    "src/refusal.ts",
    "src/room.ts",
  ],
  ["src/loop.ts"],
  ["src/deadlines.ts", "src/throttle.ts"],
  ["src/outbox.ts"],
  [
    "src/connection_options.ts",
    "src/connection.ts",
    "src/connections.ts",
    "src/overload_watch.ts",
    "src/accept_pause.ts",
    "src/admission.ts",
    "src/acceptor.ts",
    "src/attempt.ts",
    "src/connector.ts",
  ],
  ["src/server_listener.ts", "src/server.ts"],
  ["mod.ts"],
];

/** The only files that may name a runtime, so that a fourth runtime is one more file. */
const RUNTIME_FILES = ["ffi/deno.ts", "ffi/bun.ts", "ffi/node.ts", "ffi/mod.ts"];
const RUNTIME_WORDS = ["Deno", "Bun", "process"];

const root = dirname(dirname(fileURLToPath(import.meta.url)));

interface Import {
  readonly specifier: string;
  /** The imported file's path from the root; the specifier itself where that is not relative. */
  readonly target: string;
  readonly typeOnly: boolean;
}

interface Source {
  readonly path: string;
  readonly imports: readonly Import[];
  /** Specifiers of `export * from`. */
  readonly exportsAll: readonly string[];
  readonly runtimeWords: readonly string[];
}

const sources = ["mod.ts", ...filesIn("ffi"), ...filesIn("src")]
  .filter((path) => existsSync(join(root, path)))
  .map((path) => parse(path, readFileSync(join(root, path), "utf8")));

describe("architecture", () => {
  test("every file has a level", () => {
    const unplaced = sources.map(({ path }) => path).filter((path) => levelOf(path) === -1);
    expect(unplaced, "place these files in LEVELS of test/architecture.test.ts").toEqual([]);
  });

  test("a file imports values only from lower levels and its own", () => {
    expect(violations((path, { target, typeOnly }) => !typeOnly && levelOf(target) > levelOf(path))).toEqual([]);
  });

  test("no values are imported in a cycle", () => {
    expect(cycles(sources)).toEqual([]);
  });

  test("ffi/ never imports src/", () => {
    expect(violations((path, { target }) => path.startsWith("ffi/") && !target.startsWith("ffi/"))).toEqual([]);
  });

  test("src/ and mod.ts see only the wall of ffi/", () => {
    expect(
      violations((path, { target }) => !path.startsWith("ffi/") && target.startsWith("ffi/") && !WALL.includes(target)),
    ).toEqual([]);
  });

  test("imports are files of this module: no runtime's own modules, no packages", () => {
    expect(violations((_, { specifier }) => !/^\.\.?\/.*\.ts$/.test(specifier))).toEqual([]);
  });

  test("src/ and mod.ts name what they re-export", () => {
    const found = sources.filter(({ path, exportsAll }) => !path.startsWith("ffi/") && exportsAll.length > 0);
    expect(found.map(({ path, exportsAll }) => `${path}: export * from "${exportsAll[0]}"`)).toEqual([]);
  });

  test("only the backends name a runtime", () => {
    const found = sources.filter(({ path, runtimeWords }) => !RUNTIME_FILES.includes(path) && runtimeWords.length > 0);
    expect(found.map(({ path, runtimeWords }) => `${path}: ${runtimeWords.join(", ")}`)).toEqual([]);
  });
});

describe("the check of the architecture", () => {
  const file = (path: string, text: string) => parse(path, text);

  test("finds every form of import, and tells types from values", () => {
    const { imports } = file(
      "src/loop.ts",
      `import { a, type A } from "./a.ts";
       import type { B } from "./b.ts";
       import { type C } from "./c.ts";
       export { d } from "./d.ts";
       export type { E } from "./e.ts";
       const f = await import("./f.ts");
       let g: import("./g.ts").G;
       let h: typeof import("bun:ffi");
       // import "./comment.ts";
       const text = 'import "./text.ts"';`,
    );
    expect(imports.map(({ target, typeOnly }) => `${typeOnly ? "type" : "value"} ${target}`)).toEqual([
      "value src/a.ts",
      "type src/b.ts",
      "type src/c.ts",
      "value src/d.ts",
      "type src/e.ts",
      "value src/f.ts",
      "type src/g.ts",
    ]);
  });

  test("finds a cycle of values, and lets types point back", () => {
    const a = file("src/a.ts", `import { b } from "./b.ts";`);
    expect(cycles([a, file("src/b.ts", `import type { A } from "./a.ts";`)])).toEqual([]);
    expect(cycles([a, file("src/b.ts", `import { a } from "./a.ts";`)])).toEqual(["src/a.ts → src/b.ts → src/a.ts"]);
  });

  test("finds the name of a runtime in code, not in comments or text", () => {
    expect(file("src/a.ts", `/** Deno */ const text = "Bun and process";`).runtimeWords).toEqual([]);
    expect(file("src/a.ts", `globalThis.process.exit(); globalThis["Deno"]; Bun.gc();`).runtimeWords)
      .toEqual(["process", "Deno", "Bun"]);
  });
});

function filesIn(folder: string): string[] {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts")).map((name) => `${folder}/${name}`).sort();
}

function levelOf(path: string): number {
  return LEVELS.findIndex((files) => files.includes(path));
}

function violations(isForbidden: (path: string, imported: Import) => boolean): string[] {
  return sources.flatMap(({ path, imports }) =>
    imports.filter((imported) => isForbidden(path, imported)).map(({ specifier }) => `${path} imports ${specifier}`)
  );
}

/** The cycles among value imports, each found once, as `a → b → a`. */
function cycles(files: readonly Source[]): string[] {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const done = new Set<string>();
  const found: string[] = [];
  const visit = (path: string, trail: readonly string[]) => {
    if (trail.includes(path)) return found.push([...trail.slice(trail.indexOf(path)), path].join(" → "));
    if (done.has(path)) return;
    for (const { target, typeOnly } of byPath.get(path)?.imports ?? []) {
      if (!typeOnly) visit(target, [...trail, path]);
    }
    done.add(path);
  };
  for (const { path } of files) visit(path, []);
  return found;
}

function parse(path: string, text: string): Source {
  const imports: Import[] = [];
  const exportsAll: string[] = [];
  const runtimeWords = new Set<string>();

  const add = (node: ts.Node | undefined, typeOnly: boolean) => {
    if (node === undefined) return;
    const specifier = ts.isStringLiteral(node) ? node.text : node.getText();
    const target = specifier.startsWith(".") ? relative(root, join(root, dirname(path), specifier)) : specifier;
    imports.push({ specifier, target, typeOnly });
  };
  /** `typeof import("bun:ffi")` is no import specifier: nothing resolves it but the type checker. */
  const addTypeNode = ({ argument }: ts.ImportTypeNode) => {
    const { literal } = argument as ts.LiteralTypeNode;
    if (ts.isStringLiteral(literal) && literal.text.startsWith(".")) add(literal, true);
  };
  const visit = (node: ts.Node) => {
    if (ts.isImportDeclaration(node)) add(node.moduleSpecifier, isTypeOnly(node.importClause));
    if (ts.isExportDeclaration(node)) {
      add(node.moduleSpecifier, node.isTypeOnly || isAllTypes(node.exportClause));
      if (node.exportClause === undefined) exportsAll.push((node.moduleSpecifier as ts.StringLiteral).text);
    }
    if (ts.isImportTypeNode(node)) addTypeNode(node);
    if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      add(node.arguments[0], false);
    }
    const isName = ts.isIdentifier(node) ||
      ts.isStringLiteral(node) && ts.isElementAccessExpression(node.parent);
    if (isName && RUNTIME_WORDS.includes(node.text)) runtimeWords.add(node.text);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true));
  return { path, imports, exportsAll, runtimeWords: [...runtimeWords] };
}

/** Whether nothing of the import remains at run time. */
function isTypeOnly(clause: ts.ImportClause | undefined): boolean {
  if (clause === undefined) return false; // import "./x.ts"
  if (clause.phaseModifier === ts.SyntaxKind.TypeKeyword) return true;
  return clause.name === undefined && isAllTypes(clause.namedBindings);
}

function isAllTypes(clause: ts.NamedImportBindings | ts.NamedExportBindings | undefined): boolean {
  if (clause === undefined || !(ts.isNamedImports(clause) || ts.isNamedExports(clause))) return false;
  return clause.elements.length > 0 && [...clause.elements].every((element) => element.isTypeOnly);
}
