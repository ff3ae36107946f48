import { describe, expect, it } from 'vitest';
import { nearestNames } from './nearest.js';

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
