/** A client of Redis that keeps every byte of a reply. Strings here have a code unit for each byte. */
import { Buffer } from "node:buffer";
import { connect, type NetConnectOpts, type Socket } from "node:net";
import { until } from "./conditions.ts";

/** One reply, and those in it. */
export interface Reply {
  /** All its bytes. */
  readonly raw: string;
  /** Its first line, without the end. */
  readonly line: string;
  /** Of an array, a map, a set or a push. */
  readonly children: readonly Reply[];
}

/** A request as clients write it. */
export function request(...args: string[]): string {
  return `*${args.length}\r\n${args.map((arg) => `$${arg.length}\r\n${arg}\r\n`).join("")}`;
}

/** The reply that begins at `at`; `undefined` if it is not here whole. */
function replyAt(text: string, at: number): Reply | undefined {
  const lineEnd = text.indexOf("\r\n", at);
  if (lineEnd === -1) return undefined;
  const line = text.slice(at, lineEnd);
  const count = Number(line.slice(1));
  let end = lineEnd + 2;
  const children: Reply[] = [];
  switch (line[0]) {
    case "$":
    case "=":
      if (count >= 0) end += count + 2;
      if (end > text.length) return undefined;
      break;
    case "*":
    case "~":
    case ">":
    case "%":
      for (let left = line[0] === "%" ? 2 * count : count; left > 0; left--) {
        const child = replyAt(text, end);
        if (child === undefined) return undefined;
        children.push(child);
        end += child.raw.length;
      }
      break;
    case "+":
    case "-":
    case ":":
    case "_":
      break;
    default:
      throw new Error(`Cannot read a reply that begins with ${JSON.stringify(line)}`);
  }
  return { raw: text.slice(at, end), line, children };
}

/** A client over the runtime's own `node:net`. */
export class RedisClient {
  readonly socket: Socket;
  /** Received, and not taken by {@linkcode RedisClient.replies} yet. */
  received = "";
  /** `"close"` or an error's code, once it is over. */
  over: string | undefined;

  constructor(place: NetConnectOpts) {
    this.socket = connect(place);
    this.socket.setEncoding("latin1").on("data", (text) => this.received += text);
    this.socket.on("error", (error: Error & { code?: string }) => this.over = error.code ?? "error");
    this.socket.on("close", () => this.over ??= "close");
  }

  /** Sends bytes. */
  send(text: string): void {
    this.socket.write(Buffer.from(text, "latin1"));
  }

  /** Sends a request, and waits for its reply. */
  async ask(...args: string[]): Promise<string> {
    this.send(request(...args));
    const [reply] = await this.replies(1);
    return reply!.raw;
  }

  /** Waits for that many replies. */
  async replies(count: number): Promise<Reply[]> {
    const replies: Reply[] = [];
    let at = 0;
    await until(() => {
      for (let reply; replies.length < count && (reply = replyAt(this.received, at)) !== undefined;) {
        replies.push(reply);
        at += reply.raw.length;
      }
      return replies.length === count || this.over !== undefined;
    }, `${count} replies`);
    if (replies.length < count) throw new Error(`Cannot see ${count} replies, only ${replies.length}: ${this.over}`);
    this.received = this.received.slice(at);
    return replies;
  }

  /** Waits for the end, and returns all that was received before. */
  async toTheEnd(): Promise<string> {
    await until(() => this.over !== undefined, "the end of a connection");
    return this.received;
  }

  /** Closes it, and waits until that is done. */
  async close(): Promise<void> {
    this.socket.destroy();
    await until(() => this.over !== undefined, "the end of a connection");
  }
}
