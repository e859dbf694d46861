/** What is known of anything that was thrown: the stack of an error, or the text of what is none. */
export function textOf(thrown: unknown): string {
  try {
    const text: unknown = thrown instanceof Error ? thrown.stack ?? `${thrown.name}: ${thrown.message}` : thrown;
    return String(text);
  } catch {
    return `something of type ${typeof thrown}, which has no text`; // such as Object.create(null), or a revoked proxy
  }
}
