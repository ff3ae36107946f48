export interface QueueLimits {
  /** How much may wait for a slot. */
  maxQueue: number;
  maxWaitMs: number;
  /** The error of work that found the queue full or waited too long. */
  refusal: () => Error;
}

/** Runs at most `slots` pieces of work at once, the others after them in the order they came; with `limits` few wait, and not for long. */
export class Semaphore {
  private active = 0;
  private readonly waiting = new Set<() => void>();

  constructor(
    private readonly slots: number,
    private readonly limits?: QueueLimits,
  ) {}

  async run<T>(work: () => T | Promise<T>): Promise<T> {
    if (this.active < this.slots) this.active++;
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
    const { limits } = this;
    if (limits && this.waiting.size >= limits.maxQueue) return Promise.reject(limits.refusal());
    return new Promise((resolve, reject) => {
      const enter = (): void => {
        clearTimeout(timer);
        this.waiting.delete(enter);
        resolve();
      };
      const timer =
        limits &&
        setTimeout(() => {
          this.waiting.delete(enter);
          reject(limits.refusal());
        }, limits.maxWaitMs);
      this.waiting.add(enter);
    });
  }
}
