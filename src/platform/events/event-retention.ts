import { Injectable } from '@nestjs/common';
import { Settings } from '../config/index.js';
import { Database } from '../database/index.js';
import { HandleJob, type JobContext } from '../jobs/index.js';
import { PurgeEvents } from './events.jobs.js';

/** Small enough to stay far below the statement timeout. */
const BATCH = 2000;

/** Keeps the outbox from growing for good. An event that was not relayed yet is never too old. */
@Injectable()
export class EventRetention {
  constructor(
    private readonly db: Database,
    private readonly settings: Settings,
  ) {}

  /** @returns how many events were deleted */
  @HandleJob(PurgeEvents)
  async purge(_payload: unknown, { signal }: Pick<JobContext, 'signal'>): Promise<number> {
    let deleted = 0;
    for (let last = BATCH; last === BATCH; deleted += last) {
      signal.throwIfAborted();
      last = await this.deleteBatch();
    }
    return deleted;
  }

  private async deleteBatch(): Promise<number> {
    const [, count] = await this.db.manager.query<[unknown, number]>(
      `DELETE FROM events WHERE id IN (
         SELECT id FROM events
         WHERE occurred_at < now() - make_interval(days => $1) AND relayed_at IS NOT NULL
         ORDER BY occurred_at LIMIT ${BATCH})`,
      [this.settings.eventRetentionDays],
    );
    return count;
  }
}
