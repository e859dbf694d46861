const PAUSE_MS = 100;

const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
console.log((listener.addr as Deno.NetAddr).port);
for (;;) {
  try {
    echo(await listener.accept());
  } catch {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS)); // EMFILE
  }
}

async function echo(connection: Deno.TcpConn): Promise<void> {
  connection.setNoDelay();
  const buffer = new Uint8Array(64 * 1024);
  for (;;) {
    const received = await connection.read(buffer);
    if (received === null) break;
    for (let at = 0; at < received;) at += await connection.write(buffer.subarray(at, received));
  }
  connection.close();
}
