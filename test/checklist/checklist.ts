/** How the checklists of other libraries' tests are written. */

/** One test of another library, and what becomes of it here. */
export interface Row {
  /** Its name there. */
  readonly test: string;
  /** What it shows, in our words. */
  readonly behaviour: string;
  /** The tests of ours that show it, as `"file: title"`. This, or `because`. */
  readonly shownBy?: readonly string[];
  /** Why it does not apply. */
  readonly because?: string;
}

/** The tests of one library at one commit. */
export interface Checklist {
  readonly source: string;
  readonly commit: string;
  /** Rows by file there. */
  readonly files: Readonly<Record<string, readonly Row[]>>;
  /** Files whose tests have no rows, and why. */
  readonly leftOut: Readonly<Record<string, string>>;
}
