/** Clients of a server that do not wait for it. */
import process from "node:process";
import { describe, expect, test } from "vitest";
import { AF, MSG, SOCK } from "../ffi/constants.ts";
import { encodeSockaddr } from "../ffi/layout.ts";
import { connect, recv, send, socket } from "../ffi/syscalls.ts";
import { type Address, encodeAddress } from "../src/address.ts";
import { serve, type Server } from "../src/server.ts";
import { until } from "./support/conditions.ts";
import { closeNow, expectNoLeak, outcome, own } from "./support/descriptors.ts";
import { bytes, reset } from "./support/sockets.ts";

expectNoLeak();

const CLIENTS = 10;

/** A client that the kernel has connected to `address`; nobody needs to accept it for that. */
function clientOf(address: Address): number {
  const fields = encodeAddress("connect to", address);
  const client = own(socket(fields.family === "unix" ? AF.unix : AF.inet, SOCK.stream | SOCK.cloexec, 0));
  expect(outcome(connect(client, encodeSockaddr(fields)))).toBe(0);
  return client;
}

/** Whoever comes now is answered; then nobody is left. */
async function isServing(server: Server): Promise<void> {
  const client = clientOf(server.address);
  send(client, bytes("x"));
  await until(() => recv(client, bytes(8), MSG.dontwait) === 1, "an answer");
  closeNow(client);
  await until(() => server.connections.size === 0, "the last close");
}

describe.each(["level", "edge"] as const)("serve(), %s-triggered,", (trigger) => {
  test.each(["tcp", "unix"] as const)(
    "clients over %s that have closed before they are accepted are told of like any others",
    async (over) => {
      const told: Record<string, number> = {};
      const note = (what: string) => void (told[what] = (told[what] ?? 0) + 1);
      await using server = serve({
        ...(over === "unix" ? { path: `\0spillway-peers-${process.pid}-${trigger}` } : {}),
        trigger,
        open: () => note("open"),
        data: (connection, chunk) => {
          note(`data ${chunk.byteLength}`);
          connection.write(chunk);
        },
        end: () => note("end"),
        close: () => note("close"),
      });
      for (let i = 0; i < CLIENTS; i++) {
        const client = clientOf(server.address);
        expect(send(client, bytes("x"))).toBe(1);
        closeNow(client);
      }
      await until(() => told["close"] === CLIENTS, "every close");
      expect(told).toMatchObject({ open: CLIENTS, close: CLIENTS });
      expect(server.counters).toMatchObject({ accepted: CLIENTS });

      await isServing(server);
    },
  );

  test("clients that have reset before they are accepted cost nobody else the service", async () => {
    let closed = 0;
    await using server = serve({
      trigger,
      data: (connection, chunk) => void connection.write(chunk),
      close: () => void closed++,
    });
    for (let i = 0; i < CLIENTS; i++) reset(clientOf(server.address));
    await isServing(server);
    expect(closed).toBe(server.counters.accepted);
  });
});
