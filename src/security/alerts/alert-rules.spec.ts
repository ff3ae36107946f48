import { expect, it } from 'vitest';
import { powerfulScopes } from './alert-rules.js';

it('tells scopes that change rights from the others', () => {
  expect(
    powerfulScopes([
      '*',
      'admin:*',
      '*:admin',
      'admin:config',
      'security:admin',
      'security:read',
      'user:write',
      'user:*',
    ]),
  ).toHaveLength(8);
  expect(powerfulScopes(['*:read', 'task:write', 'command:write@env=development', 'user:read', 'ai:*'])).toEqual([]);
});
