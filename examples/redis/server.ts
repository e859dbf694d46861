import type { Connection } from "../../mod.ts";
import { Channels } from "./channels.ts";
import { Client } from "./client.ts";
import { hashCommands, listCommands, setCommands } from "./collection_commands.ts";
import { checkArity, type Command, command, type Commands, NO_KEYS, shown } from "./command.ts";
import { connectionCommands } from "./connection_commands.ts";
import { CommandError, Database } from "./database.ts";
import { keyCommands } from "./key_commands.ts";
import { Replies } from "./replies.ts";
import { stringCommands } from "./string_commands.ts";

/** What a client of protocol 2 may say while it is subscribed: replies could not be told from messages. */
const WHILE_SUBSCRIBED = new Set(["subscribe", "unsubscribe", "ping", "quit"]);

/** What a browser sends that a page has tricked into talking to us. Nothing after it is meant for Redis. */
const BY_BROWSERS = ["post", "host:"];

/** Everything that the clients share. */
export class RedisServer {
  readonly database = new Database();
  readonly channels = new Channels();
  readonly clients = new Set<Client>();
  readonly replies = new Replies();
  readonly startedAtMs = Date.now();
  /** By their names in lower case. */
  readonly commands: Commands = {
    ...stringCommands(this.database),
    ...keyCommands(this.database),
    ...listCommands(this.database),
    ...hashCommands(this.database),
    ...setCommands(this.database),
    ...connectionCommands(this),
  };
  /** As clients mostly write them: in upper or lower case. */
  readonly #byName = new Map<string, [name: string, command: Command]>();
  #lastId = 0;
  #executed = 0;

  constructor() {
    for (const [name, command] of Object.entries(this.commands)) {
      this.#byName.set(name, [name, command]);
      this.#byName.set(name.toUpperCase(), [name, command]);
    }
    const end = command(-1, NO_KEYS, (_args, _reply, client) => client.quit());
    for (const name of BY_BROWSERS) this.#byName.set(name, [name, end]);
  }

  /** Clients there have been. */
  get connected(): number {
    return this.#lastId;
  }

  /** Requests that were answered. */
  get executed(): number {
    return this.#executed;
  }

  /** A client has come. */
  open(connection: Connection<Client>): void {
    connection.data = new Client(++this.#lastId, connection, this);
    this.clients.add(connection.data);
  }

  /** A client is gone. */
  close(client: Client): void {
    this.channels.forget(client);
    this.clients.delete(client);
  }

  /** Answers one request. */
  execute(args: readonly string[], client: Client): void {
    this.#executed++;
    try {
      const [name, command] = this.#find(args);
      checkArity(name, command, args);
      if (client.channels.size > 0 && client.protocol === 2 && !WHILE_SUBSCRIBED.has(name)) {
        throw new CommandError(
          `ERR Can't execute '${name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in ` +
            "this context",
        );
      }
      command.run(args, this.replies, client);
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      this.replies.error(error.message);
    }
  }

  #find(args: readonly string[]): [name: string, command: Command] {
    const found = this.#byName.get(args[0]!) ?? this.#byName.get(args[0]!.toLowerCase());
    if (found !== undefined) return found;
    let beginning = "";
    for (let i = 1; i < args.length && beginning.length < 128; i++) {
      beginning += `'${shown(args[i]!, 128 - beginning.length)}' `;
    }
    throw new CommandError(`ERR unknown command '${shown(args[0]!)}', with args beginning with: ${beginning}`);
  }
}
