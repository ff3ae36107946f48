import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BodyLimits, findBodyProblem, parseJsonBody } from './body-guard.js';

const limits: BodyLimits = { maxDepth: 64, maxKeys: 10_000, maxValues: 100_000, maxKeyLength: 256 };

function problemOf(text: string | Buffer, own: Partial<BodyLimits> = {}): { code: string; path: string } | null {
  const result = parseJsonBody(text, { ...limits, ...own });
  return 'problem' in result ? { code: result.problem.code, path: result.problem.path } : null;
}
const codeOf = (text: string | Buffer, own?: Partial<BodyLimits>): string | undefined => problemOf(text, own)?.code;

/** Every character as a \u escape: the same JSON value in its most hidden spelling. */
const escaped = (text: string): string =>
  Array.from({ length: text.length }, (_, i) => `\\u${text.charCodeAt(i).toString(16).padStart(4, '0')}`).join('');

const dunders = 'class init dict reduce builtins import globals code name bases proto'
  .split(' ')
  .map((w) => `__${w}__`);
const dangerous = [...dunders, '__anything', '__', 'eval', 'exec', 'compile', 'prototype', 'constructor'];

describe('dangerous keys', () => {
  it.each(dangerous)('refuses %s at any depth, in any spelling, with its path', (key) => {
    for (const spelled of [key, escaped(key)]) {
      expect(problemOf(`{"${spelled}":1}`)).toEqual({ code: 'DANGEROUS_KEY', path: key });
      expect(problemOf(`{"a":[{},{"b":{"c":{"${spelled}" \n:{"x":1}}}}]}`)).toEqual({
        code: 'DANGEROUS_KEY',
        path: `a[1].b.c.${key}`,
      });
    }
    expect(codeOf(Buffer.from(`[[[{"${key}":null}]]]`))).toBe('DANGEROUS_KEY');
  });

  it('lets the same words through as values and as parts of other keys', () => {
    for (const key of dangerous) expect(codeOf(JSON.stringify({ a: key, b: [key] }))).toBeUndefined();
    for (const key of [
      '_id',
      'a__b',
      'name__',
      'evaluate',
      'executor',
      'core',
      'Eval',
      'compiled',
      'percentile',
      'cell_number',
      '',
    ]) {
      expect(codeOf(JSON.stringify({ [key]: 1 }))).toBeUndefined();
    }
  });

  it('finds them in values that were parsed elsewhere', () => {
    expect(findBodyProblem(JSON.parse('{"a":{"__proto__":{"x":1}}}'), limits)).toMatchObject({
      code: 'DANGEROUS_KEY',
      path: 'a.__proto__',
    });
  });
});

