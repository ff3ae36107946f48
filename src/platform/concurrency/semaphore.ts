export interface SemaphoreOptions {
  /** How much work may run at once. */
  slots: number;
  /** How much may wait for a slot. */
  maxQueue: number;
  maxWaitMs: number;
  /** The error of work that found the queue full or waited too long. */
  refusal: () => Error;
}

/** Runs at most `slots` pieces of work at once; a bounded queue with a bounded wait in front. */
export class Semaphore {
  private active = 0;
  private readonly waiting = new Set<() => void>();

  constructor(private readonly options: SemaphoreOptions) {}

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.active < this.options.slots) this.active++;
    else await this.wait();
    try {
      return await work();
    } finally {
      const [next] = this.waiting;
      // The slot is handed over, not freed: a newcomer cannot overtake the queue.
      if (next) next();
      else this.active--;
    }
  }

  private wait(): Promise<void> {
    const { maxQueue, maxWaitMs, refusal } = this.options;
    if (this.waiting.size >= maxQueue) return Promise.reject(refusal());
    return new Promise((resolve, reject) => {
      const enter = (): void => {
        clearTimeout(timer);
        this.waiting.delete(enter);
        resolve();
      };
      const timer = setTimeout(() => {
        this.waiting.delete(enter);
        reject(refusal());
      }, maxWaitMs);
      this.waiting.add(enter);
    });
  }
}
