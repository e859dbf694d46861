import { serve, type ServerOptions } from "../../mod.ts";

/** Why no server is made with `options`; fails if one is. */
export function refused(options: object): string {
  try {
    serve(options as ServerOptions);
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error(`not refused: ${JSON.stringify(options)}`);
}
