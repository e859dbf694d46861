/** connect() against listeners and servers of this process, on the loop of one of them. */
import { networkInterfaces } from "node:os";
import process from "node:process";
import { describe, expect, test } from "vitest";
import { connect, type Connection, serve, type Server } from "../mod.ts";
import { closeNow, expectNoLeak } from "./support/descriptors.ts";
import { addressOf, tcpListener } from "./support/sockets.ts";

expectNoLeak();

const CLIENTS = 10;
const hasIpv6 = Object.values(networkInterfaces()).flat().some((found) => found?.address === "::1");

/** Where to connect to reach `server`. */
function target({ address, loop }: Server) {
  return address.transport === "unix" ? { loop, path: address.path } : { loop, port: address.port };
}

/** A connection that says hello, and what it gets back. Closed then. */
async function hello(options: Parameters<typeof connect>[0]): Promise<string> {
  let answered: (answer: string) => void;
  const answer = new Promise<string>((resolve) => answered = resolve);
  const connection = await connect({
    ...options,
    open: (connection) => void connection.write("hello"),
    data: (_, bytes) => answered(new TextDecoder().decode(bytes)),
  });
  const text = await answer;
  connection.close();
  return text;
}

const echo = (connection: Connection, bytes: Uint8Array) => void connection.write(bytes);

describe.each(["level", "edge"] as const)("connect(), %s-triggered,", (trigger) => {
  test.each(["tcp", "unix"] as const)("ten clients at once over %s, on the loop of their server", async (over) => {
    const path = over === "unix" ? { path: `\0spillway-connector-peers-${process.pid}-${trigger}` } : {};
    await using server = serve({ trigger, data: echo, ...path });
    const answers = await Promise.all(Array.from({ length: CLIENTS }, () => hello({ ...target(server), trigger })));
    expect(answers).toEqual(Array.from({ length: CLIENTS }, () => "hello"));
    expect(server.counters).toMatchObject({ accepted: CLIENTS, refused: 0 });
  });

  test.each(["tcp", "unix"] as const)(
    "ten clients over %s that are aborted at once cost the next one nothing",
    async (over) => {
      const path = over === "unix" ? { path: `\0spillway-connector-aborted-${process.pid}-${trigger}` } : {};
      await using server = serve({ trigger, data: echo, ...path });
      const controller = new AbortController();
      const { signal } = controller;
      const attempts = Array.from({ length: CLIENTS }, () => connect({ ...target(server), trigger, signal }));
      controller.abort("never mind");
      const ends = await Promise.allSettled(attempts);
      expect(ends).toEqual(ends.map(() => ({ status: "rejected", reason: "never mind" })));
      expect(await hello({ ...target(server), trigger })).toBe("hello");
    },
  );
});

describe("connect()", () => {
  test("to 0.0.0.0 reaches this machine", async () => {
    await using server = serve({ data: echo });
    expect(await hello({ ...target(server), hostname: "0.0.0.0" })).toBe("hello");
  });

  test.runIf(hasIpv6)(
    "to :: reaches this machine, and where nobody listens on IPv6 it is refused at once",
    async () => {
      const server = serve({ hostname: "::1", data: echo });
      for (const hostname of ["::", "::1"]) expect(await hello({ ...target(server), hostname })).toBe("hello");
      await server.stop();
      const { loop: _, ...nobody } = target(server);
      for (const hostname of ["::", "::1"]) {
        await expect(connect({ ...nobody, hostname })).rejects.toMatchObject({ code: "ECONNREFUSED" });
      }
    },
  );

  test("to a listener that closes without accepting: open, then the reset", async () => {
    const listener = tcpListener();
    const log: string[] = [];
    let closed: () => void;
    const over = new Promise<void>((resolve) => closed = resolve);
    const { port } = addressOf(listener) as { port: number };
    await connect({
      port,
      open: () => void log.push("open"),
      close(_, error) {
        log.push(`close ${(error as { code?: string }).code}`);
        closed();
      },
    });
    closeNow(listener);
    await over;
    expect(log).toEqual(["open", "close ECONNRESET"]);
  });
});
