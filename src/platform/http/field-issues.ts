import { nearestWord } from './nearest-word.js';

const MAX_NAME = 100;

/** The issue of an unknown field, with the field that was probably meant and the fields that exist. */
export function unknownField(name: string, known: readonly string[]): { issue: string; expected: string } {
  const meant = nearestWord(name.slice(0, MAX_NAME), known);
  return {
    issue: meant === undefined ? 'is not a known field' : `is not a known field; did you mean ${meant}?`,
    expected: known.length > 0 ? `one of ${known.join(', ')}` : 'no fields',
  };
}

/** What a rule such as `limit must be an integer number` expects; undefined when its text does not tell. */
export function expectedOf(issue: string): string | undefined {
  const [, not = '', rest] = /\bmust (not )?(?:be )?(.+)$/s.exec(issue) ?? [];
  return rest && not + rest;
}
