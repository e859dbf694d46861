/** Garbage collection, asked for or provoked. */

/** Returns once `isDone`, collecting meanwhile; fails where that takes too long. */
export async function collectGarbage(isDone: () => boolean): Promise<void> {
  // deno-lint-ignore no-explicit-any
  const { Bun, gc } = globalThis as any;
  const deadline = performance.now() + 30_000;
  while (!isDone()) {
    if (performance.now() > deadline) throw new Error("Waited too long for the garbage collector");
    if (Bun !== undefined) Bun.gc(true);
    else if (gc !== undefined) gc();
    // Without a way to ask, the young generation is collected once enough is made, and the old one after many of those.
    else for (let i = 0; i < 200; i++) waste = new Array(10_000).fill({});
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Kept, so that it is really made. */
export let waste: unknown;
