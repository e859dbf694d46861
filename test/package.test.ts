/** The packages as their users get them: built, packed, unpacked elsewhere, imported, type-checked. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const bin = join(root, "node_modules", ".bin");
const node = join(bin, "node");
const readText = (path: string) => readFileSync(join(root, path), "utf8");
const manifest = JSON.parse(readText("package.json"));
const denoConfig = JSON.parse(readText("deno.json"));

// This runtime may have put itself in the place of Node in PATH (`bun --bun` does), and npm and tsc need the real one.
const env = {
  ...process.env,
  PATH: [bin, ...process.env.PATH!.split(delimiter).filter((folder) => !/[/]bun-node-/.test(folder))].join(delimiter),
};

/** A program of a user's, as it is type-checked: `entry` is how it names the package, `syscalls` how the other entry point. */
const consumer = (entry: string, syscalls: string) =>
  `import { EventLoop, serve } from "${entry}";
   import { close, realSyscalls } from "${syscalls}";
   const server = serve({
     hostname: "127.0.0.1",
     port: 0,
     data(connection, bytes: Uint8Array) {
       const below: boolean = connection.write(bytes);
       if (!below) connection.pause();
     },
   });
   const stopped: Promise<unknown> = server.stop();
   const result: number = close(0);
   const loop = new EventLoop({}, { ...realSyscalls, close: () => 0 });
   // @ts-expect-error: a port is a number
   serve({ port: "80" });
   export { loop, result, stopped };`;

/** What the samples of the README leave out: the reader's own functions, and imports that were shown before. */
const AROUND_SAMPLES = `
  import type * as spillway from "spillway";
  declare global {
    const console: { log(...values: unknown[]): void };
    const { LengthPrefixFramer, serve }: typeof spillway;
    type LengthPrefixFramer = spillway.LengthPrefixFramer;
    const control: spillway.ConnectionHandlers["data"];
    const data: spillway.ConnectionHandlers["data"];
    const signal: spillway.AbortSignalLike;
    function answer(connection: spillway.Connection<LengthPrefixFramer>, frame: Uint8Array): void;
    function handle(bytes: Uint8Array): void;
    function log(...values: unknown[]): void;
  }`;

/** How this runtime runs a program that asks for nothing but what the README says. */
const command = process.versions.bun
  ? [join(bin, "bun")]
  : process.versions.deno
  ? [join(bin, "deno"), "run", "--no-prompt", "--allow-ffi"]
  : [node, "--disable-warning=ExperimentalWarning"];

async function run(program: string, args: readonly string[], cwd: string): Promise<string> {
  try {
    return (await promisify(execFile)(program, [...args], { cwd, env })).stdout;
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`${program} ${args.join(" ")} failed:\n${stdout}${stderr}`);
  }
}

let work: string;
/** What the package is made of, `package.json` and documents included. */
let unpacked: string;

beforeAll(async () => {
  work = mkdtempSync(join(tmpdir(), "spillway-package-"));
  unpacked = join(work, "package");
  mkdirSync(unpacked);
  for (const name of ["package.json", "README.md", "LICENSE", "CHANGELOG.md"]) {
    copyFileSync(join(root, name), join(unpacked, name));
  }
  await run(node, [join(root, "scripts/build.mjs"), join(unpacked, "dist")], root);
});

afterAll(() => rmSync(work, { recursive: true, force: true }));

/** Of a file of code or declarations. */
function importsOf(path: string): string[] {
  const { importedFiles, typeReferenceDirectives } = ts.preProcessFile(readFileSync(path, "utf8"));
  return [...importedFiles, ...typeReferenceDirectives].map(({ fileName }) => fileName);
}

