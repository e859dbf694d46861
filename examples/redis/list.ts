const ROOM = 16;

/** Strings in order, with two ends that cost the same: a ring that doubles when it is full. */
export class List {
  #items: string[] = new Array<string>(ROOM).fill("");
  #first = 0;
  #size = 0;

  /** How many there are. */
  get size(): number {
    return this.#size;
  }

  /** The item at `index`, from 0 to `size` − 1. */
  at(index: number): string {
    return this.#items[this.#slot(index)]!;
  }

  /** Adds one before all others. */
  unshift(item: string): void {
    if (this.#size === this.#items.length) this.#grow();
    this.#first = this.#slot(this.#items.length - 1);
    this.#items[this.#first] = item;
    this.#size++;
  }

  /** Adds one after all others. */
  push(item: string): void {
    if (this.#size === this.#items.length) this.#grow();
    this.#items[this.#slot(this.#size++)] = item;
  }

  /** Takes the first one of a list that has some. */
  shift(): string {
    const item = this.#take(this.#first);
    this.#first = this.#slot(1);
    this.#size--;
    return item;
  }

  /** Takes the last one of a list that has some. */
  pop(): string {
    return this.#take(this.#slot(--this.#size));
  }

  #slot(index: number): number {
    return (this.#first + index) & (this.#items.length - 1);
  }

  #take(slot: number): string {
    const item = this.#items[slot]!;
    this.#items[slot] = ""; // nobody else keeps it alive
    return item;
  }

  #grow(): void {
    const { length } = this.#items;
    const items = new Array<string>(2 * length).fill("");
    for (let i = 0; i < length; i++) items[i] = this.at(i);
    this.#items = items;
    this.#first = 0;
  }
}
