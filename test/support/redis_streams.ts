/**
 * Streams that mostly leave the protocol of Redis. Without NUL: where a line is read, Redis takes it for the end of what
 * has arrived, and waits for ever; here it is white space.
 */
import fc from "fast-check";
import { request } from "./redis.ts";

const WHOLE = [
  "PING\r\n",
  "ping\n",
  "\r\n",
  "\n",
  "*0\r\n",
  "*-1\r\n",
  request("PING"),
  request("ECHO", "\x01\r\n\xff"),
  "ECHO a\r\n",
];
const QUOTED = [
  'ECHO "\\x41\\n\\q"\r\n',
  "ECHO 'it\\'s'\r\n",
  'ECHO "a"b\r\n',
  "ECHO 'a\r\n",
  'ECHO "a\\"\r\n',
  "'' \"\"\n",
];
const SPACED = [" \t PING \v\f\r\n", "PING\r \n", "ECHO a'b'\r\n", "ECHO a'b'c\r\n"];
const WRONG = [
  "*x\r\n",
  "*\r\n",
  "*01\r\n",
  "*9999999999\r\n",
  "*1\r\n+4\r\n",
  "*1\r\n\r\n",
  "*1\r\n$-1\r\n",
  "*1\r\n$x\r\n",
  "*1\r\n$\r\n",
];
const MORE_WRONG = [
  "*1\r\n$536870913\r\n",
  "*1\r\n$04\r\n",
  "*1\r\n$+4\r\n",
  "*-0\r\n",
  "*+1\r\n",
  "*99999999999999999999999\r\n",
  "*1\r\n\xff\r\n",
];
const ODD = [
  "*1048577\r\n",
  "*2147483647\r\n",
  "*1\r\n$4\r\nPINGxx",
  "*1\r\r$4\r\rPING\r\n",
  "*1\n$4\nPING\n",
  "*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
  "*1\r\n$0\r\n\r\n",
];

const piece = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...WHOLE) },
  { weight: 1, arbitrary: fc.constantFrom(...QUOTED, ...SPACED, ...ODD) },
  { weight: 1, arbitrary: fc.constantFrom(...WRONG, ...MORE_WRONG) },
  { weight: 1, arbitrary: fc.string({ unit: fc.constantFrom(..."*$+-:01234\r\n\"'\\ PINGx\xff"), maxLength: 12 }) },
);

/** Pieces that are written at once. */
export const someStream: fc.Arbitrary<string> = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(""));
