/** The server of overload.ts. Prints a line of JSON ten times a second, and one whenever overload begins or is over. */
import { formatOverload, serve } from "../mod.ts";

/** How the server is. */
export interface ServerReport {
  readonly port: number;
  readonly connections: number;
  /** Clients in the kernel's queue, whom nobody has looked at yet. */
  readonly waiting: number;
  readonly refused: number;
  /** Descriptors left free for the runtime. */
  readonly headroom: number;
  /** What the application was told last: whether overload began, or is over; and for people. */
  readonly overload: "none" | "begun" | "over";
  /** See above. */
  readonly told: string;
}

const REPORT_MS = 100;

let overload: ServerReport["overload"] = "none";
let told = "";
const server = serve({
  data(connection, bytes) {
    connection.write(bytes);
  },
  overloaded(event) {
    overload = event.kind === "end" ? "over" : "begun";
    told = formatOverload(event, server.url);
    report();
  },
});
report();
setInterval(report, REPORT_MS);

function report(): void {
  const { address, connections, waiting = 0, counters, headroom } = server;
  if (address.transport !== "tcp") throw new TypeError("the kernel chose a port");
  const refused = counters.refused + counters.shed;
  const figures = { port: address.port, connections: connections.size, waiting, refused, headroom, overload, told };
  console.log(JSON.stringify(figures satisfies ServerReport));
}