describe('sizes', () => {
  const nested = (depth: number, open: string, close: string): string => open.repeat(depth) + '1' + close.repeat(depth);

  it('counts levels of objects and arrays together', () => {
    expect(codeOf(nested(64, '[', ']'))).toBeUndefined();
    expect(codeOf(nested(65, '[', ']'))).toBe('TOO_DEEP');
    expect(codeOf(nested(32, '[{"a":', '}]'))).toBeUndefined();
    expect(codeOf(nested(33, '[{"a":', '}]'))).toBe('TOO_DEEP');
    expect(codeOf(JSON.stringify({ a: '['.repeat(1000), b: '"{{'.repeat(100) }))).toBeUndefined();
    expect(codeOf(JSON.stringify(Array.from({ length: 1000 }, () => [[]])))).toBeUndefined();
  });

  it.each([100_000, 5_000_000])('turns away %i levels without parsing them', (depth) => {
    for (const text of [
      nested(depth, '[', ']'),
      '['.repeat(depth),
      nested(depth, '{"a":', '}'),
      `{"x":"y","a":${'['.repeat(depth)}`,
    ]) {
      const start = performance.now();
      expect(codeOf(text)).toBe('TOO_DEEP');
      expect(performance.now() - start).toBeLessThan(1000);
    }
  });

  it('counts values, so that lists of nothing are turned away before they are parsed', () => {
    expect(codeOf('[1,[],{"a":2}]', { maxValues: 5 })).toBeUndefined();
    expect(problemOf('{"b":[1,[],{"a":2}]}', { maxValues: 5 })).toEqual({ code: 'TOO_MANY_VALUES', path: 'b[2]' });
    for (const empty of ['[]', '{}', '0', '""']) {
      expect(codeOf(`{"events":[${Array(3_000_000).fill(empty).join()}]}`)).toBe('TOO_MANY_VALUES');
    }
    expect(codeOf(JSON.stringify({ text: ',[{'.repeat(100_000) }))).toBeUndefined();
  });

  it('walks a deep value without recursion', () => {
    let value: unknown = 1;
    for (let i = 0; i < 100_000; i++) value = i % 2 ? [value] : { a: value };
    expect(findBodyProblem(value, limits)?.code).toBe('TOO_DEEP');
    expect(findBodyProblem(value, { ...limits, maxDepth: 1e6, maxKeys: 1e6 })).toBeNull();
  });

  it('says where it became too deep or too many', () => {
    expect(problemOf('{"a":[1,{"b":"x,]","c":[[1]]}]}', { maxDepth: 4 })).toEqual({
      code: 'TOO_DEEP',
      path: 'a[1].c[0]',
    });
    expect(findBodyProblem({ a: [1, { b: 'x', c: [[1]] }] }, { ...limits, maxDepth: 4 })).toMatchObject({
      code: 'TOO_DEEP',
      path: 'a[1].c[0]',
    });
    expect(problemOf('{"a":1,"b":{"c":1}}', { maxKeys: 2 })).toEqual({ code: 'TOO_MANY_KEYS', path: 'b.c' });
    expect(codeOf('{"a":1,"b":{"c":1}}', { maxKeys: 3 })).toBeUndefined();
    expect(findBodyProblem({ a: 1, b: { c: 1 } }, { ...limits, maxKeys: 2 })?.code).toBe('TOO_MANY_KEYS');
    expect(findBodyProblem({ a: 1, b: { c: 1 } }, { ...limits, maxKeys: 3 })).toBeNull();
  });

  it('measures keys in characters, not bytes', () => {
    expect(codeOf(JSON.stringify({ ['é'.repeat(256)]: 1 }))).toBeUndefined();
    expect(codeOf(`{"${escaped('é'.repeat(256))}":1}`)).toBeUndefined();
    expect(codeOf(JSON.stringify({ ['é'.repeat(257)]: 1 }))).toBe('KEY_TOO_LONG');
    expect(codeOf(JSON.stringify({ a: 'v'.repeat(100_000) }))).toBeUndefined();
  });

  it('keeps the path short and clean whatever the keys are', () => {
    const path = problemOf(JSON.stringify({ ['k\n"]'.repeat(50)]: { ['x'.repeat(250)]: { __a: 1 } } }))?.path ?? '';
    expect(path.length).toBeLessThanOrEqual(203);
    expect(path).toMatch(/^\["k\\n\\"\]/);
    expect(problemOf('{"\\u0000":1}')).toEqual({ code: 'INVALID_TEXT', path: '["\\u0000"]' });
  });
});

describe('text and numbers', () => {
  it('refuses NUL and lone surrogates in keys and strings, and lets real pairs through', () => {
    for (const bad of [
      '\\u0000',
      '\\ud800',
      '\\uDC00',
      'a\\uD83Dx',
      '\\ud83d\\ud83d\\ude00',
      '\\ude00\\ud83d',
      '\\ud83d\\\\ude00',
      '\\uD83D\\n',
    ]) {
      expect([bad, codeOf(`{"a":["x","${bad}"]}`)]).toEqual([bad, 'INVALID_TEXT']);
      expect([bad, codeOf(`{"${bad}":1}`)]).toEqual([bad, 'INVALID_TEXT']);
    }
    for (const good of ['\\ud83d\\ude00', '😀', '\\\\u0000', '\\\\ud800', '\\u0001', '\\u00e9\\uFFFF', '\\\\\\"']) {
      expect([good, codeOf(`{"a":"${good}","k${good}":1}`)]).toEqual([good, undefined]);
    }
    expect(problemOf('{"a":[0,{"b":"\\u0000"}]}')).toEqual({ code: 'INVALID_TEXT', path: 'a[1].b' });
  });

  it('refuses bytes that are no UTF-8 and strings with raw halves of a pair', () => {
    expect(codeOf(Buffer.from([0x22, 0xff, 0x22]))).toBe('INVALID_TEXT');
    expect(codeOf(Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]))).toBe('INVALID_TEXT');
    expect(codeOf('"\ud800"')).toBe('INVALID_TEXT');
    expect(codeOf(Buffer.from('"a\0b"'))).toBe('INVALID_JSON');
  });

  it('refuses numbers that would change', () => {
    for (const bad of [
      '9223372036854775808',
      '9223372036854775807',
      '-9223372036854775809',
      '9007199254740993',
      '1e999',
      '-1e309',
      '9'.repeat(400),
    ]) {
      expect([bad, problemOf(`{"a":[1,{"n":${bad}}]}`)]).toEqual([bad, { code: 'INVALID_NUMBER', path: 'a[1].n' }]);
      expect([bad, codeOf(bad)]).toEqual([bad, 'INVALID_NUMBER']);
    }
    for (const good of [
      '9007199254740991',
      '-9007199254740991',
      '1e308',
      '1E-999',
      '0.1234567890123456789',
      '1700000000000000000',
      '12345678901234567.5',
      '-0',
    ]) {
      expect([good, codeOf(`[${good}]`)]).toEqual([good, undefined]);
    }
    expect(codeOf('[9007199254740993]', { exactIntegers: false })).toBeUndefined();
    expect(codeOf('[1e999]', { exactIntegers: false })).toBe('INVALID_NUMBER');
    expect(findBodyProblem({ a: [Infinity] }, limits)).toMatchObject({ code: 'INVALID_NUMBER', path: 'a[0]' });
  });

  it('refuses what is no JSON without quoting it', () => {
    for (const text of [
      '',
      ' ',
      '{',
      '[1,]',
      '{"a" 1}',
      '{"secret":"hunter2"',
      'nul',
      '1.2.3',
      '"\\x"',
      '\ufeff{}',
      '{"a":1}}',
      "{'a':1}",
      '"\\u12"',
    ]) {
      const result = parseJsonBody(text, limits);
      expect([text, result]).toMatchObject([text, { problem: { code: 'INVALID_JSON', path: '' } }]);
      expect(JSON.stringify(result)).not.toContain('hunter2');
    }
  });
});

