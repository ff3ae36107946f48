import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deriveKey } from './derive.js';
import { SecretBox, SecretBoxError } from './secret-box.js';

const [one, two] = ['one', 'two'].map((id) => ({ id, key: randomBytes(32) }));
const reasonOf = (work: () => unknown): unknown => {
  try {
    return work();
  } catch (error) {
    return error instanceof SecretBoxError ? error.reason : error;
  }
};

describe('SecretBox', () => {
  it('gives back any text under the same context and hides it in between', () => {
    const box = new SecretBox([one]);
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.string(), (text, context) => {
        const sealed = box.encrypt(text, context);
        expect(sealed).toMatch(/^v1\.one\.[\w-]{16}\.[\w-]{22}\.[\w-]*$/);
        expect(box.decrypt(sealed, context)).toBe(text);
      }),
    );
    expect(box.encrypt('same', 'c')).not.toBe(box.encrypt('same', 'c'));
  });

  it('does not open in another row or column', () => {
    const box = new SecretBox([one]);
    const sealed = box.encrypt('secret', 'webhooks/1/secret');
    expect(reasonOf(() => box.decrypt(sealed, 'webhooks/2/secret'))).toBe('tampered');
    expect(reasonOf(() => box.decrypt(sealed, 'webhooks/1/token'))).toBe('tampered');
  });

  it('refuses every changed part', () => {
    const box = new SecretBox([one]);
    const sealed = box.encrypt('a secret of some length', 'c');
    fc.assert(
      fc.property(fc.nat(sealed.length - 1), fc.constantFrom(...'AZaz09-_.'), (at, char) => {
        const changed = sealed.slice(0, at) + char + sealed.slice(at + 1);
        // The last base64url character carries unused bits: only a change of the bytes matters.
        const bytes = (text: string): string =>
          text
            .split('.')
            .map((part, i) => (i < 2 ? part : Buffer.from(part, 'base64url').toString('hex')))
            .join('.');
        fc.pre(bytes(changed) !== bytes(sealed));
        expect(['malformed', 'unknown_key', 'tampered']).toContain(reasonOf(() => box.decrypt(changed, 'c')));
      }),
      { numRuns: 500 },
    );
  });

  it('opens what an older key sealed and says that it should be sealed again', () => {
    const old = new SecretBox([one]).encrypt('secret', 'c');
    const rotated = new SecretBox([two, one]);
    expect(rotated.decrypt(old, 'c')).toBe('secret');
    expect(rotated.needsRotation(old)).toBe(true);
    expect(rotated.keyIdOf(old)).toBe('one');
    const fresh = rotated.encrypt('secret', 'c');
    expect(rotated.needsRotation(fresh)).toBe(false);
    expect(reasonOf(() => new SecretBox([one]).decrypt(fresh, 'c'))).toBe('unknown_key');
    expect(reasonOf(() => new SecretBox([{ id: 'one', key: randomBytes(32) }]).decrypt(old, 'c'))).toBe('tampered');
  });

  it('names a text that is no box', () => {
    const box = new SecretBox([one]);
    for (const text of ['', 'plain', 'v1.one', 'v2.one.AAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA.', 'v1..a.b.c']) {
      expect(reasonOf(() => box.decrypt(text, 'c'))).toBe('malformed');
      expect(reasonOf(() => box.needsRotation(text))).toBe('malformed');
    }
    expect(() => new SecretBox([])).toThrow(TypeError);
  });
});

describe('deriveKey', () => {
  it('is stable, of the asked length, and differs by purpose and by master', () => {
    expect(deriveKey(one.key, 'jwt')).toEqual(deriveKey(one.key, 'jwt'));
    expect(deriveKey(one.key, 'jwt', 64)).toHaveLength(64);
    expect(deriveKey(one.key, 'jwt')).not.toEqual(deriveKey(one.key, 'audit'));
    expect(deriveKey(one.key, 'jwt')).not.toEqual(deriveKey(two.key, 'jwt'));
  });
});
