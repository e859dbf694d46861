/** examples/relay.ts as its users run it: a process of its own, between clients and targets from outside. */
import { describe, expect, test } from "vitest";
import { MSG, POLL, SHUT, SOCK } from "../ffi/constants.ts";
import { encodeSockaddr } from "../ffi/layout.ts";
import * as sys from "../ffi/syscalls.ts";
import { allAnswered, drive, EchoClient } from "./support/clients.ts";
import { until } from "./support/conditions.ts";
import { closeNow, expectNoLeak, outcome, own } from "./support/descriptors.ts";
import { temporaryFolder } from "./support/folders.ts";
import { endsWell, expectNoProcesses, type ServerProcess, start, startServer } from "./support/processes.ts";
import { randomStreams } from "./support/random.ts";
import { addressOf, bytes, ready, reset, tcpListener, tcpSocket, text } from "./support/sockets.ts";

const RELAY = "examples/relay.ts";
const MIB = 1024 * 1024;

expectNoLeak();
expectNoProcesses();

const inFolder = temporaryFolder();
const { stream, pieceBytes } = randomStreams("relay.test.ts");

/** Both ends of a relayed connection, which are the test's: what one sends, the other receives. */
interface Ends {
  readonly relay: ServerProcess;
  readonly client: number;
  readonly target: number;
}

/** A relay to a listener of the test, and one connection through it. */
async function relayed(args: readonly string[]): Promise<Ends> {
  const listener = tcpListener();
  const { port } = addressOf(listener) as { port: number };
  const relay = await startServer(RELAY, ["--port", "0", "--target", `127.0.0.1:${port}`, ...args]);
  const client = tcpSocket(SOCK.cloexec);
  expect(sys.connect(client, relay.sockaddr)).toBe(0);
  ready(listener);
  return { relay, client, target: own(sys.accept4(listener, SOCK.cloexec)) };
}

/** What `fd` receives next: text, `"end"`, or an error's name. */
function received(fd: number): string {
  ready(fd, POLL.in);
  const buffer = bytes(100);
  const count = sys.recv(fd, buffer, MSG.dontwait);
  return count > 0 ? text(buffer, count) : count === 0 ? "end" : String(outcome(count));
}

function send(fd: number, message: string): void {
  expect(sys.send(fd, bytes(message), MSG.nosignal)).toBe(message.length);
}

