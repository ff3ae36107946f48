import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Signal } from './signal.js';

describe('a signal', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it('wakes its waiter when it is set, and leaves no timer', async () => {
    const signal = new Signal();
    const waited = signal.wait(1000);
    signal.set();
    await waited;
    expect(vi.getTimerCount()).toBe(0);
  });

  it('wakes its waiter when the time is up', async () => {
    const woken = vi.fn();
    void new Signal().wait(1000).then(woken);
    await vi.advanceTimersByTimeAsync(999);
    expect(woken).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(1);
    expect(woken).toHaveBeenCalled();
  });

  it('stays set until it is reset', async () => {
    const signal = new Signal();
    signal.set();
    await signal.wait(1000);
    await signal.wait(1000);
    signal.reset();
    const woken = vi.fn();
    void signal.wait(1000).then(woken);
    await vi.advanceTimersByTimeAsync(999);
    expect(woken).not.toHaveBeenCalled();
  });
});
