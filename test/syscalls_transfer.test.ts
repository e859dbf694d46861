/** The calls of ffi/syscalls.ts that move bytes over sockets, against the kernel. */
import { describe, expect, test } from "vitest";
import { MSG, O, SOCK } from "../ffi/constants.ts";
import { encodeSockaddr, IoVector, MessageHeader } from "../ffi/layout.ts";
import { eventfd, pipe2, recv, recvmsg, send, sendmsg, writev } from "../ffi/syscalls.ts";
import { closeNow, expectNoLeak, outcome, own } from "./support/descriptors.ts";
import { addressOf, bytes, ready, reset, socketPair, tcpPair, text, udpSocket } from "./support/sockets.ts";

expectNoLeak();

/** Fills the send buffer of `fd`; returns how many bytes that took. */
function fill(fd: number): number {
  const chunk = bytes(65_536);
  for (let total = 0;;) {
    const sent = send(fd, chunk, MSG.nosignal);
    if (sent < 0) {
      expect(outcome(sent)).toBe("-EAGAIN");
      return total;
    }
    total += sent;
  }
}

function messageOf(chunk: Uint8Array, nameBytes: number = 0): MessageHeader {
  const vector = new IoVector(1);
  vector.push(chunk);
  const message = new MessageHeader(vector, nameBytes);
  message.prepare();
  return message;
}

describe("recv() and send(), of a stream", () => {
  test("each moves the bytes of the buffer that it is given, whichever one came before", () => {
    const [a, b] = socketPair();
    // Small ones may lie where the garbage collector moves them, and large ones are not remembered.
    const buffers = [new Uint8Array(3), bytes(64), bytes(70_000), bytes(64).subarray(7, 20)];
    for (let round = 0; round < 250; round++) {
      const source = buffers[round % 3]!;
      const target = buffers[(round >> 1) % buffers.length]!;
      source.fill(round);
      expect(send(a, source, MSG.nosignal, 2, true)).toBe(2);
      target.fill(255);
      expect(recv(b, target, 0, true)).toBe(2);
      expect([...target.subarray(0, 3)]).toEqual([round, round, 255]);
      new Array(10_000).fill({}); // garbage
    }
  });

  test("a buffer that was used before and is detached now is refused", () => {
    const [a, b] = socketPair();
    const buffer = bytes(128);
    expect(send(a, buffer, MSG.nosignal, 128, true)).toBe(128);
    expect(recv(b, buffer, 0, true)).toBe(128);
    structuredClone(buffer.buffer, { transfer: [buffer.buffer as ArrayBuffer] });
    expect(() => send(a, buffer, MSG.nosignal, 128, true)).toThrow("detached");
    expect(() => recv(b, buffer, 0, true)).toThrow("empty buffer");
  });
});

describe("recv()", () => {
  test("recv() returns -EAGAIN on an idle socket, then 0 after the peer closes", () => {
    const [a, b] = socketPair();
    expect(outcome(recv(a, bytes(8)))).toBe("-EAGAIN");
    closeNow(b);
    expect(recv(a, bytes(8))).toBe(0);
  });

  test("recv() returns -ECONNRESET after a reset, and only once", () => {
    const [client, server] = tcpPair();
    reset(client);
    ready(server);
    expect(outcome(recv(server, bytes(8)))).toBe("-ECONNRESET");
    expect(recv(server, bytes(8))).toBe(0);
  });

  test("recv() fills in exactly the part of a buffer that a subarray covers", () => {
    const [a, b] = socketPair();
    send(a, bytes("abcdef"));
    const target = bytes("........");
    expect(recv(b, target.subarray(2, 5))).toBe(3);
    expect(text(target)).toBe("..abc...");
  });

  test("recv() with MSG_PEEK leaves the bytes where they are", () => {
    const [a, b] = socketPair();
    send(a, bytes("once"));
    expect(recv(b, bytes(8), MSG.peek)).toBe(4);
    expect(recv(b, bytes(8))).toBe(4);
    expect(outcome(recv(b, bytes(8)))).toBe("-EAGAIN");
  });

  test("recv() returns -ENOTSOCK for a descriptor that is no socket", () => {
    expect(outcome(recv(own(eventfd(0, 0)), bytes(8)))).toBe("-ENOTSOCK");
  });
});

