import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Semaphore } from './semaphore.js';

/** Work that ends when it is told to. */
class Task {
  begun = false;
  end!: (result: string) => void;
  fail!: () => void;
  private readonly ended = new Promise<string>((resolve, reject) => {
    this.end = resolve;
    this.fail = () => reject(new Error('failed'));
  });

  readonly run = (): Promise<string> => {
    this.begun = true;
    return this.ended;
  };
}

const settled = (): Promise<unknown> => new Promise((resolve) => setImmediate(resolve));

describe('a semaphore', () => {
  it('runs so much at once and the rest in the order it came, whatever fails', async () => {
    const semaphore = new Semaphore(2);
    const tasks = [new Task(), new Task(), new Task(), new Task()];
    const results = tasks.map(({ run }) => semaphore.run(run).catch((error: unknown) => String(error)));
    const begun = (): boolean[] => tasks.map((task) => task.begun);
    expect(begun()).toEqual([true, true, false, false]);
    tasks[1].fail();
    await settled();
    expect(begun()).toEqual([true, true, true, false]);
    tasks[0].end('a');
    await settled();
    expect(begun()).toEqual([true, true, true, true]);
    tasks[2].end('c');
    tasks[3].end('d');
    expect(await Promise.all(results)).toEqual(['a', 'Error: failed', 'c', 'd']);
  });

  it('goes on after work that throws at once', async () => {
    const semaphore = new Semaphore(1);
    const thrown = semaphore.run(() => {
      throw new Error('at once');
    });
    await expect(thrown).rejects.toThrow('at once');
    expect(await semaphore.run(() => 1)).toBe(1);
  });

  it('lets nobody overtake the queue', async () => {
    const semaphore = new Semaphore(1);
    const order: number[] = [];
    const first = semaphore.run(async () => {
      await settled();
      order.push(1);
    });
    const second = semaphore.run(() => order.push(2));
    const third = first.then(() => semaphore.run(() => order.push(3)));
    await Promise.all([second, third]);
    expect(order).toEqual([1, 2, 3]);
  });

  describe('with limits', () => {
    beforeEach(() => void vi.useFakeTimers());
    afterEach(() => void vi.useRealTimers());

    it('refuses what finds the queue full or waits too long', async () => {
      const semaphore = new Semaphore(1, { maxQueue: 1, maxWaitMs: 100, refusal: () => new Error('busy') });
      const task = new Task();
      const first = semaphore.run(task.run);
      const late = vi.fn();
      const waiting = expect(semaphore.run(late)).rejects.toThrow('busy');
      await expect(semaphore.run(late)).rejects.toThrow('busy');
      await vi.advanceTimersByTimeAsync(100);
      await waiting;
      task.end('first');
      expect(await first).toBe('first');
      expect(late).not.toHaveBeenCalled();
      expect(await semaphore.run(() => 'next')).toBe('next');
    });
  });
});
