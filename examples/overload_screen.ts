/** What overload.ts shows: a table that is drawn again in place, or lines one below the other where that cannot be. */
import process from "node:process";
import { styleText } from "node:util";

/** What happens, in order: what the clients are told to do, and the same for people. */
export const PHASES = [
  { name: "calm", story: "8 clients each send a ping fifty times a second" },
  { name: "flood", story: "150 more connect at once, and stay" },
  { name: "storm", story: "those who were refused try again and again, without a pause" },
  { name: "leave", story: "the flood is gone, and one new client comes" },
] as const;

/** The server at one moment. */
export interface Figures {
  readonly connections: number;
  readonly free: number;
  readonly waiting: number;
  readonly refused: number;
  /** What the application was told last. */
  readonly told: string;
  readonly cpuPercent: number;
  readonly p99Ms: number;
}

/** Shows the figures of each moment; `end` says how it went. */
export interface Screen {
  show(phase: number, figures: Figures): void;
  end(sentence: string): void;
}

const isTerminal = process.stdout.isTTY === true;
const LINE_EVERY_MS = 500;

const style = (format: Parameters<typeof styleText>[0], text: string) =>
  isTerminal && process.env.NO_COLOR === undefined ? styleText(format, text) : text;

/** `runtime`: of the server, which has `limit` descriptors and keeps `headroom` of them free. */
export function createScreen(runtime: string, limit: number, headroom: number): Screen {
  console.log(`\n${style("bold", "A server runs out of file descriptors")}\n`);
  console.log(wrap(
    `Every connection takes a descriptor, and the kernel grants a process only so many: to this server, on ${runtime}, ` +
      `${limit}. Whoever asks for one more gets EMFILE, "too many open files"; many servers then die, spin, or never ` +
      `accept again. Spillway keeps ${headroom} free, so that ${runtime} itself can go on, and tells everybody else at ` +
      `once that there is no room.`,
  ));
  return isTerminal ? new Table(headroom) : new Lines();
}

/** Breaks lines between words. */
function wrap(text: string): string {
  const columns = Math.min(100, process.stdout.columns ?? 100);
  return text.replace(new RegExp(`(.{1,${columns - 1}})(?: |$)`, "g"), "$1\n");
}

class Table implements Screen {
  readonly #headroom: number;
  #height = 0;

  constructor(headroom: number) {
    this.#headroom = headroom;
    process.stdout.write("\x1b[?25l\x1b[?7l"); // no cursor, and long lines are cut off: one that wraps would be two
    process.on("exit", () => process.stdout.write("\x1b[?25h\x1b[?7h"));
  }

  show(phase: number, { connections, free, waiting, refused, told, cpuPercent, p99Ms }: Figures): void {
    const room = Math.max(0, free - this.#headroom);
    const lines = [
      ...PHASES.map((_, i) => phaseLine(i, phase)),
      "",
      row(
        "connections",
        connections,
        `${style("green", "█".repeat(connections))}${"░".repeat(room)} ${room > 0 ? `room for ${room} more` : "full"}`,
      ),
      row(
        "free descriptors",
        free,
        `${style("yellow", "█".repeat(Math.max(0, free - room)))}${
          "░".repeat(room)
        } ${this.#headroom} are kept for the runtime`,
      ),
      row("queue length", waiting, "clients whom nobody has looked at yet"),
      row("refused", refused, refused === 0 ? "" : "each told so: an orderly end of its stream"),
      row("CPU", `${cpuPercent.toFixed(0)} %`, "of one processor"),
      row("p99 of the 8", `${p99Ms.toFixed(1)} ms`, "99 of 100 pings are answered faster"),
      "",
      told === "" ? "" : `  ${style("yellow", "the application was told:")} ${told.replace(/ on tcp:[^ ]*:\d+/, "")}`,
    ];
    const back = this.#height === 0 ? "" : `\x1b[${this.#height}A`;
    process.stdout.write(back + lines.map((line) => `\x1b[K${line}\n`).join(""));
    this.#height = lines.length;
  }

  end(sentence: string): void {
    process.stdout.write("\x1b[?7h");
    console.log(`\n${style("bold", wrap(sentence))}`);
  }
}

function phaseLine(i: number, phase: number): string {
  const { name, story } = PHASES[i]!;
  const text = `${name.padEnd(5)}  ${story}`;
  if (i === phase) return style("bold", `  ▶ ${text}`);
  return style("dim", `  ${i < phase ? "✓" : " "} ${text}`);
}

function row(name: string, value: string | number, note: string): string {
  return `  ${name.padEnd(18)}${style("bold", `${value}`.padStart(8))}   ${note}`;
}

/** For files and pipes. */
class Lines implements Screen {
  #phase = -1;
  #told = "";
  #shownAtMs = 0;

  show(phase: number, { connections, free, waiting, refused, told, cpuPercent, p99Ms }: Figures): void {
    if (phase !== this.#phase && phase < PHASES.length) console.log(`${PHASES[phase]!.name}: ${PHASES[phase]!.story}`);
    if (told !== this.#told) console.log(`  the application was told: ${told}`);
    const now = performance.now();
    if (phase === this.#phase && now < this.#shownAtMs + LINE_EVERY_MS) return void (this.#told = told);
    [this.#phase, this.#told, this.#shownAtMs] = [phase, told, now];
    console.log(
      `  ${connections} connections, ${free} free descriptors, ${waiting} in the queue, ${refused} refused, ` +
        `CPU ${cpuPercent.toFixed(0)} %, p99 ${p99Ms.toFixed(1)} ms`,
    );
  }

  end(sentence: string): void {
    console.log(`\n${sentence}`);
  }
}
