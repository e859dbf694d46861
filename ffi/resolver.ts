import { UnavailableError } from "./backend.ts";

/** The part of `node:dns` that is used here; all three runtimes have it. Reads /etc/hosts, off the thread: getaddrinfo(3). */
export interface Dns {
  lookup(
    hostname: string,
    options: { all: true; order: "verbatim" },
    callback: (error: LookupError | null, addresses: readonly { address: string }[]) => void,
  ): void;
}

/** What `node:dns` fails with. */
export type LookupError = Error & { code?: string };

const MEANING: Readonly<Record<string, string>> = {
  ENOTFOUND: "no such name, or it has no address",
  EAI_AGAIN: "the name server did not answer; try again later",
};

/** A name that the resolver found no address of. Compare `code`, never `message`. */
export class ResolveError extends Error {
  /** Always `"ResolveError"`. */
  override readonly name = "ResolveError";
  /** The name that was looked up. */
  readonly hostname: string;
  /** What the resolver said, such as `"ENOTFOUND"` or `"EAI_AGAIN"`. */
  readonly code: string;

  /** For a look-up of `hostname` that failed with `code`. */
  constructor(hostname: string, code: string, options?: ErrorOptions) {
    const meaning = MEANING[code] === undefined ? "" : ` (${MEANING[code]})`;
    super(`Cannot resolve ${JSON.stringify(hostname)}: the resolver returned ${code}${meaning}`, options);
    this.hostname = hostname;
    this.code = code;
  }
}

/**
 * The addresses of `hostname`, in the resolver's order, each once.
 *
 * @param cureOf What to do about an error that is a missing permission; `undefined` for any other error.
 */
export function lookUp(
  { lookup }: Dns,
  hostname: string,
  cureOf: (error: LookupError) => string | undefined,
): Promise<string[]> {
  return new Promise((resolve, reject) => {
    lookup(hostname, { all: true, order: "verbatim" }, (cause, found) => {
      if (cause === null) return resolve([...new Set(found.map(({ address }) => address))]);
      const cure = cureOf(cause);
      reject(
        cure === undefined
          ? new ResolveError(hostname, cause.code ?? cause.name, { cause })
          : new UnavailableError("permission", cure, { cause, action: `resolve ${JSON.stringify(hostname)}` }),
      );
    });
  });
}
