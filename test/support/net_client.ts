/** Clients over the runtime's own `node:net`, for servers that run beside it. */
import { connect, type Socket } from "node:net";
import type { Address } from "../../src/address.ts";
import { until } from "./conditions.ts";

/** A client, and all it has received. */
export class Client {
  readonly socket: Socket;
  received = "";
  /** `"close"` or an error's code, once it is over. */
  over: Promise<string>;

  constructor({ address }: { readonly address: Address }) {
    this.socket = address.transport === "tcp" ? connect(address.port, address.hostname) : connect(address.path);
    this.socket.setEncoding("utf8").on("data", (text) => this.received += text);
    this.over = new Promise((resolve) => {
      this.socket.on("error", (error: Error & { code?: string }) => resolve(error.code ?? "error"));
      this.socket.on("close", () => resolve("close"));
    });
  }

  /** Sends `text`, and waits for `answer`. */
  async ask(text: string, answer: string): Promise<void> {
    this.socket.write(text);
    await until(() => this.received === answer, `${JSON.stringify(answer)}, not ${JSON.stringify(this.received)}`);
  }
}
