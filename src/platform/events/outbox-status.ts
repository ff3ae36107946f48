import { setTimeout as delay } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { Database } from '../database/index.js';
import { JobQueue } from '../jobs/index.js';
import { failuresByHandler } from './dead-letters.queries.js';
import { EventHandlers } from './event-handlers.js';
import { countUnrelayed } from './outbox.queries.js';

const COUNTED = 10_000;
const ANSWER_MS = 2000;

interface QueueDepth {
  queue: string;
  waiting: number;
  active: number;
  delayed: number;
  failed: number;
}

/** How far events are on their way to their subscribers. */
@Injectable()
export class OutboxStatus {
  constructor(
    private readonly db: Database,
    private readonly jobs: JobQueue,
    private readonly handlers: EventHandlers,
  ) {}

  /** `queues` is null when they do not answer; unrelayed events are counted up to ten thousand. */
  async read(): Promise<{
    relay: { unrelayed: number; exact: boolean; lagMs: number };
    failures: { handler: string; failed: number; lastFailedAt: Date }[];
    queues: QueueDepth[] | null;
  }> {
    const { unrelayed, lagMs } = await countUnrelayed(this.db.manager, COUNTED + 1);
    const failures = await failuresByHandler(this.db);
    const relay = {
      unrelayed: Math.min(unrelayed, COUNTED),
      exact: unrelayed <= COUNTED,
      lagMs: Math.max(0, Math.round(lagMs)),
    };
    return { relay, failures, queues: await this.depths() };
  }

  private async depths(): Promise<QueueDepth[] | null> {
    const late = new AbortController();
    const asking = Promise.all(this.handlers.queues().map((queue) => this.depthOf(queue))).catch(() => null);
    try {
      return await Promise.race([asking, delay(ANSWER_MS, null, { signal: late.signal })]);
    } finally {
      late.abort();
    }
  }

  private async depthOf(queue: string): Promise<QueueDepth> {
    const counts = await this.jobs.queue(queue).getJobCounts('waiting', 'prioritized', 'active', 'delayed', 'failed');
    const { waiting = 0, prioritized = 0, active = 0, delayed = 0, failed = 0 } = counts;
    return { queue, waiting: waiting + prioritized, active, delayed, failed };
  }
}
