import { runDetached } from '../platform/context/index.js';

/**
 * Hands one read to all who ask for the same. Whoever comes while a read runs gets the one after it: the running read may have missed
 * what has just changed. So at most one read per key runs, however many readers a change wakes.
 */
export class SharedReads<T> {
  private readonly running = new Map<string, Promise<T>>();
  private readonly next = new Map<string, Promise<T>>();

  read(key: string, load: () => Promise<T>): Promise<T> {
    const known = this.next.get(key);
    if (known) return known;
    const running = this.running.get(key);
    if (!running) return this.start(key, load);
    const start = (): Promise<T> => {
      this.next.delete(key);
      return this.start(key, load);
    };
    const next = running.then(start, start);
    this.next.set(key, next);
    return next;
  }

  private start(key: string, load: () => Promise<T>): Promise<T> {
    // Detached from the request: a timeout of one reader must not fail the others.
    const read = runDetached(load).finally(() => this.running.delete(key));
    this.running.set(key, read);
    return read;
  }
}