describe("send()", () => {
  test("send() takes what fits and returns -EAGAIN once nothing does", () => {
    const [a, b] = socketPair();
    const total = fill(a);
    expect(total).toBeGreaterThan(0);
    const target = bytes(65_536);
    let received = 0;
    for (let n = recv(b, target); n > 0; n = recv(b, target)) received += n;
    expect(received).toBe(total);
  });

  test("send() sends exactly the part of a buffer that a subarray covers", () => {
    const [a, b] = socketPair();
    expect(send(a, bytes("..abc...").subarray(2, 5))).toBe(3);
    const target = bytes(8);
    expect(text(target, recv(b, target))).toBe("abc");
  });

  test("send() of nothing on a datagram socket is an empty message", () => {
    const [a, b] = socketPair(SOCK.dgram);
    expect(send(a, bytes(0))).toBe(0);
    expect(recv(b, bytes(8))).toBe(0);
    expect(outcome(recv(b, bytes(8)))).toBe("-EAGAIN");
  });

  test("send() returns -EPIPE after the peer closed", () => {
    const [a, b] = socketPair();
    closeNow(b);
    expect(outcome(send(a, bytes("lost"), MSG.nosignal))).toBe("-EPIPE");
  });
});

describe("recvmsg()", () => {
  test("recvmsg() fills the chunks of its message in order", () => {
    const [a, b] = socketPair();
    send(a, bytes("abcdef"));
    const chunks = [bytes(2), bytes(8)];
    const vector = new IoVector(2);
    for (const chunk of chunks) vector.push(chunk);
    const message = new MessageHeader(vector);
    message.prepare();
    expect(recvmsg(b, message)).toBe(6);
    expect([text(chunks[0]!), text(chunks[1]!, 4)]).toEqual(["ab", "cdef"]);
  });

  test("recvmsg() returns 0 after the peer closed", () => {
    const [a, b] = socketPair();
    closeNow(b);
    expect(recvmsg(a, messageOf(bytes(8)))).toBe(0);
  });

  test("recvmsg() returns -EAGAIN on an idle socket", () => {
    const [a] = socketPair();
    expect(outcome(recvmsg(a, messageOf(bytes(8))))).toBe("-EAGAIN");
  });

  test("recvmsg() throws RangeError for a message without chunks, whose 0 would look like end of stream", () => {
    const [a] = socketPair();
    const message = new MessageHeader(new IoVector(1));
    message.prepare();
    expect(() => recvmsg(a, message)).toThrow(RangeError);
  });
});

describe("sendmsg()", () => {
  test("sendmsg() sends its chunks as one message", () => {
    const [a, b] = socketPair(SOCK.dgram);
    const vector = new IoVector(2);
    for (const chunk of [bytes("ab"), bytes("cd")]) vector.push(chunk);
    const message = new MessageHeader(vector);
    message.prepare();
    expect(sendmsg(a, message)).toBe(4);
    const target = bytes(8);
    expect(text(target, recv(b, target))).toBe("abcd");
  });

  test("sendmsg() sends a datagram to the address of its message", () => {
    const [from, to] = [udpSocket(), udpSocket()];
    const message = messageOf(bytes("hello"), 16);
    message.name.set(encodeSockaddr(addressOf(to)));
    expect(sendmsg(from, message)).toBe(5);
    ready(to);
    expect(recv(to, bytes(8))).toBe(5);
  });

  test("sendmsg() returns -EDESTADDRREQ for a datagram to nobody", () => {
    expect(outcome(sendmsg(udpSocket(), messageOf(bytes("x"))))).toBe("-EDESTADDRREQ");
  });

  test("sendmsg() returns -EPIPE after the peer closed", () => {
    const [a, b] = socketPair();
    closeNow(b);
    expect(outcome(sendmsg(a, messageOf(bytes("lost")), MSG.nosignal))).toBe("-EPIPE");
  });
});

describe("writev()", () => {
  test("writev() writes chunks in order, across their offsets", () => {
    const [a, b] = socketPair();
    const vector = new IoVector(3);
    for (const chunk of [bytes("__ab").subarray(2), bytes("c"), bytes("def__").subarray(0, 3)]) vector.push(chunk);
    expect(writev(a, vector)).toBe(6);
    const target = bytes(16);
    expect(text(target, recv(b, target))).toBe("abcdef");
  });

  test("writev() returns -EPIPE after the reader closed, and no signal ends the process", () => {
    const pair = new Int32Array(new ArrayBuffer(8));
    expect(pipe2(pair, O.cloexec)).toBe(0);
    const [readEnd, writeEnd] = [own(pair[0]!), own(pair[1]!)];
    closeNow(readEnd);
    const vector = new IoVector(1);
    vector.push(bytes("lost"));
    expect(outcome(writev(writeEnd, vector))).toBe("-EPIPE");
  });
});
