/**
 * Relays each client to a target, byte by byte: holds back whoever sends faster than the other side reads, and passes on
 * the end of a stream, a close and a reset.
 *
 *     deno run --allow-ffi --allow-net examples/relay.ts --port 7008 --target localhost:7007
 *     bun examples/relay.ts --port 7008 --target localhost:7007
 *     node examples/relay.ts --port 7008 --target /run/x.sock        # Node 26.9 or later
 */
import {
  connect,
  type Connection,
  type ConnectionHandlers,
  type ConnectOptions,
  EventLoop,
  serve,
  type Server,
} from "../mod.ts";
import { commandLine, refuse, runServer } from "./command_line.ts";

/** What a connection of the relay knows. */
interface Side {
  /** The connection at the other side, once it is there. */
  other?: Connection<Side>;
  /** Of a client: ends the attempt to reach its target. */
  attempt?: AbortController;
}

const { options, own } = commandLine(7008, {
  target: "--target HOST:PORT|PATH  where clients are relayed to; the path of a Unix socket has a slash",
});
const target = parseTarget(own.target);

/** What both sides do. */
const relay: ConnectionHandlers<Side> = {
  data(connection, bytes) {
    if (!connection.data.other!.write(bytes)) connection.pause();
  },
  drain({ data }) {
    data.other!.resume();
  },
  end({ data }) {
    data.other!.end();
  },
  close({ data }, error, reason) {
    data.attempt?.abort();
    if (reason === "end") return; // the other side knows of both ends, and may still be sending
    if (reason === "close" || reason === "stop") data.other?.finish();
    else data.other?.abort(error);
  },
};

// A loop of our own: targets are served a little longer than clients, until they have it all.
const loop = new EventLoop();
/** Targets there are, and those that may come of an attempt. */
let targets = 0;
let isStopped = false;

function endWhenDone(): void {
  if (isStopped && targets === 0) loop.stop();
}

async function reachTarget(client: Connection<Side>, { signal }: AbortController): Promise<void> {
  targets++;
  let isReached = false;
  try {
    await connect<Side>({
      ...target,
      ...relay,
      loop,
      signal,
      trigger: options.trigger,
      allowHalfOpen: true,
      open(connection) {
        isReached = true;
        connection.data = { other: client };
        client.data.other = connection;
        client.resume();
      },
      close(connection, error, reason) {
        relay.close!(connection, error, reason);
        targets--;
        endWhenDone();
      },
    });
  } catch (error) {
    if (!signal.aborted) console.error(`relay: ${(error as Error).message}`);
    client.abort(error);
  }
  if (isReached) return;
  targets--;
  endWhenDone();
}

function start(): Server<Side> {
  const server = serve<Side>({
    ...options,
    ...relay,
    loop,
    allowHalfOpen: true,
    open(client) {
      const attempt = new AbortController();
      client.data = { attempt };
      client.pause(); // until there is somebody to write to
      void reachTarget(client, attempt);
    },
  });
  void loop.run().finally(() => loop.close());
  return server;
}

function parseTarget(text: string | undefined): Pick<ConnectOptions, "hostname" | "port" | "path"> {
  if (text === undefined) return refuse("--target is missing: where are clients to be relayed to?");
  if (text.includes("/")) return { path: text };
  const [, name, ipv6, port] = /^(?:([^:[\]]+)|\[([^\]]+)\]):(\d+)$/.exec(text) ?? [];
  if (port === undefined || Number(port) < 1 || Number(port) > 65535) {
    return refuse(`--target is HOST:PORT, [IPV6]:PORT or a path with a slash, not "${text}"`);
  }
  return { hostname: name ?? ipv6, port: Number(port) };
}

runServer(start, () => {
  isStopped = true;
  endWhenDone();
});
