import type { EntityManager } from 'typeorm';
import { prepared } from '../database/index.js';
import type { ScheduleRun } from './schedule-run.entity.js';

/** A schedule that is late by half a step or more starts over instead of catching up. */
const CLAIM = prepared(
  'schedules.claim',
  `UPDATE schedule_claims c SET next_run_at = due.step + CASE WHEN c.next_run_at > now() - due.step / 2 THEN c.next_run_at ELSE now() END
   FROM (
     SELECT job, d.ms * interval '1 millisecond' AS step
     FROM schedule_claims JOIN unnest($1::text[], $2::float8[]) AS d (job, ms) USING (job)
     WHERE next_run_at <= now() ORDER BY job FOR UPDATE OF schedule_claims SKIP LOCKED) AS due
   WHERE c.job = due.job RETURNING c.job`,
);

/** Adds jobs that are not there yet. SQL: in one statement for all, in the order in which others lock them. */
export async function addClaims(db: EntityManager, jobs: readonly string[]): Promise<void> {
  await db.query('INSERT INTO schedule_claims (job) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING', [
    [...jobs].sort(),
  ]);
}

/** Names of the jobs that are due, now claimed by the caller. SQL: a lease, taken with SKIP LOCKED. */
export async function claimDue(
  db: EntityManager,
  jobs: readonly { name: string; everyMs: number }[],
): Promise<string[]> {
  const [due] = await db.query<[{ job: string }[], number]>(CLAIM, [
    jobs.map(({ name }) => name),
    jobs.map(({ everyMs }) => everyMs),
  ]);
  return due.map(({ job }) => job);
}

/** Notes that these jobs have just run. SQL: in one statement for all, by the clock of the database. */
export async function noteRuns(db: EntityManager, jobs: readonly string[]): Promise<void> {
  await db.query(
    `INSERT INTO schedule_runs (job) SELECT unnest($1::text[])
     ON CONFLICT (job) DO UPDATE SET last_run_at = now()`,
    [jobs],
  );
}

/** When each job has last run, and how many milliseconds ago. SQL: the age by the clock that the runs were noted by. */
export function lastRuns(db: EntityManager): Promise<(ScheduleRun & { ageMs: number })[]> {
  return db.query(
    `SELECT job, last_run_at AS "lastRunAt", extract(epoch FROM now() - last_run_at)::float8 * 1000 AS "ageMs" FROM schedule_runs`,
  );
}
