import { EgressError } from './egress-error.js';

export interface HostGateOptions {
  /** Requests to one host at once. */
  maxPerHost: number;
  /** Network failures in a row after which a host is left alone. */
  failureLimit: number;
  /** For how long, in milliseconds; then one request may try again. */
  openMs: number;
}

interface HostState {
  active: number;
  failures: number;
  openUntil: number;
}

const MAX_HOSTS = 10_000;

/** Limits what one host gets at once, and leaves hosts alone that keep failing. Remembers only busy and failing hosts. */
export class HostGate {
  private readonly hosts = new Map<string, HostState>();

  constructor(
    private readonly o: HostGateOptions,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /**
   * Runs one request to a host.
   * @param isFailure tells which rejections say that the host is unwell
   * @throws EgressError `BUSY` or `CIRCUIT_OPEN` without running it
   */
  async run<T>(host: string, work: () => Promise<T>, isFailure: (error: unknown) => boolean): Promise<T> {
    const state = this.hosts.get(host) ?? { active: 0, failures: 0, openUntil: 0 };
    if (state.active >= this.o.maxPerHost) throw new EgressError('BUSY', 'too many requests to this host at once');
    if (state.failures >= this.o.failureLimit) {
      if (this.now() < state.openUntil) {
        throw new EgressError('CIRCUIT_OPEN', 'the host failed repeatedly and is left alone');
      }
      // Half open: this request is the probe, the others wait for its outcome.
      state.openUntil = this.now() + this.o.openMs;
    }
    state.active++;
    this.remember(host, state);
    try {
      const result = await work();
      state.failures = 0;
      return result;
    } catch (error) {
      if (isFailure(error) && ++state.failures >= this.o.failureLimit) state.openUntil = this.now() + this.o.openMs;
      throw error;
    } finally {
      state.active--;
      if (state.active === 0 && state.failures === 0) this.hosts.delete(host);
    }
  }

  private remember(host: string, state: HostState): void {
    this.hosts.delete(host);
    this.hosts.set(host, state);
    if (this.hosts.size <= MAX_HOSTS) return;
    for (const [old, { active }] of this.hosts) {
      if (active > 0) continue;
      this.hosts.delete(old);
      return;
    }
  }
}
