import { describe, expect, it } from 'vitest';
import { checkParameters, checkSchema } from './parameter-schemas.js';
import { canonicalText, expandedSize } from './schema-cost.js';

type Json = Record<string, unknown>;

/** Each definition names the next one twice. */
function doubling(length: number): Json {
  const $defs: Json = { [`a${length}`]: { type: 'string' } };
  for (let n = 0; n < length; n++) {
    const next = { $ref: `#/$defs/a${n + 1}` };
    $defs[`a${n}`] = { allOf: [next, next] };
  }
  return { $defs, $ref: '#/$defs/a0' };
}

function detailsOf(work: () => void): { field: string; issue: string }[] {
  try {
    work();
    return [];
  } catch (error) {
    return (error as { details: { field: string; issue: string }[] }).details;
  }
}

const issueOf = (work: () => void): string | undefined => detailsOf(work).at(0)?.issue;

describe('a schema of parameters', () => {
  it('may refer to itself as long as that stays small', () => {
    const port = { type: 'integer', minimum: 1 };
    const schema = { $defs: { 'a/port': port }, properties: { from: { $ref: '#/$defs/a~1port' } } };
    checkSchema(schema);
    checkParameters(schema, { from: 80 });
    expect(issueOf(() => checkParameters(schema, { from: 0 }))).toBe('must be >= 1');
    expect(expandedSize({ $defs: { a: { type: 'x' } }, $ref: '#/$defs/a' })).toBe(7);
    checkSchema(doubling(6));
  });

  it.each([
    ['doubles with each definition', doubling(32), 'must not be larger than'],
    ['goes round in circles', { $defs: { r: { allOf: [{ $ref: '#/$defs/r' }] } }, $ref: '#/$defs/r' }, 'recursive'],
    ['is recursive by way of its properties', { properties: { child: { $ref: '#' } } }, 'recursive'],
    ['has names of its own', { $defs: { a: { $anchor: 'here' } } }, 'must not use $anchor'],
  ])('is refused when it %s', (_what, schema, issue) => {
    expect(issueOf(() => checkSchema(schema))).toContain(issue);
  });

  it('is checked in a time that its size and that of the parameters bound', () => {
    const schema = { items: { enum: Array.from({ length: 3000 }, (_, n) => `no ${n}`) } };
    checkSchema({ properties: { list: schema } });
    const list = Array.from({ length: 20_000 }, () => 'x');
    expect(issueOf(() => checkParameters({ properties: { list: schema } }, { list }))).toContain('too many values');
  });

  it('names every wrong parameter of a few, and the first of very many', () => {
    const texts = { properties: { list: { items: { type: 'string' } } } };
    const wrong = (count: number) => () => checkParameters(texts, { list: Array<number>(count).fill(1) });
    expect(detailsOf(wrong(3)).map(({ field }) => field)).toEqual([0, 1, 2].map((n) => `parameters.list.${n}`));
    expect(detailsOf(wrong(30_000))).toHaveLength(1);
  });
});

describe('uniqueItems', () => {
  const schema = { properties: { list: { type: 'array', uniqueItems: true } } };

  it('compares values whatever the order of their keys', () => {
    checkParameters(schema, { list: [1, '1', [1], { a: 1, b: [2] }, { a: 1, b: [3] }] });
    expect(
      issueOf(() =>
        checkParameters(schema, {
          list: [
            { a: 1, b: [2] },
            { b: [2], a: 1 },
          ],
        }),
      ),
    ).toContain('twice');
    checkParameters({ properties: { list: { uniqueItems: false } } }, { list: [1, 1] });
    expect(canonicalText({ b: { d: 1, c: 2 }, a: [] })).toBe('{"a":[],"b":{"c":2,"d":1}}');
  });

  it('does not compare each with each', () => {
    const list = Array.from({ length: 20_000 }, (_, n) => [n]);
    const started = process.cpuUsage();
    checkParameters(schema, { list });
    const { user, system } = process.cpuUsage(started);
    // Compared pair by pair they take several seconds.
    expect(user + system).toBeLessThan(1_000_000);
  });
});
