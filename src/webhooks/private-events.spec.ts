import { expect, it } from 'vitest';
import { isPrivateEvent } from './private-events.js';

it('knows which events are private', () => {
  expect(['user.login', 'token.created', 'security.alert'].every(isPrivateEvent)).toBe(true);
  expect(isPrivateEvent('command.failed')).toBe(false);
});
