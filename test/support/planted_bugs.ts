/** Bugs, as edits of the sources: each must make the property tests fail. */

import type { Edit } from "./copies.ts";

/** One of them. */
export interface PlantedBug extends Edit {
  /** What goes wrong. */
  readonly name: string;
}

export const PLANTED_BUGS: readonly PlantedBug[] = [
  {
    name: "the reserve is not restored",
    file: "src/overload_watch.ts",
    find: "&& coordinator.reserve.restore();",
    replace: ";",
  },
  {
    name: "EMFILE is taken for EAGAIN",
    file: "src/accept_answer.ts",
    find: '"empty": ["EAGAIN"],\n  "table full": ["EMFILE", "ENFILE"],',
    replace: '"empty": ["EAGAIN", "EMFILE"],\n  "table full": ["ENFILE"],',
  },
  {
    name: "the listener is not posted again after the budget",
    file: "src/acceptor.ts",
    find: "    this.loop.post(this.#accept);\n",
    replace: "",
  },
  {
    name: "an edge adds one more accept to those that are posted",
    file: "src/acceptor.ts",
    find: "    if (!this.#isPosted) this.#accept();",
    replace: "    this.#accept();",
  },
  {
    name: "a stale event reaches its slot's next owner",
    file: "src/token.ts",
    find: "return this.#generations[slot] === generation ? this.#values[slot] : undefined;",
    replace: "return generation >= 0 ? this.#values[slot] : undefined;",
  },
  {
    name: "a release is not noticed",
    file: "src/admission.ts",
    find: "    if (this.pause.isActive || this.coordinator.isPaused) this.coordinator.resume();\n",
    replace: "",
  },
  {
    name: "the listener is not watched again after a pause",
    file: "src/acceptor.ts",
    find: "    this.#rewatch(); // whoever waits is reported anew, also under edge triggering\n",
    replace: "",
  },
  {
    name: "only one of two listeners is watched again after a pause",
    file: "src/admission.ts",
    find: "    this.#forEachGate((gate) => gate.resume());\n",
    replace: "    for (const gate of this.#gates) return gate.resume();\n",
  },
  {
    name: "the mark is off by one",
    file: "src/room.ts",
    find: "if (fd >= this.#mark - settling) return",
    replace: "if (fd > this.#mark - settling) return",
  },
  {
    name: "who is refused in the end counts as accepted",
    file: "src/admission.ts",
    find: "return this.#accepts.available(now) >= 1 &&",
    replace: "return this.#accepts.take(now) &&",
  },
  {
    name: "a reaped client's old number is kept open",
    file: "src/acceptor.ts",
    find: "if (fd >= 0) this.#sys.close(clientFd);",
    replace: "if (fd >= 0) fd = idleFd;",
  },
  {
    name: "the budget of refusals is ignored",
    file: "src/acceptor.ts",
    find: "    if (waitMs > 0) {\n",
    replace: "    if (waitMs > 1e9) {\n",
  },
  {
    name: "the slack is not given back",
    file: "src/ladder.ts",
    find: "    this.#slack.lower();\n",
    replace: "",
  },
  {
    name: "those who are to wait are refused",
    file: "src/overload.ts",
    find: 'beyond: "serve, then pause", "table full": "pause" }',
    replace: 'beyond: "refuse", "table full": "shed" }',
  },
  {
    name: "the end of an episode is not told",
    file: "src/overload_watch.ts",
    find: 'if (due === "summary" || (due === "end" && isComplete)) this.#report(due);',
    replace: 'if (due === "summary") this.#report(due);',
  },
  {
    name: "what the client has sent is left unread",
    file: "src/refusal.ts",
    find: "    this.#sys.recv(fd, this.#drain, MSG.trunc | MSG.dontwait);\n",
    replace: "",
  },
  {
    name: "the reserve is duplicated instead of moved",
    file: "src/reserve.ts",
    find: "    if (fd >= 0) return this.#push(fd | IS_DUPLICATE);\n    this.#sys.close(clientFd);\n",
    replace: "    if (fd >= 0) return;\n    this.#sys.close(clientFd);\n",
  },
];
