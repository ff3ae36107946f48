import { nearestWord } from './nearest-word.js';

const MAX_NAME = 100;

/** What to say of a field that is not known here: the one that was probably meant, and those that there are. */
export function unknownField(name: string, known: readonly string[]): { issue: string; expected: string } {
  const meant = nearestWord(name.slice(0, MAX_NAME), known);
  return {
    issue: meant === undefined ? 'is not a known field' : `is not a known field; did you mean ${meant}?`,
    expected: known.length > 0 ? `one of ${known.join(', ')}` : 'no fields',
  };
}

/** What a rule such as `limit must be an integer number` expects; undefined when it does not say so. */
export function expectedOf(issue: string): string | undefined {
  const [, not = '', rest] = /\bmust (not )?(?:be )?(.+)$/s.exec(issue) ?? [];
  return rest && not + rest;
}