describe("the npm package", () => {
  let project: string;

  beforeAll(async () => {
    await run("npm", ["pack", "--ignore-scripts", "--pack-destination", work], unpacked);

    project = join(work, "project");
    mkdirSync(project);
    writeFileSync(join(project, "package.json"), JSON.stringify({ private: true, type: "module" }));
    const tarball = join(work, `spillway-${manifest.version}.tgz`);
    await run("npm", ["install", "--offline", "--ignore-scripts", "--no-audit", tarball], project);
  });

  test("holds JavaScript, declarations and documents, and brings nothing else along", () => {
    const installed = join(project, "node_modules", "spillway");
    const files = readdirSync(installed, { recursive: true, encoding: "utf8" });
    expect(files).toEqual(expect.arrayContaining(["LICENSE", "README.md", "CHANGELOG.md"]));
    const targets = Object.values(manifest.exports).flatMap((entry) => Object.values(entry as object));
    for (const target of targets) expect(existsSync(join(installed, target)), target).toBe(true);
    expect(files.filter((name) => /(?<!\.d)\.ts$/.test(name))).toEqual([]);
    expect(readdirSync(join(project, "node_modules")).filter((name) => !name.startsWith("."))).toEqual(["spillway"]);
  });

  test("declares each entry point in one file that imports nothing", () => {
    for (const { types } of Object.values(manifest.exports) as { types: string }[]) {
      expect(importsOf(join(project, "node_modules", "spillway", types)), types).toEqual([]);
    }
  });

  test("loads one file for an entry point, and one that they share", () => {
    const installed = join(project, "node_modules", "spillway");
    for (const { default: entry } of Object.values(manifest.exports) as { default: string }[]) {
      const path = join(installed, entry);
      expect(importsOf(path), entry).toEqual(["./ffi.js"]);
      expect(importsOf(join(dirname(path), "ffi.js"))).toEqual([]);
    }
    expect(readdirSync(join(installed, "dist")).filter((name) => name.endsWith(".js")).length).toBe(
      Object.keys(manifest.exports).length + 1,
    );
  });

  test("is one module, whichever entry point is imported, and keeps its names", async () => {
    writeFileSync(
      join(project, "names.mjs"),
      `import * as whole from "spillway";
       import * as syscalls from "spillway/syscalls";
       const same = Object.keys(syscalls).filter((name) => whole[name] === syscalls[name]);
       const renamed = [whole, syscalls].flatMap((entry) =>
         Object.keys(entry).filter((name) => typeof entry[name] === "function" && entry[name].name !== name)
       );
       console.log(JSON.stringify({ same, renamed }));`,
    );
    const [program, ...args] = command;
    expect(JSON.parse(await run(program!, [...args, "names.mjs"], project))).toEqual({
      same: ["SystemError", "UnavailableError"],
      renamed: [],
    });
  });

  test("serves when imported from JavaScript, and lets the process end after stop()", async () => {
    writeFileSync(
      join(project, "echo.mjs"),
      `import { serve } from "spillway";
       import * as syscalls from "spillway/syscalls";
       if (typeof syscalls.accept4 !== "function") throw new Error("no accept4");
       const server = serve({
         hostname: "127.0.0.1",
         port: 0,
         data(connection, bytes) { connection.write(bytes); },
         close() { stop(); },
       });
       async function stop() { await server.stop(); console.log("stopped"); }
       console.log(server.address.port);`,
    );
    const [program, ...args] = command;
    const child = spawn(program!, [...args, "echo.mjs"], { cwd: project, env, stdio: ["ignore", "pipe", "inherit"] });
    const exited = once(child, "exit");
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    try {
      const socket = connect(Number((await lines.next()).value), "127.0.0.1");
      socket.write("round trip");
      const [reply] = await once(socket, "data");
      expect(reply.toString()).toBe("round trip");
      socket.end();
      expect((await lines.next()).value).toBe("stopped");
      expect(await exited).toEqual([0, null]);
    } finally {
      child.kill("SIGKILL");
    }
  });

  test("type-checks in Deno, and in TypeScript without the types of any runtime", async () => {
    writeFileSync(join(project, "consumer.ts"), consumer("spillway", "spillway/syscalls"));
    await run(join(bin, "deno"), ["check", "consumer.ts"], project);
    await compile(["consumer.ts"]);
  });

  test("type-checks as the README uses it", async () => {
    writeFileSync(join(project, "around_samples.d.ts"), AROUND_SAMPLES);
    const samples = [...readText("README.md").matchAll(/^```ts\n(.*?)^```$/gms)].map(([, sample], i) => {
      // "export {}" makes a module of what imports nothing.
      writeFileSync(join(project, `sample_${i}.ts`), `${sample!.replace("@spillway/epoll", "spillway")}export {};`);
      return `sample_${i}.ts`;
    });
    expect(samples.length).toBeGreaterThan(0);
    await compile(["around_samples.d.ts", ...samples]);
  });

  /** In TypeScript, with no more of the language than `consumer` needs, and without the types of any runtime. */
  async function compile(files: string[]): Promise<void> {
    // Not named tsconfig.json, which Deno would read. Declarations are checked too: skipLibCheck is off.
    const language = { module: "NodeNext", target: "ES2024", lib: ["ES2024"], types: [] };
    const compilerOptions = { ...language, strict: true, noEmit: true };
    writeFileSync(join(project, "tsconfig.check.json"), JSON.stringify({ compilerOptions, files }));
    await run(node, [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.check.json"], project);
  }
});

describe("the JSR package", () => {
  const folder = () => join(unpacked, "dist", "jsr");
  const config = () => JSON.parse(readFileSync(join(folder(), "jsr.json"), "utf8"));

  test("is what deno.json says, but for where its code is", () => {
    const { name, version, license, exports } = config();
    expect({ name, version, license }).toEqual({
      name: denoConfig.name,
      version: denoConfig.version,
      license: denoConfig.license,
    });
    expect(Object.keys(exports)).toEqual(Object.keys(denoConfig.exports));
  });

  test("has the code of the npm package", () => {
    for (const name of readdirSync(join(folder(), "dist"))) {
      const code = readFileSync(join(unpacked, "dist", name), "utf8");
      expect(readFileSync(join(folder(), "dist", name), "utf8").endsWith(code), name).toBe(true);
    }
  });

  test("has the types and the documentation of the sources", async () => {
    const [entry, syscalls]: string[] = Object.values(config().exports);
    writeFileSync(join(work, "consumer.ts"), consumer(`./package/dist/jsr/${entry}`, `./package/dist/jsr/${syscalls}`));
    await run(join(bin, "deno"), ["check", "--no-config", "consumer.ts"], work);
    await run(join(bin, "deno"), ["doc", "--lint", entry!, syscalls!], folder());
  });

  test("is what JSR takes", async () => {
    await run(join(bin, "deno"), ["publish", "--dry-run", "--allow-dirty"], folder());
  });
});

describe("the manifests", () => {
  test("package.json and deno.json agree on version, license and entry points", () => {
    expect(denoConfig.version).toBe(manifest.version);
    expect(denoConfig.license).toBe(manifest.license);
    expect(Object.keys(denoConfig.exports)).toEqual(Object.keys(manifest.exports));
  });

  test("the changelog has a section for the version", () => {
    expect(readText("CHANGELOG.md")).toContain(`\n## [${manifest.version}]`);
  });

  test("there are no run-time dependencies", () => {
    const kinds = ["dependencies", "optionalDependencies", "peerDependencies", "bundleDependencies"];
    expect(kinds.filter((kind) => kind in manifest)).toEqual([]);
    expect(denoConfig.imports).toBeUndefined();
  });

  test("development tools are pinned, and the lockfile names no registry's host", () => {
    const versions: string[] = Object.values(manifest.devDependencies);
    expect(versions.filter((version) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
    expect(readText("package-lock.json")).not.toMatch(/"resolved"/);
  });

  test("every npm command in the README exists", () => {
    const text = readText("README.md");
    const commands = [...text.matchAll(/\bnpm (?:run ([\w:-]+)|(test|start)\b)/g)].map(([, name, short]) =>
      name ?? short
    );
    expect(commands).toEqual(expect.arrayContaining(["start", "test"]));
    expect(commands.filter((name) => !(name! in manifest.scripts))).toEqual([]);
  });

  test("Deno reads no tsconfig.json, which would change what it checks", () => {
    expect(existsSync(join(root, "tsconfig.json"))).toBe(false);
  });
});
