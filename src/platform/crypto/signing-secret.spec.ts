import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { isSigningSecret, newSigningSecret, standardSignatures } from './signing-secret.js';

const MESSAGE = { id: 'msg_1', timestamp: '1614265330', body: '{}' };

describe('a secret that the caller chooses', () => {
  it.each([
    'whsec_!!!!!!!!!!!!',
    'whsec_',
    'whsec_not-base64-of-anything-at-all',
    `whsec_${randomBytes(23).toString('base64')}`,
    `whsec_${randomBytes(65).toString('base64')}`,
    `whsec_${randomBytes(32).toString('base64')}!`,
    `whsec_${randomBytes(32).toString('base64').replace('=', '')}`,
    'fifteen-letters',
    'with a blank in it',
    'x'.repeat(257),
    1234567890123456,
    null,
  ])('is refused: %j', (secret) => {
    expect(isSigningSecret(secret)).toBe(false);
  });

  it.each([
    newSigningSecret(),
    `whsec_${randomBytes(24).toString('base64')}`,
    `whsec_${randomBytes(64).toString('base64')}`,
    'sixteen-letters!',
    'x'.repeat(256),
  ])('is taken: %j', (secret) => {
    expect(isSigningSecret(secret)).toBe(true);
  });
});

describe('Standard Webhooks signatures', () => {
  it('differ per secret', () => {
    const secrets = [newSigningSecret(), newSigningSecret(), 'a-secret-of-other-form'];
    expect(new Set(standardSignatures(MESSAGE, secrets)).size).toBe(3);
  });

  it('are never made with a key that could be guessed', () => {
    expect(standardSignatures(MESSAGE, ['whsec_!!!!!!!!!!!!', 'whsec_YWFh'])).toEqual([]);
  });
});
