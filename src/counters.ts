/** What refusing clients with a full descriptor table took, step by step of the ladder; plain integers that only grow. */
export interface LadderCounters {
  /** Clients refused through the reserve. */
  shedByReserve: number;
  /** Clients refused through the soft limit's slack. */
  shedBySlack: number;
  /** Times that everybody in the backlog was reset. */
  queueResets: number;
  /** Slots of the reserve that another thread took. */
  lostByReserve: number;
  /** Times that other threads took all of the slack. */
  lostBySlack: number;
}

/** What an acceptor has done since it began; plain integers that only grow. Read them at any time. */
export interface AcceptCounters extends LadderCounters {
  /** Connections taken from the backlog and handed to the server. */
  accepted: number;
  /** Clients refused with a descriptor in hand: at the headroom's mark or at `maxConnections`. */
  refused: number;
  /** Clients refused for their own address's sake, or for the listener's rate. */
  rateLimited: number;
  /** Clients refused with the descriptor table full; those of a reset queue as far as the kernel counts them. */
  shed: number;
  /** Idle connections closed to make room. */
  reaped: number;
  /** Answers EMFILE of accept4(2), false alarms among them. */
  emfile: number;
  /** Answers ENFILE of accept4(2), false alarms among them. */
  enfile: number;
  /** Answers ENOBUFS and ENOMEM of accept4(2). */
  noMemory: number;
  /** EMFILE or ENFILE while nobody waited: the last client exactly filled the table. */
  falseAlarms: number;
  /** Connections that died in the backlog. */
  peerGone: number;
  /** Times the listener was not watched because nothing could be accepted. */
  pauses: number;
  /** Episodes of overload. */
  episodes: number;
  /** Connections closed because something after a successful accept failed. */
  setupFailed: number;
}

/** All zero. */
export function createAcceptCounters(): AcceptCounters {
  return {
    accepted: 0,
    refused: 0,
    rateLimited: 0,
    shed: 0,
    reaped: 0,
    emfile: 0,
    enfile: 0,
    noMemory: 0,
    falseAlarms: 0,
    peerGone: 0,
    pauses: 0,
    episodes: 0,
    setupFailed: 0,
    shedByReserve: 0,
    shedBySlack: 0,
    queueResets: 0,
    lostByReserve: 0,
    lostBySlack: 0,
  };
}

/** Adds each of `counters` to that of `sum`. */
export function addAcceptCounters(sum: AcceptCounters, counters: AcceptCounters): void {
  for (const name of Object.keys(counters) as (keyof AcceptCounters)[]) sum[name] += counters[name];
}
