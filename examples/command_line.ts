/**
 * The flags that every example takes, and how each ends: shared so that the examples show only servers.
 */
import { basename } from "node:path";
import process from "node:process";
import { parseArgs, type ParseArgsConfig } from "node:util";
import type { OverloadPolicy, Server, ServerOptions } from "../mod.ts";

const FLAGS = {
  "host": { type: "string", default: "127.0.0.1" },
  "port": { type: "string" },
  "path": { type: "string" },
  "trigger": { type: "string", default: "level" },
  "max-connections": { type: "string" },
  "overload": { type: "string", default: "shed" },
  "grace-ms": { type: "string" },
  "refuse": { type: "string" },
  "headroom": { type: "string" },
  "reserve": { type: "string" },
  "help": { type: "boolean", short: "h", default: false },
} as const satisfies ParseArgsConfig["options"];

const help = (defaultPort: number, refuse: string) => `
  --host ADDRESS         IPv4 or IPv6 address to listen on (127.0.0.1)
  --port N               port to listen on, 0 for any (${defaultPort})
  --path PATH            Unix socket to listen on instead
  --trigger level|edge   how sockets are watched (level)
  --max-connections N    clients served at a time
  --overload shed|wait|grace
                         refuse those there is no room for, let them wait, or let them wait for --grace-ms (shed)
  --grace-ms N           how long they wait with --overload grace
  --refuse fin|rst|TEXT  how they are refused: end of stream, reset, or a farewell (${refuse})
  --headroom N           descriptors left free for the runtime
  --reserve N            idle descriptors to refuse clients with when none is left
`;

/** Flags that one example has for itself: what --help says of each, as in {@linkcode help}. All take a value. */
export type OwnFlags = Readonly<Record<string, string>>;

/** What {@linkcode serve} takes from the command line. */
export interface ServingOptions
  extends Pick<ServerOptions, "hostname" | "port" | "path" | "maxConnections" | "overload"> {
  trigger: "level" | "edge";
}

/** Ends the process with code 2 for a command line that cannot be meant. What fails after it ends with 1. */
export function refuse(reason: string): never {
  console.error(`${reason} (--help lists the flags)`);
  process.exit(2);
}

function integer(flag: string, text: string | undefined, most: number = Infinity): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d+$/.test(text)) refuse(`--${flag} takes a whole number, not "${text}"`);
  if (Number(text) > most) refuse(`--${flag} is at most ${most}, not ${text}`);
  return Number(text);
}

function policy(flags: { overload: string; "grace-ms"?: string }): OverloadPolicy {
  const graceMs = integer("grace-ms", flags["grace-ms"]);
  if (flags.overload === "grace") {
    return graceMs === undefined ? refuse("--overload grace needs --grace-ms") : { graceMs };
  }
  if (graceMs !== undefined) refuse("--grace-ms needs --overload grace");
  if (flags.overload === "shed" || flags.overload === "wait") return flags.overload;
  return refuse(`--overload is shed, wait or grace, not "${flags.overload}"`);
}

/** Where to listen and how, from the command line; `defaultPort` and `defaultRefuse` if it names none. */
export function serverOptions(defaultPort: number, defaultRefuse?: string): ServingOptions {
  return commandLine(defaultPort, {}, defaultRefuse).options;
}

/** As {@linkcode serverOptions}, for an example with flags of its own. */
export function commandLine(
  defaultPort: number,
  own: OwnFlags = {},
  defaultRefuse: string = "fin",
): { options: ServingOptions; own: Readonly<Record<string, string | undefined>> } {
  const ownFlags = Object.fromEntries(Object.keys(own).map((name) => [name, { type: "string" } as const]));
  const flags = parseFlags({ ...ownFlags, ...FLAGS });
  if (flags.help) {
    const ownHelp = Object.values(own).map((line) => `  ${line}\n`).join("");
    console.log(
      `Usage: ${basename(process.argv[1]!)} [flags]\n${help(defaultPort, defaultRefuse.trimEnd())}${ownHelp}`,
    );
    process.exit(0);
  }
  const port = integer("port", flags.port, 65_535);
  if (flags.path !== undefined && port !== undefined) refuse("--path and --port exclude each other");
  if (flags.trigger !== "level" && flags.trigger !== "edge") {
    refuse(`--trigger is level or edge, not "${flags.trigger}"`);
  }
  const place = flags.path !== undefined ? { path: flags.path } : { hostname: flags.host, port: port ?? defaultPort };
  const options: ServingOptions = {
    ...place,
    trigger: flags.trigger,
    maxConnections: integer("max-connections", flags["max-connections"]),
    overload: {
      policy: policy(flags),
      refuse: flags.refuse ?? defaultRefuse,
      headroom: integer("headroom", flags.headroom),
      reserve: integer("reserve", flags.reserve),
    },
  };
  return { options, own: flags as unknown as Readonly<Record<string, string | undefined>> };
}

/** The flags of this process' command line; refuses others. */
export function parseFlags<T extends NonNullable<ParseArgsConfig["options"]>>(options: T) {
  try {
    return parseArgs({ options, strict: true }).values;
  } catch (error) {
    return refuse((error as Error).message.replaceAll("\n", " ").replace(/\.$/, ""));
  }
}

/**
 * Starts a server, says where it listens, and stops it gracefully on SIGTERM and SIGINT, with exit code 0. `stopped` is
 * called after that, for what else is to end.
 */
export function runServer<T>(start: () => Server<T>, stopped: () => void = () => {}): void {
  let server: Server<T>;
  try {
    server = start();
  } catch (error) {
    console.error((error as Error).message);
    process.exit(1);
  }
  const stop = () => server.stop().then(stopped);
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
  // Last: whoever reads it may signal at once.
  console.log(`listening on ${server.url}`);
}
