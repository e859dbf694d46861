import type { Client } from "./client.ts";
import { CommandError } from "./database.ts";
import type { Replies } from "./replies.ts";

/** Where keys are among the arguments: first, last (from the end if negative), step. */
export type Keys = readonly [first: number, last: number, step: number];

export const NO_KEYS: Keys = [0, 0, 0];
export const ONE_KEY: Keys = [1, 1, 1];
export const ALL_KEYS: Keys = [1, -1, 1];
export const KEYS_AND_VALUES: Keys = [1, -1, 2];

/** One command. */
export interface Command {
  /** How many arguments it takes, its name included; at least so many if negative. */
  readonly arity: number;
  readonly keys: Keys;
  /** `args` begins with the name, and is its own. @throws {CommandError} Before it has replied anything. */
  readonly run: (args: readonly string[], reply: Replies, client: Client) => void;
}

/** Commands by their names, in lower case. */
export type Commands = Readonly<Record<string, Command>>;

/** A row of a table of commands. */
export function command(arity: number, keys: Keys, run: Command["run"]): Command {
  return { arity, keys, run };
}

/** A command whose second argument is the name of another one: of those in `subcommands`, or HELP, which lists them. */
export function container(name: string, subcommands: Commands): Command {
  const table: Commands = {
    ...subcommands,
    help: command(2, NO_KEYS, (_args, reply) => {
      const lines = [`${name.toUpperCase()} <subcommand> [<arg> ...]. Subcommands are:`];
      for (const sub of Object.keys(table)) lines.push(sub.toUpperCase());
      reply.array(lines.length);
      for (const line of lines) reply.simple(line);
    }),
  };
  return command(-2, NO_KEYS, (args, reply, client) => {
    const sub = args[1]!.toLowerCase();
    if (!Object.hasOwn(table, sub)) {
      throw new CommandError(`ERR unknown subcommand '${shown(args[1]!)}'. Try ${name.toUpperCase()} HELP.`);
    }
    checkArity(`${name}|${sub}`, table[sub]!, args);
    table[sub]!.run(args, reply, client);
  });
}

/** @throws {CommandError} If these are too many or too few. */
export function checkArity(name: string, { arity }: Command, { length }: readonly string[]): void {
  if (arity >= 0 ? length === arity : length >= -arity) return;
  throw new CommandError(`ERR wrong number of arguments for '${name}' command`);
}

/** The part of what a client has sent that an error repeats. */
export function shown(text: string, most: number = 128): string {
  return text.split("\0", 1)[0]!.slice(0, most);
}
