/** examples/framed.ts as its users run it. */
import { describe, expect, test } from "vitest";
import { allAnswered, drive, EchoClient } from "./support/clients.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { endsWell, expectNoProcesses, start, startServer } from "./support/processes.ts";
import { randomBytes, seededRandom } from "./support/random.ts";
import { bytes, concat } from "./support/sockets.ts";

const FRAMED = "examples/framed.ts";
const MAX_FRAME_BYTES = 64 * 1024;

expectNoLeak();
expectNoProcesses();

const random = seededRandom("framed.test.ts");
const block = randomBytes(random, MAX_FRAME_BYTES);

function frame(length: number): Uint8Array {
  const prefix = bytes(4);
  new DataView(prefix.buffer).setUint32(0, length);
  return concat(prefix, block.subarray(0, length));
}

/** Frames of all sizes. */
function stream(count: number): Uint8Array {
  const length = () => random([1, 10, 1_000, MAX_FRAME_BYTES + 1][random(4)]!);
  return concat(...Array.from({ length: count }, () => frame(length())), frame(MAX_FRAME_BYTES));
}

describe.each(["level", "edge"])("framed, %s-triggered", (trigger) => {
  const listen = () => startServer(FRAMED, ["--port", "0", "--trigger", trigger]);

  test("50 clients get back every frame that they send, in random pieces", async () => {
    const server = await listen();
    const pieceBytes = () => 1 + random(random(4) === 0 ? 100_000 : 2_000);
    const clients = Array.from({ length: 50 }, () => new EchoClient(server.sockaddr, stream(20), { pieceBytes }));
    await allAnswered(clients, "frames that come back");
    await endsWell(server);
  });

  test("a frame is not answered before its last byte is here", async () => {
    const server = await listen();
    const [whole, rest] = [frame(100), frame(50)];
    const client = new EchoClient(server.sockaddr, concat(whole, rest.subarray(0, 53)));
    await drive([client], () => client.received >= whole.length, "the answer to the first frame");
    const other = new EchoClient(server.sockaddr, stream(1));
    await allAnswered([other], "another client, while the first one's frame is unfinished");
    expect([client.received, client.difference]).toEqual([whole.length, undefined]);
    await endsWell(server);
  });

  test("a client that announces a byte too many is disconnected after the frames before it, and nobody else is", async () => {
    const server = await listen();
    const other = new EchoClient(server.sockaddr, stream(3));
    await allAnswered([other], "another client");
    const tooLong = new EchoClient(server.sockaddr, concat(frame(10), Uint8Array.of(0, 1, 0, 1)));
    await drive([tooLong], () => tooLong.isGone, "the end of the client that announces too much");
    expect([tooLong.state, tooLong.received, tooLong.difference]).toEqual(["ended", 14, undefined]);
    other.ask(stream(3));
    await allAnswered([other], "another client again");
    await endsWell(server);
  });
});

test("framed ends with code 2 for a flag that there is not", async () => {
  const server = start(FRAMED, ["--bogus"]);
  expect(await server.end()).toEqual({ code: 2, signal: null });
  expect(server.stderr).toContain("--bogus");
});