describe('properties', () => {
  const key = fc.oneof(
    { weight: 6, arbitrary: fc.string({ unit: 'binary' }) },
    { weight: 1, arbitrary: fc.constantFrom(...dangerous, '\0', '\ud800') },
  );
  const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
    tree: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.constantFrom('\ud83d', '\0', '__proto__'),
        fc.integer(),
        fc.double(),
        fc.boolean(),
        fc.constant(null),
      ),
      fc.array(tie('tree'), { maxLength: 4 }),
      fc.array(fc.tuple(key, tie('tree')), { maxLength: 4 }).map((pairs) => {
        const object: Record<string, unknown> = {};
        for (const [name, value] of pairs) {
          Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true });
        }
        return object;
      }),
    ),
  }));
  const small: BodyLimits = { maxDepth: 4, maxKeys: 8, maxValues: 1000, maxKeyLength: 12 };

  it('the quick pass never misses what the walk refuses, in any spelling', () => {
    fc.assert(
      fc.property(tree, fc.boolean(), fc.boolean(), (value, hide, asBytes) => {
        const text = hide ? respell(value) : JSON.stringify(value);
        const parsed: unknown = JSON.parse(text);
        const expected = findBodyProblem(parsed, small);
        const result = parseJsonBody(asBytes ? Buffer.from(text) : text, small);
        if (expected) expect(result).toHaveProperty('problem');
        else expect(result).toEqual({ value: parsed });
      }),
      { numRuns: 3000 },
    );
  });

  it('never throws, whatever the text is', () => {
    const fragment = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      '"',
      ':',
      ',',
      '\\',
      '\\u',
      '\\ud83d',
      'd800',
      '__',
      'eval',
      '1e',
      '9'.repeat(20),
      '-',
      ' ',
      'é',
      '\0',
      'null',
    );
    fc.assert(
      fc.property(fc.array(fragment, { maxLength: 30 }), (parts) => {
        const text = parts.join('');
        const result = parseJsonBody(text, small);
        if ('value' in result) {
          expect(result.value).toEqual(JSON.parse(text));
          expect(findBodyProblem(result.value, small)).toBeNull();
        }
      }),
      { numRuns: 5000 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(Object.keys(parseJsonBody(Buffer.from(bytes), small))).toHaveLength(1);
      }),
    );
  });
});

/** JSON text in which every character of every string is escaped. */
function respell(value: unknown): string {
  if (typeof value === 'string') return `"${escaped(value)}"`;
  if (Array.isArray(value)) return `[${value.map(respell).join(' , ')}]`;
  if (typeof value === 'object' && value !== null) {
    return `{${Object.entries(value)
      .map(([name, child]) => `"${escaped(name)}"\t: ${respell(child)}`)
      .join()}}`;
  }
  return JSON.stringify(value);
}
