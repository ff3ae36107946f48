/** The most names that {@link nearestNames} returns. */
const MOST_NAMES = 10;

/** The known word that was probably meant by this one; undefined when none is similar. */
export function nearestWord(word: string, known: readonly string[]): string | undefined {
  const limit = Math.ceil(word.length / 3);
  const near = known
    // A difference in length beyond the limit already rules a word out.
    .filter((other) => other.startsWith(`${word}_`) || Math.abs(other.length - word.length) <= limit)
    .map((other) => ({ other, distance: other.startsWith(`${word}_`) ? limit : distanceOf(word, other) }))
    .filter(({ distance }) => distance <= limit)
    .sort((a, b) => a.distance - b.distance);
  return near[0]?.other;
}

/**
 * The names that exist, for an error message about one that does not: the most similar first, and only a bounded number.
 */
export function nearestNames(wrong: string, names: Iterable<string>): string {
  const word = wrong.slice(0, 100);
  const sorted = [...new Set(names)]
    .map((name) => ({ name, distance: distanceOf(word, name) - commonStart(word, name) }))
    .sort((a, b) => a.distance - b.distance || (a.name < b.name ? -1 : 1))
    .map(({ name }) => name);
  if (sorted.length === 0) return 'none';
  const rest = sorted.length - MOST_NAMES;
  return sorted.slice(0, MOST_NAMES).join(', ') + (rest > 0 ? ` and ${rest} more` : '');
}

function commonStart(a: string, b: string): number {
  let at = 0;
  while (at < a.length && a[at] === b[at]) at++;
  return at;
}

/** Levenshtein distance: the number of letters to add, remove or replace. */
function distanceOf(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, n) => n);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}
