/** Bugs, as calls that go wrong or edits of the sources: each must make the random programs fail. */
import { EPOLL, EPOLL_CTL } from "../../ffi/constants.ts";
import { ERRNO } from "../../ffi/errno.ts";
import { epollEventLayout } from "../../ffi/layout.ts";
import type { Sabotage } from "./connection_world.ts";
import type { Edit } from "./copies.ts";

/** Limits so small that the random programs meet them all the time. */
export const SMALL_LIMITS: readonly Edit[] = Object.entries({
  RECEIVE_BUFFER_BYTES: 1024,
  READ_BUDGET_BYTES: 4 * 1024,
  WRITE_BUDGET_BYTES: 3 * 1024,
  QUEUE_BLOCK_BYTES: 512,
  DIRECT_WRITE_BYTES: 256,
  ALONE_BYTES: 384,
  GATHER_MAX_BYTES: 2 * 1024,
  VECTOR_PIECES: 3,
  FREE_BLOCKS_MAX: 2,
  FREE_PIECES_MAX: 2,
}).map(([name, bytes]) => ({
  file: "src/limits.ts",
  find: new RegExp(`(?<= ${name}: number = )[^;]+`),
  replace: String(bytes),
}));

/** One of them: an edit, or a sabotage. */
export interface ConnectionBug {
  /** What goes wrong. */
  readonly name: string;
  readonly edit?: Edit;
  readonly sabotage?: Sabotage;
}

const { events } = epollEventLayout();

/** Has `report` tell what the kernel took of what it was offered. */
function sends(report: (sent: number, offered: number) => number): Sabotage {
  return {
    sys: ({ send, sendmsg }) => ({
      send(fd, source, flags, length = source.byteLength) {
        return report(send(fd, source, flags, length), length);
      },
      sendmsg(fd, message, flags) {
        const { bytes, count } = message.vector;
        const vector = new DataView(bytes.buffer);
        let offered = 0;
        for (let i = 0; i < count; i++) offered += Number(vector.getBigUint64(16 * i + 8, true));
        return report(sendmsg(fd, message, flags), offered);
      },
    }),
  };
}

