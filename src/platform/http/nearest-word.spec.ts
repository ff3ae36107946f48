import { describe, expect, it } from 'vitest';
import { nearestNames, nearestWord } from './nearest-word.js';

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

describe('the names nearest to a wrong one', () => {
  it('begin with the most similar', () => {
    expect(nearestNames('comands.status', ['agents.status', 'commands.status', 'custom.events'])).toBe(
      'commands.status, agents.status, custom.events',
    );
    expect(nearestNames('system.reboot', ['deploy.app', 'system.ping', 'system.restart'])).toMatch(/^system\..*deploy/);
  });

  it('are at most ten, each once, and say how many more there are', () => {
    const names = Array.from({ length: 25 }, (_, i) => `name.${i % 15}`);
    expect(nearestNames('name.3', names)).toMatch(/^name\.3, (name\.\d+, ){8}name\.\d+ and 5 more$/);
  });

  it('may be none', () => {
    expect(nearestNames('x', [])).toBe('none');
  });
});
