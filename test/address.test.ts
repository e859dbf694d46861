/** src/address.ts: addresses as text and as the kernel has them. */
import { describe, expect, test } from "vitest";
import type { Inet6Fields, InetFields, SockaddrFields } from "../ffi/layout.ts";
import { type Address, decodeAddress, encodeAddress, formatAddress } from "../src/address.ts";

const tcp = (hostname: string, port = 0): Address => ({ transport: "tcp", hostname, port });
const unix = (path: string): Address => ({ transport: "unix", path });

/** Bytes of an IP address, or why there are none. */
function parsed(hostname: string): number[] | string {
  try {
    return [...(encodeAddress("listen on", tcp(hostname)) as InetFields | Inet6Fields).address];
  } catch (error) {
    return (error as Error).message;
  }
}

/** An IPv6 address by its groups. */
function groups(...numbers: number[]): number[] {
  return numbers.flatMap((number) => [number >> 8, number & 0xff]);
}

function formatted(...numbers: number[]): string {
  const fields: SockaddrFields = {
    family: "inet6",
    address: Uint8Array.from(groups(...numbers)),
    port: 0,
    scopeId: 0,
  };
  return (decodeAddress(fields) as { hostname: string }).hostname;
}

describe("encodeAddress(), IPv4", () => {
  test.each([
    ["0.0.0.0", [0, 0, 0, 0]],
    ["127.0.0.1", [127, 0, 0, 1]],
    ["255.255.255.255", [255, 255, 255, 255]],
    ["192.0.2.10", [192, 0, 2, 10]],
    ["localhost", [127, 0, 0, 1]],
  ])("encodeAddress() reads %s", (text, bytes) => {
    expect(parsed(text)).toEqual(bytes);
  });

  test.each([
    ...["", "1", "1.2.3", "1.2.3.4.5", "1.2.3.", ".1.2.3", "1..2.3", "256.0.0.1", "1.2.3.999", "01.2.3.4", "1.2.3.04"],
    ...[
      "0x7f.0.0.1",
      "0177.0.0.1",
      "2130706433",
      "1.2.3.-4",
      "+1.2.3.4",
      "1.2.3.4 ",
      " 1.2.3.4",
      "1.2.3.4\n",
      "1e1.2.3.4",
    ],
    ...["１.2.3.4", "example.com", "LOCALHOST", "localhost.", "*", "127.0.0.1:80", "127.0.0.1/8", "1.2.3.4%1"],
  ])("encodeAddress() throws TypeError for %j", (text) => {
    expect(() => encodeAddress("listen on", tcp(text))).toThrow(
      new TypeError(`Cannot listen on ${JSON.stringify(text)}: it must be an IPv4 or IPv6 address`),
    );
  });

  test("encodeAddress() throws TypeError for a host that is no text", () => {
    for (const hostname of [undefined, null, 127, {}, ["127.0.0.1"]]) {
      expect(() => encodeAddress("connect to", tcp(hostname as string))).toThrow(TypeError);
    }
  });
});

