/** Milliseconds that importing the module takes whose URL is the first argument: in this process, which is new. */
import process from "node:process";

const startedAt = performance.now();
await import(process.argv[2]!);
console.log(performance.now() - startedAt);
