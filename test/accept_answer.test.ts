/** src/accept_answer.ts: what each errno of accept4(2) means. */
import { describe, expect, test } from "vitest";
import { ERRNO, type ErrnoName } from "../ffi/errno.ts";
import { type AcceptAnswer, answerOf } from "../src/accept_answer.ts";

const EXPECTED: Readonly<Partial<Record<ErrnoName, AcceptAnswer>>> = {
  EAGAIN: "empty",
  EMFILE: "table full",
  ENFILE: "table full",
  ENOBUFS: "no memory",
  ENOMEM: "no memory",
  EBADF: "not a listener",
  EINVAL: "not a listener",
  ENOTSOCK: "not a listener",
  EOPNOTSUPP: "not a listener",
  EFAULT: "not a listener",
  EINTR: "peer gone",
  ECONNABORTED: "peer gone",
  EPROTO: "peer gone",
  ENOPROTOOPT: "peer gone",
  ENETDOWN: "peer gone",
  EHOSTDOWN: "peer gone",
  ENONET: "peer gone",
  EHOSTUNREACH: "peer gone",
  ENETUNREACH: "peer gone",
  ETIMEDOUT: "peer gone",
  ECONNRESET: "peer gone",
  EPERM: "peer gone",
};

describe("answerOf()", () => {
  for (const [name, answer] of Object.entries(EXPECTED)) {
    test(`answerOf() takes ${name} for "${answer}"`, () => {
      expect(answerOf(ERRNO[name as ErrnoName][0])).toBe(answer);
    });
  }

  test('answerOf() takes every other errno for "peer gone": the next call tells', () => {
    const others = Object.entries(ERRNO).filter(([name]) => !(name in EXPECTED));
    expect(others.length).toBeGreaterThan(100);
    for (const [name, [errno]] of others) expect(answerOf(errno), name).toBe("peer gone");
    for (const errno of [0, 200, 4095, -11]) expect(answerOf(errno), String(errno)).toBe("peer gone");
  });
});
