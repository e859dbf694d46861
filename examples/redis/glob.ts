/** Whether `text` is matched by a pattern of `*`, `?`, `[a-z]`, `[^a-z]` and `\` before what is meant literally. */
export function matches(pattern: string, text: string): boolean {
  if (text === "") return pattern === "" || pattern === "*"; // and not "**", in Redis
  // Where the last star was, and how much of the text it has taken: a star further left need not take more.
  let [starAt, taken] = [-1, 0];
  let [p, t] = [0, 0];
  while (t < text.length) {
    if (pattern[p] === "*") {
      starAt = p++;
      taken = t;
      continue;
    }
    const next = p < pattern.length ? after(pattern, p, text[t]!) : -1;
    if (next !== -1) {
      p = next;
      t++;
    } else if (starAt !== -1) {
      p = starAt + 1;
      t = ++taken;
    } else {
      return false;
    }
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}

/** The index after the piece of the pattern at `p`, if that matches `character`; else -1. */
function after(pattern: string, p: number, character: string): number {
  switch (pattern[p]) {
    case "?":
      return p + 1;
    case "[":
      return afterClass(pattern, p + 1, character);
    case "\\":
      if (p + 1 < pattern.length) p++;
  }
  return pattern[p] === character ? p + 1 : -1;
}

/** As {@linkcode after}, for what follows `[`. A class that nobody closes ends with the pattern. */
function afterClass(pattern: string, p: number, character: string): number {
  const isNegated = pattern[p] === "^";
  if (isNegated) p++;
  let isFound = false;
  for (; p < pattern.length && pattern[p] !== "]"; p++) {
    if (pattern[p] === "\\" && p + 1 < pattern.length) {
      if (pattern[++p] === character) isFound = true;
    } else if (pattern[p + 1] === "-" && p + 2 < pattern.length) {
      const [low, high] = [pattern[p]!, pattern[p + 2]!].sort();
      if (character >= low! && character <= high!) isFound = true;
      p += 2;
    } else if (pattern[p] === character) {
      isFound = true;
    }
  }
  return isFound === isNegated ? -1 : Math.min(p + 1, pattern.length);
}