export const CONNECTION_BUGS: readonly ConnectionBug[] = [
  {
    name: "a short send reports one byte too many",
    sabotage: sends((sent, offered) => sent > 0 && sent < offered ? sent + 1 : sent),
  },
  {
    name: "a short send reports one byte too few",
    sabotage: sends((sent, offered) => sent > 1 && sent < offered ? sent - 1 : sent),
  },
  {
    name: "the rest of a short send is dropped",
    sabotage: sends((sent, offered) => sent > 0 ? offered : sent),
  },
  {
    name: "a kernel that is full is taken for a failure",
    sabotage: sends((sent) => sent === -ERRNO.EAGAIN[0] ? -ERRNO.EPIPE[0] : sent),
  },
  {
    name: "the last byte of a read is lost",
    sabotage: {
      sys: ({ recv }) => ({
        recv(fd, target, flags) {
          const received = recv(fd, target, flags);
          return received > 1 ? received - 1 : received;
        },
      }),
    },
  },
  {
    name: "a reset is taken for the end of the stream",
    sabotage: {
      sys: ({ recv }) => ({
        recv(fd, target, flags) {
          const received = recv(fd, target, flags);
          return received === -ERRNO.ECONNRESET[0] ? 0 : received;
        },
      }),
    },
  },
  {
    name: "room to send is not waited for",
    sabotage: {
      sys: ({ epollCtl }) => ({
        epollCtl(epollFd, operation, fd, event) {
          if (event !== null) event[events]! &= ~EPOLL.out;
          return epollCtl(epollFd, operation, fd, event);
        },
      }),
    },
  },
  {
    name: "reading goes on to be waited for where nobody reads",
    sabotage: {
      sys: ({ epollCtl }) => ({
        epollCtl(epollFd, operation, fd, event) {
          if (event !== null && operation === EPOLL_CTL.mod) event[events]! |= EPOLL.in;
          return epollCtl(epollFd, operation, fd, event);
        },
      }),
    },
  },
  {
    name: "the last event of some batches is lost",
    sabotage: {
      sys: ({ epollWait }) => {
        let batches = 0;
        return {
          epollWait(...args) {
            const count = epollWait(...args);
            return count > 0 && ++batches % 3 === 0 ? count - 1 : count;
          },
        };
      },
    },
  },
  {
    name: "work that is left for the next turn is forgotten",
    sabotage: { loop: (loop) => loop.post = () => {} },
  },
  {
    name: "the end of our stream is not told",
    sabotage: { sys: () => ({ shutdown: () => 0 }) },
  },
  {
    name: "a descriptor is not closed",
    sabotage: {
      sys: ({ close }) => {
        let closes = 0;
        return { close: (fd) => ++closes === 1 ? 0 : close(fd) };
      },
    },
  },
  {
    name: "open is told twice",
    sabotage: {
      handlers: ({ open }) => ({
        open(connection) {
          void open(connection);
          return open(connection);
        },
      }),
    },
  },
  {
    name: "end is told twice",
    sabotage: {
      handlers: ({ end }) => ({
        end(connection) {
          void end(connection);
          return end(connection);
        },
      }),
    },
  },
  {
    name: "end is never told",
    sabotage: { handlers: () => ({ end: undefined }) },
  },
  {
    name: "close is told twice",
    sabotage: {
      handlers: ({ close }) => ({
        close(connection, ...rest) {
          void close(connection, ...rest);
          return close(connection, ...rest);
        },
      }),
    },
  },
  {
    name: "close is never told",
    sabotage: { handlers: () => ({ close: undefined }) },
  },
  {
    name: "close is told without its error",
    sabotage: {
      handlers: ({ close }) => ({ close: (connection, _, ...rest) => close(connection, undefined, ...rest) }),
    },
  },
  {
    name: "drain is never told",
    sabotage: { handlers: () => ({ drain: undefined }) },
  },
  {
    name: "what data throws is swallowed",
    sabotage: {
      handlers: ({ data }) => ({
        data(connection, bytes) {
          try {
            return data(connection, bytes);
          } catch {
            return undefined;
          }
        },
      }),
    },
  },
  {
    name: "write says that there is room where there is none",
    sabotage: {
      connection(connection) {
        const { write } = connection;
        connection.write = (chunk) => write.call(connection, chunk) || connection.state === "open";
      },
    },
  },
  {
    name: "what is written to a queue overtakes itself",
    sabotage: {
      connection(connection) {
        const { write } = connection;
        connection.write = (chunk) => {
          const half = chunk instanceof Uint8Array && connection.queuedBytes > 0 ? chunk.byteLength >> 1 : 0;
          if (!(chunk instanceof Uint8Array) || half === 0) return write.call(connection, chunk);
          write.call(connection, chunk.subarray(half));
          return write.call(connection, chunk.subarray(0, half));
        };
      },
    },
  },
  {
    name: "finish drops what is queued",
    sabotage: { connection: (connection) => connection.finish = () => connection.close() },
  },
  {
    name: "end drops what is queued",
    sabotage: {
      connection(connection) {
        const { end } = connection;
        connection.end = (chunk) => {
          if (connection.queuedBytes > 0) connection.close();
          else end.call(connection, chunk);
        };
      },
    },
  },
  {
    name: "a second resume is ignored",
    sabotage: {
      connection(connection) {
        const { resume } = connection;
        let resumes = 0;
        connection.resume = () => ++resumes === 2 ? undefined : resume.call(connection);
      },
    },
  },
  {
    name: "what is queued last is sent first",
    edit: {
      file: "src/write_queue.ts",
      find: "else this.#tail.next = piece;\n    this.#tail = piece;",
      replace: "else {\n piece.next = this.#head;\n this.#head = piece;\n return;\n }\n    this.#tail = piece;",
    },
  },
  {
    name: "a large chunk that is queued is not copied",
    edit: { file: "src/write_queue.ts", find: "takePiece(copy, 0)", replace: "takePiece(bytes, at)" },
  },
  {
    name: "what is left after the budget is not sent in the next turn",
    edit: {
      file: "src/connection.ts",
      find: "this.#flushLater(); // the budget is spent",
      replace: "return; // the budget is spent",
    },
  },
  {
    name: "what was held by a cork is not sent",
    edit: {
      file: "src/connection.ts",
      find: "    this.#outbox?.uncork();\n    this.#flushLater();\n",
      replace: "    this.#outbox?.uncork();\n",
    },
  },
  {
    name: "a direct write overtakes what is queued",
    edit: {
      file: "src/outbox.ts",
      find: "else if (this.#queue.queuedBytes === 0) this.#offerAlone(bytes, areShared);",
      replace: "else if (this.#queue.queuedBytes >= 0) this.#offerAlone(bytes, areShared);",
    },
  },
  {
    name: "what is gathered overtakes what is queued",
    edit: {
      file: "src/connection.ts",
      find: 'if (this.#flags & BUSY && this.#outbox === undefined && this.#state === "open"',
      replace: 'if (this.#flags & BUSY && !this.#outbox?.isHeld && this.#state === "open"',
    },
  },
  {
    name: "what the kernel does not take of the gathered bytes is lost",
    edit: {
      file: "src/outbox.ts",
      find: "as in `offer`\n    this.#queue.consume(sent);",
      replace: "as in `offer`\n    this.#queue.consume(this.#queue.queuedBytes);",
    },
  },
  {
    name: "gathered bytes are not counted as queued",
    edit: {
      file: "src/connection.ts",
      find: "const gatheredBytes = this.#flags & GATHERED ? this.#loop.sender.scratch.byteLength : 0;",
      replace: "const gatheredBytes = 0;",
    },
  },
  {
    name: "a kernel that was full stays full",
    edit: { file: "src/connection.ts", find: "      this.#outbox.unblock();\n", replace: "" },
  },
  {
    name: "a kernel that lacked memory is not asked again",
    edit: { file: "src/connection.ts", find: "      this.#outbox?.unblock();\n", replace: "" },
  },
  {
    name: "reading goes on within its budget after pause",
    edit: {
      file: "src/connection.ts",
      find: "if (this.#isReading()) return this.#extras?.unread === undefined;",
      replace: 'if (this.#state === "open") return this.#extras?.unread === undefined;',
    },
  },
  {
    name: "an edge that came while reading was paused is forgotten",
    edit: {
      file: "src/connection.ts",
      find: "else if (this.#settings.triggerBits !== 0) this.#postRead(); // an edge",
      replace: "// an edge",
    },
  },
  {
    name: "bytes that are given back push earlier ones out",
    edit: {
      file: "src/connection.ts",
      find: "if (before !== undefined) all.set(before, bytes.byteLength);",
      replace: "",
    },
  },
  {
    name: "what the peer sent before our stream failed is lost",
    edit: {
      file: "src/connection.ts",
      find: "if (this.#flags & (PAUSED | READ_ENDED) || this.#extras?.finish !== undefined) return this.#release",
      replace: "return this.#release",
    },
  },
  {
    name: "an end that comes with the last bytes is not read",
    edit: {
      file: "src/connection.ts",
      find: "if (isShort && !isMore && !this.#hasBarriers()) return;",
      replace: "if (isShort) return;",
    },
  },
];
