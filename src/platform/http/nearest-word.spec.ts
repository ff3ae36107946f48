import { describe, expect, it } from 'vitest';
import { nearestWord } from './nearest-word.js';

describe('the nearest known word', () => {
  it.each([
    ['metric', 'metric_name'],
    ['metricname', 'metric_name'],
    ['tpye', 'type'],
    ['Type', 'type'],
    ['commandtype', 'command_type'],
    ['timeout', 'timeout_seconds'],
    ['prioritty', 'priority'],
  ])('to %s is %s', (word, meant) => {
    const known = ['type', 'metric_name', 'command_type', 'timeout_seconds', 'priority'];
    expect(nearestWord(word, known)).toBe(meant);
  });

  it.each(['colour', 'x', 'name', ''])('to %j is none', (word) => {
    expect(nearestWord(word, ['type', 'metric_name', 'priority'])).toBeUndefined();
  });
});
