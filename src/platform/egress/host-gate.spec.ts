import { describe, expect, it } from 'vitest';
import { HostGate } from './host-gate.js';

class Unwell extends Error {}
const isUnwell = (error: unknown): boolean => error instanceof Unwell;

describe('HostGate', () => {
  it('lets a bounded number through to one host at once', async () => {
    const gate = new HostGate({ maxPerHost: 2, failureLimit: 5, openMs: 1000 });
    const { promise, resolve } = deferred();
    const running = [gate.run('a', () => promise, isUnwell), gate.run('a', () => promise, isUnwell)];
    await expect(gate.run('a', async () => 1, isUnwell)).rejects.toMatchObject({ code: 'BUSY' });
    expect(await gate.run('b', async () => 2, isUnwell)).toBe(2);
    resolve();
    await Promise.all(running);
    expect(await gate.run('a', async () => 3, isUnwell)).toBe(3);
  });

  it('opens after failures in a row, probes with one request, and closes on success', async () => {
    let now = 0;
    const gate = new HostGate({ maxPerHost: 10, failureLimit: 3, openMs: 1000 }, () => now);
    const outcomes: string[] = [];
    const go = (work: () => Promise<unknown>): Promise<void> =>
      gate.run('a', work, isUnwell).then(
        () => void outcomes.push('ok'),
        (error: { code?: string }) => void outcomes.push(error.code ?? 'failed'),
      );
    const fail = (): Promise<never> => Promise.reject(new Unwell());

    await go(fail);
    await go(fail);
    await go(async () => 1);
    for (let i = 0; i < 3; i++) await go(fail);
    await go(async () => 1);
    expect(outcomes.splice(0)).toEqual(['failed', 'failed', 'ok', 'failed', 'failed', 'failed', 'CIRCUIT_OPEN']);

    now = 1001;
    await go(fail);
    await go(async () => 1);
    expect(outcomes.splice(0)).toEqual(['failed', 'CIRCUIT_OPEN']);

    now = 2002;
    const { promise, resolve } = deferred();
    const probe = go(() => promise);
    await go(async () => 1);
    resolve();
    await probe;
    await go(fail);
    await go(async () => 1);
    expect(outcomes).toEqual(['CIRCUIT_OPEN', 'ok', 'failed', 'ok']);
  });

  it('does not blame the host for other errors', async () => {
    const gate = new HostGate({ maxPerHost: 1, failureLimit: 1, openMs: 1000 });
    for (let i = 0; i < 3; i++) {
      await expect(gate.run('a', () => Promise.reject(new Error('own')), isUnwell)).rejects.toThrow('own');
    }
    expect(await gate.run('a', async () => 1, isUnwell)).toBe(1);
  });
});

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((done) => (resolve = done));
  return { promise, resolve };
}
