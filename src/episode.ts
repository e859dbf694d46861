/** What there is too little of. */
export type OverloadCause =
  | "descriptors"
  | "system descriptors"
  | "headroom"
  | "maxConnections"
  | "watches"
  | "memory"
  | "no listener answer";

/** Told when overload begins, each half minute while it lasts, and when it is over. Counts are those of this episode. */
export interface OverloadEvent {
  /** Which of the three. */
  readonly kind: "start" | "summary" | "end";
  /** What there was too little of first. */
  readonly cause: OverloadCause;
  /** What would cure it, in words for whoever runs the process. */
  readonly cure: string;
  /** How long it has lasted, in ms. */
  readonly durationMs: number;
  /** Clients served meanwhile. */
  readonly served: number;
  /** Clients refused, in whatever way. */
  readonly refused: number;
  /** Idle connections closed to make room. */
  readonly reaped: number;
  /** Times nobody was accepted for a while. */
  readonly pauses: number;
  /** Clients in the backlog now; `undefined` where the kernel does not tell, as on Unix sockets. */
  readonly waiting: number | undefined;
  /** Connections now. */
  readonly connections: number;
  /** The soft descriptor limit now. */
  readonly limit: number;
  /** Descriptors left free for the runtime. */
  readonly headroom: number;
  /** Reserve descriptors there now. */
  readonly reserve: number;
}

/** A refusal or a pause later than this belongs to another episode. */
const QUIET_MS = 1_000;
/** Between two summaries. */
const SUMMARY_MS = 30_000;

const CURE: Readonly<Record<OverloadCause, string>> = {
  "descriptors": "raise the descriptor limit (ulimit -n, or LimitNOFILE= of systemd)",
  "headroom": "raise the descriptor limit (ulimit -n, or LimitNOFILE= of systemd)",
  "system descriptors": "raise the system's limit (sysctl fs.file-max), or find the process that holds so many files",
  "maxConnections": "raise maxConnections, or serve from more processes",
  "watches": "raise the user's limit (sysctl fs.epoll.max_user_watches)",
  "memory": "give the kernel more memory for sockets (sysctl net.ipv4.tcp_mem), or serve fewer clients",
  "no listener answer": "look into why accept4(2) fails: trace it with strace -e accept4",
};

/** The figures of an event that its reporter knows. */
export type OverloadFigures = Omit<OverloadEvent, "kind" | "cause" | "cure" | "durationMs">;

/**
 * The time in which clients are refused or wait for lack of room, from the first of them until a quiet second has
 * passed: one start and one end, however many clients.
 */
export class Episode {
  #cause: OverloadCause | undefined;
  #startedAtMs = 0;
  #troubledAtMs = 0;
  #summaryAtMs = 0;

  /** Whether one is under way. */
  get isActive(): boolean {
    return this.#cause !== undefined;
  }

  /** A client was refused, or has to wait. Returns whether that begins an episode. */
  trouble(cause: OverloadCause, nowMs: number): boolean {
    this.#troubledAtMs = nowMs;
    if (this.#cause !== undefined) return false;
    this.#cause = cause;
    this.#startedAtMs = nowMs;
    this.#summaryAtMs = nowMs + SUMMARY_MS;
    return true;
  }

  /** What is due now; call it a few times a second. That somebody `isWaiting` for room keeps the episode going. */
  due(nowMs: number, isWaiting: boolean): "summary" | "end" | undefined {
    if (isWaiting) this.#troubledAtMs = nowMs;
    if (nowMs >= this.#troubledAtMs + QUIET_MS) return "end";
    if (nowMs < this.#summaryAtMs) return undefined;
    this.#summaryAtMs = nowMs + SUMMARY_MS;
    return "summary";
  }

  /** The event, from `figures`. `"end"` ends the episode. */
  event(kind: OverloadEvent["kind"], nowMs: number, figures: OverloadFigures): OverloadEvent {
    const cause = this.#cause!;
    if (kind === "end") this.#cause = undefined;
    return { kind, cause, cure: CURE[cause], durationMs: Math.round(nowMs - this.#startedAtMs), ...figures };
  }
}

const WHAT: Readonly<Record<OverloadCause, string>> = {
  "descriptors": "out of file descriptors (limit $)",
  "headroom": "out of file descriptors but those kept for the runtime (limit $)",
  "system descriptors": "the system is out of file descriptors",
  "maxConnections": "maxConnections reached",
  "watches": "out of epoll watches",
  "memory": "the kernel is out of memory for sockets",
  "no listener answer": "accepting fails",
};

/** One line for a log. */
export function formatOverload(event: OverloadEvent, where: string): string {
  const { kind, cause, durationMs, served, refused, waiting, connections, limit, cure } = event;
  const what = WHAT[cause].replace("$", `${limit}`);
  const counts = `${refused} refused, ${served} served, ${connections} connected, ${waiting ?? "?"} waiting`;
  const seconds = (durationMs / 1000).toFixed(1);
  switch (kind) {
    case "start":
      return `overload on ${where}: ${what}; ${counts}; cure: ${cure}`;
    case "summary":
      return `overload on ${where} for ${seconds} s: ${what}; ${counts}; cure: ${cure}`;
    case "end":
      return `overload on ${where} is over after ${seconds} s: ${counts}`;
  }
}
