/** True for texts that are one of `patterns` or fit one of them, where `*` is any number of any characters; any text if there are none. */
export function wildcards(patterns: readonly string[]): (text: string) => boolean {
  if (patterns.length === 0) return () => true;
  const exact = new Set(patterns.filter((pattern) => !pattern.includes('*')));
  const wild = patterns.filter((pattern) => pattern.includes('*')).map((pattern) => pattern.split('*'));
  return (text) => exact.has(text) || wild.some((pieces) => fits(text, pieces));
}

/** Without a regular expression: no pattern can make it slow. */
function fits(text: string, pieces: readonly string[]): boolean {
  const last = pieces[pieces.length - 1];
  if (!text.startsWith(pieces[0])) return false;
  let at = pieces[0].length;
  for (const piece of pieces.slice(1, -1)) {
    const next = text.indexOf(piece, at);
    if (next < 0) return false;
    at = next + piece.length;
  }
  return text.length - last.length >= at && text.endsWith(last);
}
