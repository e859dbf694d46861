import { Buffer } from "node:buffer";
import type { Connection } from "../../mod.ts";
import type { Client } from "./client.ts";
import { bytesOf, putText } from "./text.ts";

/** Replies that are gathered before they are written. */
const GATHERED_BYTES = 16 * 1024;
/** Room for the longest header, and for the end of a line. */
const HEADER_BYTES = 32;
/** From here on a string does not pass through the shared buffer: the kernel takes it from where it was encoded. */
const LARGE_LENGTH = 64 * 1024;

const [CR, LF, ZERO] = [13, 10, 48];

/** The versions of the protocol. 3 has maps, sets and messages out of turn; 2 says arrays for them. */
export type Protocol = 2 | 3;

/**
 * Writes replies. All clients share one: what the requests of one chunk are answered is gathered in one place, and is
 * one `write`.
 */
export class Replies {
  #connection!: Connection<Client>;
  #protocol: Protocol = 2;
  #buffer = Buffer.alloc(2 * GATHERED_BYTES);
  #length = 0;
  #hasRoom = true;

  /** Replies are for this client from now on. */
  begin({ connection, protocol }: Client): void {
    this.#connection = connection;
    this.#protocol = protocol;
    this.#hasRoom = true;
  }

  /** The version that the client has chosen; it may do so at any time. */
  set protocol(protocol: Protocol) {
    this.#protocol = protocol;
  }

  /** Whether the client takes more now. */
  get hasRoom(): boolean {
    return this.#hasRoom;
  }

  /** Writes what is gathered. */
  flush(): void {
    if (this.#length === 0) return;
    // Not `subarray`, which of a Buffer makes another Buffer, and takes longer.
    this.#hasRoom = this.#connection.write(new Uint8Array(this.#buffer.buffer, this.#buffer.byteOffset, this.#length));
    this.#length = 0;
  }

  /** A line: `OK`, `PONG`, the name of a type. */
  simple(text: string): void {
    this.#makeRoom(text.length);
    this.#buffer[this.#length++] = 43; // "+"
    this.#line(text);
  }

  /** `message` begins with its kind: `ERR …`, `WRONGTYPE …`. What would end the line early becomes a space. */
  error(message: string): void {
    const line = message.replace(/[\r\n]+$/, "").replaceAll(/[\r\n]/g, " ");
    this.#makeRoom(line.length);
    this.#buffer[this.#length++] = 45; // "-"
    this.#line(line);
  }

  /** A whole number. */
  integer(value: number | bigint): void {
    this.number(String(value));
  }

  /** A whole number, in digits. */
  number(digits: string): void {
    this.#makeRoom(0);
    this.#buffer[this.#length++] = 58; // ":"
    this.#line(digits);
  }

  /** A string; nothing for `undefined`. */
  bulk(text: string | undefined): void {
    if (text === undefined) return this.null();
    const { length } = text;
    this.#header(36, length); // "$"
    if (length >= LARGE_LENGTH) {
      this.flush();
      this.#hasRoom = this.#connection.write(bytesOf(text));
    } else {
      this.#makeRoom(length);
      this.#length = putText(text, this.#buffer, this.#length);
    }
    this.#endLine();
  }

  /** Nothing, where a string would be. */
  null(): void {
    this.#makeRoom(0);
    if (this.#protocol === 3) this.#line("_");
    else this.#line("$-1");
  }

  /** Nothing, where an array would be. */
  nullArray(): void {
    this.#makeRoom(0);
    if (this.#protocol === 3) this.#line("_");
    else this.#line("*-1");
  }

  /** Text for people. */
  verbatim(text: string): void {
    if (this.#protocol === 2) return this.bulk(text);
    this.#header(61, text.length + 4); // "="
    this.#makeRoom(text.length);
    this.#line(`txt:${text}`);
  }

  /** The beginning of an array; `length` replies follow. */
  array(length: number): void {
    this.#header(42, length); // "*"
  }

  /** The beginning of a map; `size` pairs of replies follow. */
  map(size: number): void {
    if (this.#protocol === 3) this.#header(37, size); // "%"
    else this.#header(42, 2 * size);
  }

  /** The beginning of a set; `size` replies follow. */
  set(size: number): void {
    this.#header(this.#protocol === 3 ? 126 : 42, size); // "~"
  }

  /** The beginning of a message that is not the reply to a request; `length` replies follow. */
  push(length: number): void {
    this.#header(this.#protocol === 3 ? 62 : 42, length); // ">"
  }

  #header(type: number, value: number): void {
    this.#makeRoom(0);
    this.#buffer[this.#length++] = type;
    if (value >= 0 && value < 10) {
      this.#buffer[this.#length++] = ZERO + value;
      this.#endLine();
    } else {
      this.#line(String(value));
    }
  }

  #line(text: string): void {
    this.#length = putText(text, this.#buffer, this.#length);
    this.#endLine();
  }

  #endLine(): void {
    this.#buffer[this.#length++] = CR;
    this.#buffer[this.#length++] = LF;
  }

  /** For a text of that length, and what comes before and after it. */
  #makeRoom(length: number): void {
    if (this.#length + length + HEADER_BYTES <= this.#buffer.byteLength) return;
    this.flush();
    if (length + HEADER_BYTES > this.#buffer.byteLength) this.#buffer = Buffer.alloc(length + HEADER_BYTES);
  }
}
