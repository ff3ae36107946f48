const FIRST_MS = 1000;
const LONGEST_MS = 30_000;

/** Full-jitter exponential backoff, 1 s to 30 s: many agents that lost one server come back spread out. */
export class Backoff {
  private failures = 0;

  next(): number {
    const limit = Math.min(LONGEST_MS, FIRST_MS * 2 ** this.failures++);
    return Math.random() * limit;
  }

  reset(): void {
    this.failures = 0;
  }
}

/** Between half and one and a half times `ms`. */
export function jitter(ms: number): number {
  return ms * (0.5 + Math.random());
}