describe("encodeAddress(), IPv6", () => {
  test.each([
    ["::", groups(0, 0, 0, 0, 0, 0, 0, 0)],
    ["::1", groups(0, 0, 0, 0, 0, 0, 0, 1)],
    ["1::", groups(1, 0, 0, 0, 0, 0, 0, 0)],
    ["1:2:3:4:5:6:7:8", groups(1, 2, 3, 4, 5, 6, 7, 8)],
    ["2001:db8::ff00:42:8329", groups(0x2001, 0xdb8, 0, 0, 0, 0xff00, 0x42, 0x8329)],
    ["2001:0DB8:0000:0000:0000:FF00:0042:8329", groups(0x2001, 0xdb8, 0, 0, 0, 0xff00, 0x42, 0x8329)],
    ["1:2:3:4:5:6:7::", groups(1, 2, 3, 4, 5, 6, 7, 0)],
    ["::2:3:4:5:6:7:8", groups(0, 2, 3, 4, 5, 6, 7, 8)],
    ["1:2:3::5:6:7:8", groups(1, 2, 3, 0, 5, 6, 7, 8)],
    ["::ffff:192.0.2.1", groups(0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201)],
    ["64:ff9b::192.0.2.33", groups(0x64, 0xff9b, 0, 0, 0, 0, 0xc000, 0x0221)],
    ["1:2:3:4:5:6:1.2.3.4", groups(1, 2, 3, 4, 5, 6, 0x0102, 0x0304)],
    ["1::1.2.3.4", groups(1, 0, 0, 0, 0, 0, 0x0102, 0x0304)],
  ])("encodeAddress() reads %s", (text, bytes) => {
    expect(parsed(text)).toEqual(bytes);
  });

  test.each([
    ...[":", ":::", "::::", "1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8"],
    ...["1:2:3:4::5:6:7:8", "1::2::3", ":1:2:3:4:5:6:7", "1:2:3:4:5:6:7:", ":1::", "1:::2", "12345::", "::g", "::-1"],
    ...["1.2.3.4::", "1.2.3.4::1", "::1.2.3.4:5", "1:2:3:4:5:6:7:1.2.3.4", "::1.2.3", "::256.1.1.1", "::01.2.3.4"],
    ...["[::1]", "::1 ", " ::1", "::1\n", "::1/128", "[::1]:80", "::0x1"],
    ...["fe80::1%", "fe80::1%eth0", "fe80::1%-1", "fe80::1%1%2", "fe80::1%1.5", "%1", "fe80::1%0x1"],
  ])("encodeAddress() throws TypeError for %j", (text) => {
    expect(() => encodeAddress("listen on", tcp(text))).toThrow(
      new TypeError(`Cannot listen on ${JSON.stringify(text)}: it must be an IPv4 or IPv6 address`),
    );
  });

  test("encodeAddress() reads a numeric zone: RFC 4007, section 11", () => {
    expect(encodeAddress("listen on", tcp("fe80::1%2", 80))).toEqual({
      family: "inet6",
      address: Uint8Array.from(groups(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
      port: 80,
      scopeId: 2,
    });
    expect(encodeAddress("listen on", tcp("fe80::1"))).toMatchObject({ scopeId: 0 });
  });
});

describe("encodeAddress(), ports", () => {
  test("encodeAddress() takes 0 to 65535", () => {
    for (const port of [0, 1, 65_535]) expect(encodeAddress("listen on", tcp("::1", port))).toMatchObject({ port });
  });

  test("encodeAddress() throws RangeError for any other port", () => {
    for (const port of [-1, 65_536, 70_000, 1.5, NaN, Infinity]) {
      expect(() => encodeAddress("listen on", tcp("127.0.0.1", port))).toThrow(
        new RangeError(`Cannot listen on port ${port}: it must be 0 to 65535`),
      );
    }
  });

  // It was said to be out of range: "Cannot listen on port 8080: it must be 0 to 65535".
  test("encodeAddress() throws TypeError for a port that is no number, such as one of the environment", () => {
    for (const [port, text] of [["8080", '"8080"'], ["", '""'], [null, "null"], [80n, "80"]]) {
      expect(() => encodeAddress("listen on", tcp("127.0.0.1", port as unknown as number))).toThrow(
        new TypeError(`Cannot listen on port ${text}: it must be a number`),
      );
    }
  });
});

describe("encodeAddress(), Unix", () => {
  const encoded = (path: string) => [...(encodeAddress("listen on", unix(path)) as { path: Uint8Array }).path];
  const ascii = (text: string) => [...text].map((character) => character.charCodeAt(0));

  test("encodeAddress() reads a path, as UTF-8", () => {
    expect(encoded("/run/x.sock")).toEqual(ascii("/run/x.sock"));
    expect(encoded("relative.sock")).toEqual(ascii("relative.sock"));
    expect(encoded("/é")).toEqual([0x2f, 0xc3, 0xa9]);
  });

  test("encodeAddress() reads an abstract name, in which NUL is a character like any other", () => {
    expect(encoded("\0name")).toEqual(ascii("\0name"));
    expect(encoded("\0a\0b")).toEqual(ascii("\0a\0b"));
  });

  test("encodeAddress() throws TypeError for what is no path", () => {
    for (const path of ["", "/run/x\0.sock", undefined, null, 5]) {
      expect(() => encodeAddress("listen on", unix(path as string))).toThrow(TypeError);
    }
    expect(() => encodeAddress("listen on", unix("a\0b"))).toThrow(
      'Cannot listen on path "a\\u0000b": it must be a path, neither empty nor with a NUL in it',
    );
  });

  test("encodeAddress() throws RangeError for a path of more than 107 bytes", () => {
    expect(encoded("/".padEnd(107, "x"))).toHaveLength(107);
    expect(() => encoded("/".padEnd(108, "x"))).toThrow(
      new RangeError("Cannot listen on a path of 108 bytes: at most 107 fit"),
    );
    expect(() => encoded("/" + "é".repeat(54))).toThrow("a path of 109 bytes");
  });
});

describe("decodeAddress(), IPv6: RFC 5952", () => {
  test.each([
    ["4.1: no leading zeros", formatted(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6), "2001:db8:1:2:3:4:5:6"],
    ["4.2.1: :: is used to its maximum", formatted(0x2001, 0xdb8, 0, 0, 0, 0, 2, 1), "2001:db8::2:1"],
    ["4.2.2: one group of zeros is written out", formatted(0x2001, 0xdb8, 0, 1, 1, 1, 1, 1), "2001:db8:0:1:1:1:1:1"],
    ["4.2.3: the longest run is shortened", formatted(0x2001, 0, 0, 1, 0, 0, 0, 1), "2001:0:0:1::1"],
    ["4.2.3: of two equal runs the first", formatted(0x2001, 0xdb8, 0, 0, 1, 0, 0, 1), "2001:db8::1:0:0:1"],
    ["4.3: lower case", formatted(0xabcd, 0xef, 1, 1, 1, 1, 1, 1), "abcd:ef:1:1:1:1:1:1"],
    ["5: an address mapped from IPv4", formatted(0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201), "::ffff:192.0.2.1"],
    ["the unspecified address", formatted(0, 0, 0, 0, 0, 0, 0, 0), "::"],
    ["loopback", formatted(0, 0, 0, 0, 0, 0, 0, 1), "::1"],
    ["a run at the end", formatted(1, 2, 3, 4, 5, 6, 0, 0), "1:2:3:4:5:6::"],
    ["a run at the beginning", formatted(0, 0, 3, 4, 5, 6, 7, 8), "::3:4:5:6:7:8"],
  ])("decodeAddress() writes, %s", (_, text, expected) => {
    expect(text).toBe(expected);
    expect(formatted(...groupsOf(parsed(text) as number[]))).toBe(expected);
  });

  function groupsOf(bytes: number[]): number[] {
    return Array.from({ length: 8 }, (_, i) => (bytes[2 * i]! << 8) | bytes[2 * i + 1]!);
  }

  test("decodeAddress() reads back what encodeAddress() wrote", () => {
    const addresses = [
      tcp("127.0.0.1", 7007),
      tcp("::1", 65_535),
      tcp("fe80::1%2", 1),
      unix("/run/x.sock"),
      unix("\0é"),
    ];
    for (const address of addresses) expect(decodeAddress(encodeAddress("listen on", address))).toEqual(address);
  });

  test("decodeAddress() gives an unnamed Unix peer an empty path", () => {
    expect(decodeAddress({ family: "unix", path: new Uint8Array() })).toEqual(unix(""));
  });
});

describe("formatAddress()", () => {
  test.each([
    [tcp("127.0.0.1", 7007), "tcp://127.0.0.1:7007"],
    [tcp("::1", 7007), "tcp://[::1]:7007"],
    [tcp("fe80::1%2", 80), "tcp://[fe80::1%2]:80"],
    [unix("/run/x.sock"), "unix:///run/x.sock"],
    [unix("\0name"), "unix://@name"],
    [unix(""), "unix://"],
  ])("formatAddress() of %j is %s", (address, text) => {
    expect(formatAddress(address)).toBe(text);
  });
});
