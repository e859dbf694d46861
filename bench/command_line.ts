/** What the command lines of both benches have in common. */
import process from "node:process";
import { parseArgs, type ParseArgsConfig } from "node:util";

/** The flags of this process's command line; refuses others. */
export function parseFlags<const T extends NonNullable<ParseArgsConfig["options"]>>(options: T) {
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    return refuse((error as Error).message.split(/\.\s/)[0]!);
  }
}

/** Ends the process for what cannot be meant. */
export function refuse(reason: string): never {
  console.error(`${reason} (--help says more)`);
  process.exit(2);
}
