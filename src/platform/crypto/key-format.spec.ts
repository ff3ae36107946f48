import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { generateKey, generateOneTimeToken, hashKey, parseKey, parseOneTimeToken, safeEqual } from './key-format.js';

const kinds = fc.constantFrom('api', 'tok', 'agent');

describe('keys', () => {
  it('have the documented shape and are found again by their id', () => {
    fc.assert(
      fc.property(kinds, (kind) => {
        const made = generateKey(kind);
        expect(made.key).toMatch(new RegExp(`^nexus_${kind}_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$`));
        expect(parseKey(made.key)).toEqual({ kind, keyId: made.keyId });
        expect(made.preview).toBe(`nexus_${kind}_${made.keyId}_...`);
        expect(made.hash).toEqual(createHash('sha256').update(made.key).digest());
        expect(hashKey(made.key)).toEqual(made.hash);
      }),
    );
  });

  it('are refused when any one character was changed', () => {
    const { key } = generateKey('api');
    fc.assert(
      fc.property(fc.nat(key.length - 1), fc.constantFrom(...'0aZ_-9x'), (at, char) => {
        fc.pre(key[at] !== char);
        expect(parseKey(key.slice(0, at) + char + key.slice(at + 1))).toBeNull();
      }),
      { numRuns: 500 },
    );
  });

  it('are refused in any other shape', () => {
    const { key } = generateKey('api');
    for (const text of [
      '',
      'nexus_api_',
      key.slice(1),
      `${key}x`,
      ` ${key}`,
      `${key}\n`,
      key.toUpperCase(),
      'x'.repeat(1_000_000),
    ]) {
      expect(parseKey(text)).toBeNull();
    }
    fc.assert(fc.property(fc.string(), (text) => parseKey(text) === null));
  });

  it('do not repeat', () => {
    const made = Array.from({ length: 2000 }, () => generateKey('tok'));
    expect(new Set(made.map((k) => k.key)).size).toBe(2000);
    expect(new Set(made.map((k) => k.keyId)).size).toBe(2000);
  });
});

describe('one-time tokens', () => {
  it('are read back only under their own prefix and never pass for a key', () => {
    const made = generateOneTimeToken('nexus_join');
    expect(made.token).toMatch(/^nexus_join_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}$/);
    expect(parseOneTimeToken(made.token, 'nexus_join')).toEqual({ tokenId: made.tokenId });
    expect(parseOneTimeToken(made.token, 'nexus_refresh')).toBeNull();
    expect(parseKey(made.token)).toBeNull();
    expect(parseOneTimeToken(generateKey('api').key, 'nexus_join')).toBeNull();
  });

  it('take no prefix of a key kind and no odd characters', () => {
    for (const prefix of ['nexus_api', 'nexus_tok', 'nexus_agent', '', 'Nexus', 'nexus_', 'a b', 'x'.repeat(65)]) {
      expect(() => generateOneTimeToken(prefix)).toThrow(TypeError);
    }
  });
});

describe('safeEqual', () => {
  it('agrees with equality, also for different lengths', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.uint8Array(), (a, b) => {
        const [left, right] = [Buffer.from(a), Buffer.from(b)];
        expect(safeEqual(left, right)).toBe(left.equals(right));
        expect(safeEqual(left, Buffer.from(left))).toBe(true);
      }),
    );
  });
});
