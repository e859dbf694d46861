/** A place in an {@linkcode IdleList}. */
export interface IdleNode {
  /** The one that has been idle for longer. Written by the list only. */
  olderIdle: IdleNode | undefined;
  /** The one that was busy more lately. Written by the list only. */
  newerIdle: IdleNode | undefined;
  /** When it was busy last, in ms. Written by the list only. */
  busyAtMs: number;
}

/** Nodes in the order in which they were busy last; every operation is O(1). */
export class IdleList<T extends IdleNode> {
  #oldest: T | undefined;
  #newest: T | undefined;

  /** The node that has been idle for longest. */
  get oldest(): T | undefined {
    return this.#oldest;
  }

  /** Adds `node`, or moves it to the end: it is busy now. */
  touch(node: T, nowMs: number): void {
    node.busyAtMs = nowMs;
    if (this.#newest === node) return;
    this.remove(node);
    node.olderIdle = this.#newest;
    if (this.#newest !== undefined) this.#newest.newerIdle = node;
    else this.#oldest = node;
    this.#newest = node;
  }

  /** Takes `node` out, if it is in. */
  remove(node: T): void {
    const { olderIdle, newerIdle } = node;
    if (olderIdle !== undefined) olderIdle.newerIdle = newerIdle;
    else if (this.#oldest === node) this.#oldest = newerIdle as T | undefined;
    if (newerIdle !== undefined) newerIdle.olderIdle = olderIdle;
    else if (this.#newest === node) this.#newest = olderIdle as T | undefined;
    node.olderIdle = node.newerIdle = undefined;
  }
}
