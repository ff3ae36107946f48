import { describe, expect, it } from 'vitest';
import { AppError } from '../errors/index.js';
import { PasswordHasher } from './password.js';

const cheap = { memoryCost: 64, timeCost: 1 };
const median = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

describe('PasswordHasher', () => {
  it('hashes with the recommended cost by default', async () => {
    const hasher = new PasswordHasher();
    const stored = await hasher.hash('correct pony battery staple');
    expect(stored).toMatch(/^\$argon2id\$v=19\$m=65536,t=3,p=1\$/);
    expect(await hasher.verify(stored, 'correct pony battery staple')).toBe(true);
    expect(await hasher.verify(stored, 'correct pony battery stable')).toBe(false);
    expect(hasher.needsRehash(stored)).toBe(false);
  });

  it('takes two spellings of the same Unicode text as one password', async () => {
    const hasher = new PasswordHasher(cheap);
    expect(await hasher.verify(await hasher.hash('Å ﬁne pässwörd'), 'A\u030a fine pa\u0308sswo\u0308rd')).toBe(true);
  });

  it('asks for a new hash when the cost changed or the hash is not ours', async () => {
    const stored = await new PasswordHasher(cheap).hash('secret');
    expect(new PasswordHasher({ ...cheap, timeCost: 2 }).needsRehash(stored)).toBe(true);
    expect(new PasswordHasher(cheap).needsRehash(stored)).toBe(false);
    expect(new PasswordHasher(cheap).needsRehash(stored.replace('argon2id', 'argon2i'))).toBe(true);
    expect(new PasswordHasher(cheap).needsRehash('$2b$10$something')).toBe(true);
  });

  it('works as hard for an unknown user and answers false', async () => {
    const hasher = new PasswordHasher({ memoryCost: 8192, timeCost: 3 });
    const stored = await hasher.hash('secret');
    const times: Record<'known' | 'unknown', number[]> = { known: [], unknown: [] };
    for (let i = 0; i < 15; i++) {
      for (const [who, hash] of [
        ['known', stored],
        ['unknown', null],
      ] as const) {
        const start = performance.now();
        expect(await hasher.verify(hash, 'wrong')).toBe(false);
        times[who].push(performance.now() - start);
      }
    }
    // Skipping the work would differ by a factor of hundreds; the wide margin is for a busy machine.
    expect(median(times.unknown)).toBeGreaterThan(median(times.known) / 3);
  });

  it('queues a bounded number and answers the rest 503 at once', async () => {
    const hasher = new PasswordHasher({ memoryCost: 4096, timeCost: 2, maxConcurrent: 2, maxQueue: 3 });
    const results = await Promise.allSettled(Array.from({ length: 12 }, () => hasher.hash('secret')));
    const refused = results.filter((r) => r.status === 'rejected').map((r) => r.reason as AppError);
    expect(results.length - refused.length).toBe(5);
    expect(refused.every((e) => e instanceof AppError && e.status === 503 && e.retryable)).toBe(true);
    expect(await hasher.hash('again')).toContain('argon2id');
  });

  it('keeps a turn free of strangers, however many of them wait', async () => {
    const hasher = new PasswordHasher({ memoryCost: 16_384, timeCost: 2, maxConcurrent: 2, maxQueue: 4 });
    const stored = await hasher.hash('secret');
    const ended: string[] = [];
    const strangers = Array.from({ length: 12 }, () =>
      hasher.verify(null, 'secret', { stranger: true }).then(
        () => ended.push('stranger'),
        () => ended.push('refused'),
      ),
    );
    expect(await hasher.verify(stored, 'secret')).toBe(true);
    expect(ended.filter((who) => who === 'stranger').length).toBeLessThan(5);
    await Promise.all(strangers);
    expect(ended.filter((who) => who === 'refused')).toHaveLength(12 - 5);
  });

  it('answers 503 when the turn does not come in time, and goes on afterwards', async () => {
    const hasher = new PasswordHasher({ memoryCost: 65_536, timeCost: 4, maxConcurrent: 1, maxWaitMs: 1 });
    const [first, second] = await Promise.allSettled([hasher.hash('a'), hasher.hash('b')]);
    expect(first.status).toBe('fulfilled');
    expect(second).toMatchObject({ status: 'rejected', reason: { status: 503 } });
    expect(await hasher.hash('c')).toContain('argon2id');
  });
});
