import type { Host } from "./host_types.ts";
import { host as selectHost } from "./mod.ts";
export { UnavailableError, type UnavailableReason } from "./backend.ts";
export type { Host, Parker, ParkerOptions } from "./host_types.ts";
export { ResolveError } from "./resolver.ts";

/**
 * The host of the runtime that runs this.
 *
 * @throws {UnavailableError} If this platform is not supported.
 */
export function host(): Host {
  return selectHost();
}
