/**
 * accept4(2) fails in a server that runs, with each errno of the table in overload's design, and one that is not in it:
 * strace puts them there. No value makes the server spin, flood its log, or forget who waits.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { allAnswered, drive, EchoClient } from "./support/clients.ts";
import { expectNoLeak } from "./support/descriptors.ts";
import { temporaryFolder } from "./support/folders.ts";
import { ends, expectNoProcesses, type ServerProcess, startServer, type TestProcess } from "./support/processes.ts";
import { needsProgram } from "./support/programs.ts";
import { bytes } from "./support/sockets.ts";
import { detach, injectInto, readTrace } from "./support/trace.ts";

const ECHO = "examples/echo.ts";
const PING = bytes("ping");
/** How long accept4 does nothing but fail. */
const ALWAYS_MS = 1_500;
/** Failing calls that are no spin. */
const CALLS_PER_SECOND = 200;
const LINES_PER_MINUTE = 3;
/** Clients that wait meanwhile. */
const WAITING = 3;

const ERRNOS = {
  "of a connection that is gone": [
    ...["EINTR", "ECONNABORTED", "EPROTO", "ENOPROTOOPT", "ENETDOWN", "EHOSTDOWN", "ENONET", "EHOSTUNREACH"],
    ...["ENETUNREACH", "ETIMEDOUT", "ECONNRESET", "EPERM"],
  ],
  "of no room, which there is": ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"],
  "of no listener, which it is, and an unknown one": ["EBADF", "EINVAL", "ENOTSOCK", "EOPNOTSUPP", "EFAULT", "EIO"],
};

expectNoLeak();
expectNoProcesses();

const inFolder = temporaryFolder();

/** A server, and the errno that its accept4 is to fail with. */
interface Scene {
  readonly errno: string;
  readonly server: ServerProcess;
}

/** What strace saw of accept4 in one server. */
interface Seen {
  readonly errno: string;
  readonly failures: number;
  readonly accepts: number;
  readonly calls: number;
}

/** Has accept4 of each server fail with its errno, `when` strace says, for as long as `meanwhile` takes. */
async function failing(scenes: readonly Scene[], when: string, meanwhile: () => Promise<void>): Promise<Seen[]> {
  const fileOf = ({ errno, server }: Scene) => inFolder(`${server.pid}-${errno}-${when}`);
  const inject = (scene: Scene) => injectInto(scene.server.pid, fileOf(scene), `accept4:error=${scene.errno}${when}`);
  const tracers: TestProcess[] = await Promise.all(scenes.map(inject));
  await meanwhile();
  await Promise.all(tracers.map(detach));
  return scenes.map((scene) => {
    const calls = readTrace(fileOf(scene));
    return {
      errno: scene.errno,
      failures: calls.filter(({ error }) => error === scene.errno).length,
      accepts: calls.filter(({ result }) => result >= 0).length,
      calls: calls.length,
    };
  });
}

function connect({ server }: Scene): EchoClient {
  return new EchoClient(server.sockaddr, PING);
}

/** One more client of each is served. */
async function areServing(scenes: readonly Scene[], what: string): Promise<void> {
  const clients = scenes.map(connect);
  await allAnswered(clients, what);
  for (const client of clients) client.close();
}

describe.skipIf(needsProgram("strace")).each(["level", "edge"])("accept4 that fails, %s-triggered,", (trigger) => {
  test.each(Object.entries(ERRNOS))("with an errno %s: once, twice, and until it stops", async (_, errnos) => {
    const start = async (errno: string) => ({
      errno,
      server: await startServer(ECHO, ["--port", "0", "--trigger", trigger]),
    });
    const scenes = await Promise.all(errnos.map(start));
    await areServing(scenes, "answers before anything fails"); // and the code is compiled

    for (const times of [1, 2]) {
      const when = `:when=1..${times}`;
      const seen = await failing(scenes, when, () => areServing(scenes, `answers though accept4 fails ${times} times`));
      expect(seen.map(({ failures }) => failures)).toEqual(seen.map(() => times));
      // Each failure costs one call, and a turn ends with one more, which finds nobody.
      expect(seen.filter(({ calls, accepts }) => accepts !== 1 || calls > times + 4)).toEqual([]);
    }

    const waiting: EchoClient[] = [];
    let seconds = 0;
    const seen = await failing(scenes, "", async () => {
      const startedAt = performance.now();
      for (const scene of scenes) for (let i = 0; i < WAITING; i++) waiting.push(connect(scene));
      await drive(waiting, () => waiting.every(({ sent }) => sent > 0), "clients that wait");
      await sleep(ALWAYS_MS);
      seconds = (performance.now() - startedAt) / 1_000;
    });
    const figures = seen.map(({ errno, failures }) => `${errno} ${failures}`).join(", ");
    console.log(`${trigger}: accept4 calls that failed in ${seconds.toFixed(1)} s: ${figures}`);
    expect(seen.filter(({ failures }) => failures === 0)).toEqual([]);
    expect(seen.filter(({ failures, accepts }) => failures > CALLS_PER_SECOND * seconds + accepts)).toEqual([]);
    // Those who waited, and who comes now.
    const stoppedAt = performance.now();
    await allAnswered(waiting, "answers to those who waited");
    console.log(`${trigger}: all served ${Math.round(performance.now() - stoppedAt)} ms after it stopped`);
    await areServing(scenes, "answers once accept4 succeeds");
    for (const client of waiting) client.close();

    for (const { server } of scenes) await ends(server);
    const lines = scenes.map(({ errno, server }) => [errno, ...server.stderr.split("\n").slice(0, -1)]);
    expect(lines.filter(([, ...said]) => said.length > LINES_PER_MINUTE)).toEqual([]);
    expect(lines.flatMap(([, ...said]) => said.filter((line) => !/^spillway: overload on tcp:/.test(line)))).toEqual(
      [],
    );
  });
});