describe.each(["level", "edge"])("relay, %s-triggered", (trigger) => {
  const flags = ["--trigger", trigger];

  test.each(["tcp", "unix"])(
    "100 clients get back 1 MiB each from an echo server behind it, by %s",
    async (transport) => {
      const place = (name: string) =>
        transport === "tcp" ? ["--port", "0"] : ["--path", inFolder(`${name}-${trigger}.sock`)];
      const echo = await startServer("examples/echo.ts", place("echo"));
      const target = echo.announcement.replace(/^listening on (tcp|unix):\/\//, "");
      const relay = await startServer(RELAY, [...place("relay"), "--target", target, ...flags]);
      const all = Array.from({ length: 100 }, () => new EchoClient(relay.sockaddr, stream(MIB), { pieceBytes }));
      await allAnswered(all, "100 MiB of echo");
      await endsWell(relay);
      await endsWell(echo);
    },
  );

  test("a client that sends without reading is held back, and gets all when it reads", async () => {
    const path = inFolder(`held-${trigger}.sock`);
    const echo = await startServer("examples/echo.ts", ["--path", path]);
    const relayPath = inFolder(`holds-${trigger}.sock`);
    const relay = await startServer(RELAY, ["--path", relayPath, "--target", path, ...flags]);
    const client = new EchoClient(relay.sockaddr, stream(12 * MIB), { isReading: false });
    const other = new EchoClient(relay.sockaddr, stream(64));
    // While another client is answered 50 times, which are as many turns of both servers, no more is taken.
    for (let rounds = 0, sent = -1; rounds < 50; rounds++) {
      other.ask(stream(64));
      await drive([client, other], () => other.isAnswered, "another client's answers");
      if (client.sent !== sent) rounds = 0;
      sent = client.sent;
    }
    // At most a high-water mark's worth in each of three queues, and what the kernel holds.
    expect(client.sent).toBeLessThan(6 * MIB);
    client.isReading = true;
    await allAnswered([client], "what was held back");
    await endsWell(relay);
    await endsWell(echo);
  });

  test("bytes and the end of a stream are passed on, each way by itself", async () => {
    const { relay, client, target } = await relayed(flags);
    send(client, "question");
    expect(received(target)).toBe("question");
    expect(sys.shutdown(client, SHUT.wr)).toBe(0);
    expect(received(target)).toBe("end");
    send(target, "answer");
    expect(received(client)).toBe("answer");
    closeNow(target);
    expect(received(client)).toBe("end");
    await endsWell(relay);
  });

  test("a target that ends first may go on receiving", async () => {
    const { relay, client, target } = await relayed(flags);
    send(target, "greeting");
    expect(sys.shutdown(target, SHUT.wr)).toBe(0);
    expect(received(client)).toBe("greeting");
    expect(received(client)).toBe("end");
    send(client, "thanks");
    expect(received(target)).toBe("thanks");
    expect(sys.shutdown(client, SHUT.wr)).toBe(0);
    expect(received(target)).toBe("end");
    await endsWell(relay);
  });

  test.each(["client", "target"] as const)("a reset by the %s reaches the other side", async (who) => {
    const ends = await relayed(flags);
    const other = who === "client" ? ends.target : ends.client;
    send(ends[who], "last words");
    expect(received(other)).toBe("last words");
    await ends.relay.closesSockets(2, () => {
      reset(ends[who]);
      expect(received(other)).toBe("-ECONNRESET");
    });
    await endsWell(ends.relay);
  });

  test("a client whose target refuses is reset, the others are not concerned, and a line says why", async () => {
    const path = inFolder(`late-${trigger}.sock`);
    const relay = await startServer(RELAY, ["--port", "0", "--target", path, ...flags]);
    const early = new EchoClient(relay.sockaddr, bytes(0));
    await drive([early], () => early.isGone, "the reset");
    expect(early.state).toBe("reset");
    const echo = await startServer("examples/echo.ts", ["--path", path]);
    await allAnswered([new EchoClient(relay.sockaddr, stream(MIB))], "a client once there is a target");
    await endsWell(relay, /^relay: Cannot connect to "unix:\S+": connect\(2\) returned ENOENT [^\n]+\n$/);
    await endsWell(echo);
  });

  test("SIGTERM ends it with code 0 after both sides have what was on its way", async () => {
    const { relay, client, target } = await relayed(flags);
    send(client, "x".repeat(50));
    expect(received(target)).toBe("x".repeat(50));
    send(target, "y".repeat(50));
    expect(received(client)).toBe("y".repeat(50));
    relay.kill("SIGTERM");
    expect([received(client), received(target)]).toEqual(["end", "end"]);
    closeNow(client);
    closeNow(target);
    expect(await relay.end()).toEqual({ code: 0, signal: null });
    expect(relay.stderr).toBe("");
  });

  test("SIGTERM ends it while a target does not answer", async () => {
    const path = inFolder(`full-${trigger}.sock`);
    const sockaddr = encodeSockaddr({ family: "unix", path: bytes(path) });
    const [listener, filler] = [0, 0].map(() => own(sys.socket(1, SOCK.stream | SOCK.nonblock | SOCK.cloexec, 0)));
    expect([sys.bind(listener!, sockaddr), sys.listen(listener!, 0), sys.connect(filler!, sockaddr)]).toEqual([
      0,
      0,
      0,
    ]);
    const relay = await startServer(RELAY, ["--port", "0", "--target", path, ...flags]);
    const before = relay.descriptors;
    const client = new EchoClient(relay.sockaddr, bytes(0));
    await until(() => relay.descriptors >= before + 2, "the client, and a socket for its target");
    await endsWell(relay);
    await drive([client], () => client.isGone, "the client's end");
  });
});

describe("relay, its command line", () => {
  test.each([
    ["--port 0", "--target is missing"],
    ["--target nowhere", "--target is HOST:PORT"],
    ["--target ::1:80", "--target is HOST:PORT"],
    ["--target a:0", "--target is HOST:PORT"],
    ["--target a:65536", "--target is HOST:PORT"],
    ["--target a:1 --bogus", "--bogus"],
  ])("%s ends it with code 2 and one line that names the flag", async (args, named) => {
    const relay = start(RELAY, args.split(" "));
    expect(await relay.end()).toEqual({ code: 2, signal: null });
    expect(relay.stdout).toBe("");
    expect(relay.stderr).toMatch(/^[^\n]+\n$/);
    expect(relay.stderr).toContain(named);
  });

  test("--help lists --target", async () => {
    const relay = start(RELAY, ["--help"]);
    expect(await relay.end()).toEqual({ code: 0, signal: null });
    expect(relay.stdout).toContain("--target HOST:PORT|PATH");
  });
});
