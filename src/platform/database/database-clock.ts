import { Injectable, type OnModuleInit } from '@nestjs/common';
import { CheckFailed, HealthRegistry } from '../observability/index.js';
import { Database } from './database.js';

/** How far the clocks of a process and of the database may be apart. */
const MAX_CLOCK_SKEW_MS = 2000;
/** Partitions that are dropped in one run while the clocks disagree: one of them is wrong, perhaps by months. */
export const CAREFUL_DROPS = 2;

/** The clock that retention goes by, and whether it agrees with the one of this process. */
@Injectable()
export class DatabaseClock implements OnModuleInit {
  constructor(
    private readonly db: Database,
    private readonly health: HealthRegistry,
  ) {}

  onModuleInit(): void {
    this.health.register('clock', async () => {
      const { skewMs, agrees } = await this.read();
      if (!agrees) throw new CheckFailed('The clocks disagree', { skew_ms: skewMs, retention: 'limited' });
      return { skew_ms: skewMs };
    });
  }

  /** `now` is the database's time in ms. */
  async read(): Promise<{ now: number; skewMs: number; agrees: boolean }> {
    const sentAt = Date.now();
    const [{ now }] = await this.db.query<{ now: number }>(
      'SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS now',
    );
    // The database read its clock at some moment in between.
    const skewMs = Math.round(Math.max(sentAt - now, now - Date.now(), 0));
    return { now: Math.floor(now), skewMs, agrees: skewMs <= MAX_CLOCK_SKEW_MS };
  }
}
