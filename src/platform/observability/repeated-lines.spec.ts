import { expect, it } from 'vitest';
import { RepeatedLines } from './repeated-lines.js';

it('lets five lines of a kind through in a minute and counts the others', () => {
  const lines = new RepeatedLines();
  const admitted = Array.from({ length: 100 }, (_, i) => lines.admit('lost', i));
  expect(admitted.filter((left) => left !== null)).toHaveLength(5);
  expect(lines.admit('other', 100)).toBe(0);
  expect(lines.admit('lost', 59_999)).toBeNull();
  expect(lines.admit('lost', 60_001)).toBe(96);
  expect(lines.admit('lost', 60_002)).toBe(0);
});

it('forgets kinds rather than keeping any number of them', () => {
  const lines = new RepeatedLines();
  for (let i = 0; i < 2500; i++) expect(lines.admit(`kind ${i}`, i)).toBe(0);
});
