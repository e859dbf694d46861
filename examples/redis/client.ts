import type { Connection, SharedBytes } from "../../mod.ts";
import type { Protocol } from "./replies.ts";
import { ProtocolError, RequestReader } from "./requests.ts";
import type { RedisServer } from "./server.ts";

/** How far a subscriber may be behind; nothing else holds messages back. */
const SUBSCRIBER_MAX_BYTES = 32 * 1024 * 1024;
const NOTHING = new Uint8Array(0);

/** One client, and what it has said of itself. */
export class Client {
  readonly id: number;
  readonly connection: Connection<Client>;
  name = "";
  protocol: Protocol = 2;
  /** It is subscribed to. */
  readonly channels = new Set<string>();
  readonly #server: RedisServer;
  readonly #requests = new RequestReader();
  #hasQuit = false;

  constructor(id: number, connection: Connection<Client>, server: RedisServer) {
    this.id = id;
    this.connection = connection;
    this.#server = server;
  }

  /**
   * Answers every request that is whole now, as long as the client takes the answers. One that does not is not read from
   * either: what it asks for waits at its own end.
   */
  receive(bytes: Uint8Array): void {
    const { replies } = this.#server;
    replies.begin(this);
    try {
      this.#requests.read(bytes, this.#take);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      replies.error(`ERR Protocol error: ${error.message}`);
      this.#hasQuit = true;
    }
    replies.flush();
    if (this.#hasQuit) this.connection.finish();
    else if (!replies.hasRoom) this.connection.pause();
  }

  /** The client has taken most of its answers. */
  drain(): void {
    this.connection.resume();
    this.receive(NOTHING);
  }

  /** The reply to this request, if it has one, is the last. */
  quit(): void {
    this.#hasQuit = true;
  }

  /** Sends a message of a channel. */
  tell(message: SharedBytes): void {
    const { connection } = this;
    connection.write(message);
    if (connection.queuedBytes > SUBSCRIBER_MAX_BYTES) connection.abort(new Error("a subscriber reads too slowly"));
  }

  readonly #take = (args: string[]): boolean => {
    this.#server.execute(args, this);
    return this.#server.replies.hasRoom && !this.#hasQuit;
  };
}
