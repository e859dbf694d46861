import { SharedBytes } from "../../mod.ts";
import type { Client } from "./client.ts";
import { bytesOf } from "./text.ts";

/** Who is subscribed to what. */
export class Channels {
  readonly #subscribers = new Map<string, Set<Client>>();

  /** Whether it was not subscribed before, or was, makes no difference. */
  subscribe(client: Client, channel: string): void {
    let subscribers = this.#subscribers.get(channel);
    if (subscribers === undefined) this.#subscribers.set(channel, subscribers = new Set());
    subscribers.add(client);
    client.channels.add(channel);
  }

  /** As {@linkcode Channels.subscribe}. */
  unsubscribe(client: Client, channel: string): void {
    const subscribers = this.#subscribers.get(channel);
    subscribers?.delete(client);
    if (subscribers?.size === 0) this.#subscribers.delete(channel);
    client.channels.delete(channel);
  }

  /** The client is gone. */
  forget(client: Client): void {
    for (const channel of [...client.channels]) this.unsubscribe(client, channel);
  }

  /** Sends a message to all subscribers: one copy, however many they are. @returns How many. */
  publish(channel: string, text: string): number {
    const subscribers = this.#subscribers.get(channel);
    if (subscribers === undefined) return 0;
    const header = `3\r\n$7\r\nmessage\r\n$${channel.length}\r\n`;
    const bytes = (kind: string) => bytesOf(kind + header, channel, `\r\n$${text.length}\r\n`, text, "\r\n");
    let [version2, version3]: SharedBytes[] = [];
    for (const client of [...subscribers]) {
      if (client.protocol === 2) client.tell(version2 ??= new SharedBytes(bytes("*")));
      else client.tell(version3 ??= new SharedBytes(bytes(">")));
    }
    return subscribers.size;
  }
}
