import { Injectable } from '@nestjs/common';

export type HealthStatus = 'healthy' | 'degraded' | 'unhealthy';
/** `starting` until the server listens, `draining` from the stop signal on, `failed` when the start did not succeed. */
export type LifecycleState = 'starting' | 'ready' | 'draining' | 'failed';

export interface HealthCheck {
  status: HealthStatus;
  /** Milliseconds the check took. */
  responseTimeMs: number;
  details?: Record<string, unknown>;
}

/** Thrown by a check of a part that answers but is not well; `details` are shown. */
export class CheckFailed extends Error {
  constructor(
    message: string,
    readonly details: Record<string, unknown>,
  ) {
    super(message);
  }
}

type Check = () => Promise<Record<string, unknown> | undefined>;

const CHECK_TIMEOUT_MS = 2000;

/** Who can say how a part is doing; each part registers itself. */
@Injectable()
export class HealthRegistry {
  state: LifecycleState = 'starting';
  private readonly checks = new Map<string, { check: Check; vital: boolean }>();

  /**
   * `check` resolves when the part works (with details to show) and rejects when not. A failing vital part makes the
   * whole unhealthy, another one makes it degraded.
   */
  register(name: string, check: Check, options: { vital: boolean } = { vital: false }): void {
    this.checks.set(name, { check, vital: options.vital });
  }

  async run(): Promise<{ status: HealthStatus; components: Record<string, HealthCheck> }> {
    const entries = await Promise.all(
      [...this.checks].map(async ([name, { check, vital }]) => [name, vital, await timed(check)] as const),
    );
    const failed = entries.filter(([, , result]) => result.status !== 'healthy');
    const status = failed.some(([, vital]) => vital) ? 'unhealthy' : failed.length > 0 ? 'degraded' : 'healthy';
    return { status, components: Object.fromEntries(entries.map(([name, , result]) => [name, result])) };
  }
}

async function timed(check: Check): Promise<HealthCheck> {
  const start = performance.now();
  const elapsed = (): number => Math.round((performance.now() - start) * 10) / 10;
  let timer: NodeJS.Timeout | undefined;
  try {
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error('no answer in time')), CHECK_TIMEOUT_MS);
    });
    const details = await Promise.race([check(), late]);
    return { status: 'healthy', responseTimeMs: elapsed(), ...(details ? { details } : {}) };
  } catch (error) {
    const details = error instanceof CheckFailed ? { details: error.details } : {};
    return { status: 'unhealthy', responseTimeMs: elapsed(), ...details };
  } finally {
    clearTimeout(timer);
  }
}
