/** What an acceptor has done since it began; plain integers that only grow. Read them at any time. */
export interface AcceptCounters {
  /** Connections taken from the backlog and handed to the server. */
  accepted: number;
  /** Clients refused with a descriptor in hand: at the headroom's mark or at `maxConnections`. */
  refused: number;
  /** Clients refused through the reserve, with the descriptor table full. */
  shed: number;
  /** Answers EMFILE of accept4(2), false alarms among them. */
  emfile: number;
  /** Answers ENFILE of accept4(2), false alarms among them. */
  enfile: number;
  /** EMFILE or ENFILE while nobody waited: the last client exactly filled the table. */
  falseAlarms: number;
  /** Connections that died in the backlog. */
  peerGone: number;
  /** Sheds that found no client after the reserve was given up: another thread took the slot, or the client left. */
  shedLost: number;
  /** Times the listener was not watched because nothing could be accepted. */
  pauses: number;
  /** Connections closed because something after a successful accept failed. */
  setupFailed: number;
}

/** All zero. */
export function createAcceptCounters(): AcceptCounters {
  return {
    accepted: 0,
    refused: 0,
    shed: 0,
    emfile: 0,
    enfile: 0,
    falseAlarms: 0,
    peerGone: 0,
    shedLost: 0,
    pauses: 0,
    setupFailed: 0,
  };
}
