import { describe, expect, it } from 'vitest';
import { SharedReads } from './shared-reads.js';

/** A read that ends when it is told to, and gives the number of its start. */
function slowRead() {
  let started = 0;
  const ends: (() => void)[] = [];
  const read = (): Promise<number> => {
    const number = ++started;
    return new Promise((resolve) => ends.push(() => resolve(number)));
  };
  return { read, end: () => ends.shift()?.(), started: () => started };
}

describe('SharedReads', () => {
  it('hands the read after the one that is running to all who come meanwhile', async () => {
    const reads = new SharedReads<number>();
    const { read, end, started } = slowRead();
    const first = reads.read('a', read);
    const later = [reads.read('a', read), reads.read('a', read)];
    expect(started()).toBe(1);
    end();
    expect(await first).toBe(1);
    await Promise.resolve();
    end();
    expect(await Promise.all(later)).toEqual([2, 2]);
    expect(started()).toBe(2);
  });

  it('keeps reads under different keys apart', () => {
    const reads = new SharedReads<number>();
    const { read, started } = slowRead();
    void reads.read('a', read);
    void reads.read('b', read);
    expect(started()).toBe(2);
  });

  it('reads again after one that failed', async () => {
    const reads = new SharedReads<number>();
    const failing = reads.read('a', () => Promise.reject(new Error('away')));
    const next = reads.read('a', () => Promise.resolve(7));
    await expect(failing).rejects.toThrow('away');
    expect(await next).toBe(7);
    expect(await reads.read('a', () => Promise.resolve(8))).toBe(8);
  });
});
