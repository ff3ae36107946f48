import { expect, it } from 'vitest';
import { wildcards } from './wildcards.js';

it.each([
  [[], 'anything', true],
  [['web-1'], 'web-1', true],
  [['web-1'], 'web-10', false],
  [['web-*'], 'web-', true],
  [['web-*'], 'my-web-1', false],
  [['*-db'], 'eu-db', true],
  [['a*b*c'], 'a1b2c', true],
  [['a*b*c'], 'acb', false],
  [['ab*ba'], 'aba', false],
  [['*'], '', true],
  [['x', 'y*'], 'y1', true],
])('%j takes %s: %s', (patterns, text, taken) => {
  expect(wildcards(patterns)(text)).toBe(taken);
});
