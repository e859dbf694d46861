/** The kernel's calls, counted for each connection under test, and cut short where its program says so. */
import { MSG, SHUT, SO, SOL } from "../../ffi/constants.ts";
import { ERRNO } from "../../ffi/errno.ts";
import type { MessageHeader } from "../../ffi/layout.ts";
import { realSyscalls, type Syscalls } from "../../ffi/syscalls.ts";

/** What becomes of one call of send, sendmsg or recv: at most so many bytes, or a refusal. */
export type Cut = number | "whole" | "EINTR" | "EAGAIN" | "ENOBUFS";

/** A descriptor that is watched. */
export interface WatchedCalls {
  /** What becomes of the next call. */
  nextCut(call: "send" | "recv"): Cut;
  /** A send was tried; `result` is what the kernel took, or `-errno`. */
  onSend(result: number): void;
  /** The kernel gave `bytes`. */
  onReceive(bytes: number): void;
  /** The stream was ended. */
  onShutdown(): void;
  /** Closing is to be a reset. */
  onLinger(): void;
  /** Called before the descriptor is closed. */
  onRelease(): void;
}

/** The real calls, told to and cut short for the descriptors that `watched` knows. */
export function watchedCalls(watched: (fd: number) => WatchedCalls | undefined): Syscalls {
  const real = realSyscalls;
  return {
    ...real,
    send(fd, source, flags, length = source.byteLength) {
      const end = watched(fd);
      const cut = end?.nextCut("send") ?? "whole";
      if (isRefusal(cut)) return -ERRNO[cut][0];
      const sent = real.send(fd, source.subarray(0, cut === "whole" ? length : Math.min(cut, length)), flags);
      end?.onSend(sent);
      return sent;
    },
    sendmsg(fd, message, flags) {
      const end = watched(fd);
      const cut = end?.nextCut("send") ?? "whole";
      if (isRefusal(cut)) return -ERRNO[cut][0];
      const sent = cut === "whole"
        ? real.sendmsg(fd, message, flags)
        : withFirst(cut, message, () => real.sendmsg(fd, message, flags));
      end?.onSend(sent);
      return sent;
    },
    recv(fd, target, flags = 0) {
      const end = watched(fd);
      const cut = end?.nextCut("recv") ?? "whole";
      if (isRefusal(cut)) return -ERRNO[cut][0];
      const received = real.recv(fd, cut === "whole" ? target : target.subarray(0, cut), flags);
      if ((flags & MSG.peek) === 0) end?.onReceive(Math.max(0, received));
      return received;
    },
    shutdown(fd, how) {
      if (how !== SHUT.rd) watched(fd)?.onShutdown();
      return real.shutdown(fd, how);
    },
    setsockopt(fd, level, name, value) {
      if (level === SOL.socket && name === SO.linger) watched(fd)?.onLinger();
      return real.setsockopt(fd, level, name, value);
    },
    close(fd) {
      watched(fd)?.onRelease();
      return real.close(fd);
    },
  };
}

function isRefusal(cut: Cut): cut is "EINTR" | "EAGAIN" | "ENOBUFS" {
  return typeof cut === "string" && cut !== "whole";
}

/** Calls `send` while `message` is but its first `count` bytes. The struct is as it was after it: sendmsg(2). */
function withFirst(count: number, message: MessageHeader, send: () => number): number {
  const header = new DataView(message.bytes.buffer);
  const vector = new DataView(message.vector.bytes.buffer);
  const entries = header.getBigUint64(24, true);
  let left = count;
  for (let i = 0; i < Number(entries); i++) {
    const length = vector.getBigUint64(16 * i + 8, true);
    if (left > Number(length)) {
      left -= Number(length);
      continue;
    }
    vector.setBigUint64(16 * i + 8, BigInt(left), true);
    header.setBigUint64(24, BigInt(i + 1), true);
    const sent = send();
    header.setBigUint64(24, entries, true);
    vector.setBigUint64(16 * i + 8, length, true);
    return sent;
  }
  return send();
}
