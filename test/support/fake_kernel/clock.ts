/** A clock that moves when somebody waits, and what is to happen at which time. */
export class FakeClock {
  #now = 0;
  #sequence = 0;
  readonly #tasks: { readonly at: number; readonly sequence: number; readonly task: () => void }[] = [];

  /** Milliseconds. */
  get now(): number {
    return this.#now;
  }

  /** Has `task` run when somebody waits past `ms` from now. */
  after(ms: number, task: () => void): void {
    this.#tasks.push({ at: this.#now + ms, sequence: this.#sequence++, task });
    this.#tasks.sort((a, b) => a.at - b.at || a.sequence - b.sequence);
  }

  /** Whether nothing is to happen any more. */
  get isIdle(): boolean {
    return this.#tasks.length === 0;
  }

  /** Moves on to the next task that is due by `deadline` and runs it; without one, to the deadline. Returns which. */
  step(deadline: number): boolean {
    const next = this.#tasks[0];
    if (next === undefined || next.at > deadline) {
      if (deadline === Infinity) throw new Error("Cannot wait for ever: nothing is going to happen");
      this.#now = Math.max(this.#now, deadline);
      return false;
    }
    this.#tasks.shift();
    this.#now = Math.max(this.#now, next.at);
    next.task();
    return true;
  }

  /** Lets `ms` pass. */
  advance(ms: number): void {
    const deadline = this.#now + ms;
    while (this.step(deadline));
  }
}
