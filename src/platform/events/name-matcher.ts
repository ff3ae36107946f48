/** True for names that any of the patterns stands for; `*` is one or more of any characters. */
export function matcherOf(patterns: readonly string[]): (name: string) => boolean {
  const exact = new Set(patterns.filter((pattern) => !pattern.includes('*')));
  const wild = patterns.filter((pattern) => pattern.includes('*')).map((pattern) => pattern.split('*'));
  return (name) => exact.has(name) || wild.some((pieces) => fits(name, pieces));
}

/** Matches without a regular expression: no pattern can make it slow. */
function fits(name: string, pieces: readonly string[]): boolean {
  const last = pieces.length - 1;
  if (!name.startsWith(pieces[0])) return false;
  let at = pieces[0].length;
  for (const piece of pieces.slice(1, last)) {
    const next = name.indexOf(piece, at + 1);
    if (next < 0) return false;
    at = next + piece.length;
  }
  return name.endsWith(pieces[last]) && name.length - pieces[last].length > at;
}
