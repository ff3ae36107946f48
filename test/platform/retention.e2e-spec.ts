import type { INestApplicationContext } from '@nestjs/common';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { runDetached } from '../../src/platform/context/index.js';
import { Database } from '../../src/platform/database/index.js';
import { JobRegistry } from '../../src/platform/jobs/index.js';
import { Metrics } from '../../src/platform/observability/index.js';
import { Retention, type RetentionRun } from '../../src/platform/retention/index.js';
import { createTestDatabase, type TestDatabase } from '../support/test-database.js';
import { startPlatform } from './harness.js';

const DAY_MS = 86_400_000;

let database: TestDatabase;
let app: INestApplicationContext;
let retention: Retention;

beforeEach(async () => {
  database = await createTestDatabase();
  app = await startPlatform(database.url, [], {
    NEXUS_DEAD_LETTER_RETENTION_DAYS: '3',
    NEXUS_TASK_RETENTION_DAYS: '5',
    NEXUS_ROLE: 'api',
  });
  retention = app.get(Retention);
});
afterEach(async () => {
  await app.close();
  await database.drop();
});

/** Dead letters that are so many days old. */
async function letters(days: number, count = 1): Promise<void> {
  await app.get(Database).query(
    `INSERT INTO event_dead_letters (handler, event_id, event_type, event, error, attempts, failed_at)
     SELECT $1, gen_random_uuid(), 'thing.made', '{}', 'no', 1, now() - make_interval(hours => $2)
     FROM generate_series(1, $3)`,
    [`${days} days`, days * 24, count],
  );
}

async function left(): Promise<string[]> {
  const rows = await app
    .get(Database)
    .query<{ handler: string }>('SELECT DISTINCT handler FROM event_dead_letters ORDER BY 1');
  return rows.map(({ handler }) => handler);
}

async function metric(name: string): Promise<string[]> {
  const { text } = await app.get(Metrics).render(false);
  return text.split('\n').filter((line) => line.startsWith(name));
}

describe('Retention', () => {
  it('deletes what is older than the days of its rule in batches, once an hour, and counts it', async () => {
    await letters(2);
    await letters(4, 2500);
    await app.get(JobRegistry).get('retention.enforce')!.run({}, { jobId: '1', attempt: 1, signal: never() });
    expect(await left()).toEqual(['2 days']);
    expect(await metric('nexus_retention_deleted_total')).toEqual([
      'nexus_retention_deleted_total{table="event_dead_letters"} 2500',
    ]);
    expect(app.get(JobRegistry).get('retention.enforce')!.definition.everyMs).toBe(3_600_000);
    await retention.enforce(Date.now() + 2 * DAY_MS);
    expect(await left()).toEqual([]);
  });

  it('goes on after a failure, and fails in the end', async () => {
    await letters(4);
    retention.contribute('broken', () => Promise.reject(new Error('no such table')));
    const db = app.get(Database);
    await db.query('ALTER TABLE events RENAME TO away');
    await expect(retention.run()).rejects.toThrow(AggregateError);
    await db.query('ALTER TABLE away RENAME TO events');
    expect(await left()).toEqual([]);
    expect(await metric('nexus_retention_failures_total')).toEqual([
      'nexus_retention_failures_total{table="broken"} 1',
      'nexus_retention_failures_total{table="events"} 1',
    ]);
  });

  it('leaves a row that somebody else is changing to the next run', async () => {
    await letters(4);
    await letters(5);
    await app.get(Database).transaction(async (tx) => {
      await tx.query(`UPDATE event_dead_letters SET failed_at = now() WHERE handler = '4 days'`);
      await runDetached(() => retention.run());
    });
    expect(await left()).toEqual(['4 days']);
  });

  it('deletes nothing while the clocks disagree, and tells those that drop partitions', async () => {
    await letters(4);
    const runs: RetentionRun[] = [];
    retention.contribute('partitioned', (run) => Promise.resolve(void runs.push(run)));
    const clock = vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 40 * DAY_MS);
    try {
      await retention.run();
    } finally {
      clock.mockRestore();
    }
    expect(await left()).toEqual(['4 days']);
    await retention.run();
    expect(runs.map(({ clocksAgree }) => clocksAgree)).toEqual([false, true]);
    expect(runs.every(({ now }) => Math.abs(now - Date.now()) < DAY_MS)).toBe(true);
    expect(await left()).toEqual([]);
  });

  it('stops between two batches when the worker stops', async () => {
    await letters(4);
    await expect(retention.run({}, { signal: AbortSignal.abort(new Error('stopping')) })).rejects.toThrow('stopping');
    expect(await left()).toEqual(['4 days']);
  });
});

function never(): AbortSignal {
  return new AbortController().signal;
}
