import type { EntityManager } from 'typeorm';
import type { Database, Tx } from '../database/index.js';
import type { BackgroundTaskLog } from './background-task-log.entity.js';
import type { BackgroundTask } from './background-task.entity.js';
import type { TaskDefinition } from './task-definition.js';

/** A run that has not shown itself for so long died with its process. Another process resumes it within 30 s. */
const SILENCE_SECONDS = 15;
/** What was given to a worker and not begun is given again. */
const AGAIN_SECONDS = 30;
const DISPATCH = 200;
const KEPT_LOG_LINES = 1000;

const OVERDUE = `(status = 'queued' AND run_at <= now()
   OR status = 'running' AND heartbeat_at < now() - interval '${SILENCE_SECONDS} seconds')`;

/** A task that is to be given to a worker. */
export type DueTask = Pick<BackgroundTask, 'id' | 'kind' | 'dispatches'>;

/** A task that this process alone may write to, until somebody else claims it or it is cancelled. */
export type ClaimedTask = Pick<
  BackgroundTask<object>,
  | 'id'
  | 'kind'
  | 'input'
  | 'checkpoint'
  | 'details'
  | 'steps'
  | 'currentStep'
  | 'progress'
  | 'attempt'
  | 'failures'
  | 'createdBy'
>;

/** What a run says of itself, as it is written down. */
export type RunState = Readonly<Pick<BackgroundTask, 'id' | 'attempt' | 'progress' | 'currentStep' | 'details'>> & {
  readonly steps: readonly BackgroundTask['steps'][number][];
};

/** How a run has ended. */
export type Outcome = { status: BackgroundTask['status'] & ('completed' | 'failed') } & Partial<
  Pick<BackgroundTask, 'result' | 'error'>
>;

export type LogEntry = Pick<BackgroundTaskLog, 'at' | 'level' | 'message'>;

/** How many wait and run of each kind. SQL: counts by group. */
export function countOpen(db: Database): Promise<(Pick<BackgroundTask, 'kind' | 'status'> & { n: number })[]> {
  return db.query(
    `SELECT kind, status, count(*)::int AS n FROM background_tasks WHERE status IN ('queued', 'running')
     GROUP BY kind, status`,
  );
}

/** What some worker is to begin now, as far as the limits of the kinds allow; given out again only after a while. SQL: ranks and claims in one statement. */
export async function takeDue(db: EntityManager, kinds: readonly TaskDefinition<object, object>[]): Promise<DueTask[]> {
  const [rows] = await db.query<[DueTask[], number]>(
    `WITH due AS (
       SELECT t.id, row_number() OVER (PARTITION BY t.kind ORDER BY t.status DESC, t.created_at, t.id) AS place,
         k.most - (SELECT count(*) FROM background_tasks r WHERE r.kind = t.kind AND r.status = 'running'
                     AND r.heartbeat_at >= now() - interval '${SILENCE_SECONDS} seconds') AS free
       FROM background_tasks t JOIN unnest($1::text[], $2::int[]) AS k (kind, most) USING (kind) WHERE ${OVERDUE}
     )
     UPDATE background_tasks t SET dispatched_at = now(), dispatches = t.dispatches + 1
     FROM due WHERE t.id = due.id AND due.place <= due.free AND due.place <= ${DISPATCH}
       AND (t.dispatched_at IS NULL OR t.dispatched_at < now() - interval '${AGAIN_SECONDS} seconds')
     RETURNING t.id, t.kind, t.dispatches`,
    [kinds.map((k) => k.kind), kinds.map((k) => k.concurrency)],
  );
  return rows;
}

/** After they could not be given to a worker. SQL: no change of the task, whose time of change stays. */
export async function undispatch(db: EntityManager, ids: readonly string[]): Promise<void> {
  await db.query(`UPDATE background_tasks SET dispatched_at = NULL WHERE id = ANY ($1::uuid[])`, [ids]);
}

/** Begins a run, if the task waits for one and no more of its kind run than may. SQL: by the clock that heartbeats are set by. */
export async function claimTask(
  tx: Tx,
  id: string,
  { kind, concurrency }: TaskDefinition<object, object>,
): Promise<ClaimedTask | null> {
  const [[row]] = await tx.query<[ClaimedTask[], number]>(
    `UPDATE background_tasks SET status = 'running', attempt = attempt + 1, heartbeat_at = now(), updated_at = now(),
         failures = failures + CASE WHEN status = 'running' THEN 1 ELSE 0 END, started_at = coalesce(started_at, now())
       WHERE id = $1 AND kind = $2 AND ${OVERDUE}
         AND $3 > (SELECT count(*) FROM background_tasks r WHERE r.kind = $2 AND r.status = 'running' AND r.id <> $1
                     AND r.heartbeat_at >= now() - interval '${SILENCE_SECONDS} seconds')
       RETURNING id, kind, input, checkpoint, details, steps, current_step AS "currentStep", progress,
           attempt, failures, created_by AS "createdBy"`,
    [id, kind, concurrency],
  );
  return row ?? null;
}

/** Shows that these runs live and writes what they say. SQL: one statement a second for all. @returns those whose task is still theirs */
export async function beat<Run extends RunState>(db: EntityManager, runs: readonly Run[]): Promise<Run[]> {
  const [rows] = await db.query<[Pick<BackgroundTask, 'id' | 'attempt'>[], number]>(
    `UPDATE background_tasks t SET heartbeat_at = now(), updated_at = now(), progress = r.progress, steps = r.steps,
       current_step = r.current_step, details = r.details
     FROM unnest($1::uuid[], $2::int[], $3::float8[], $4::jsonb[], $5::text[], $6::jsonb[])
       AS r (id, attempt, progress, steps, current_step, details)
     WHERE t.id = r.id AND t.attempt = r.attempt AND t.status = 'running' RETURNING t.id, t.attempt`,
    [
      runs.map((r) => r.id),
      runs.map((r) => r.attempt),
      runs.map((r) => r.progress),
      runs.map((r) => JSON.stringify(r.steps)),
      runs.map((r) => r.currentStep),
      runs.map((r) => JSON.stringify(r.details)),
    ],
  );
  return runs.filter((run) => rows.some(({ id, attempt }) => id === run.id && attempt === run.attempt));
}

/** Keeps the state of a run. SQL: by the clock that heartbeats are compared with. @returns whether the task is still this run's */
export async function keepCheckpoint(db: EntityManager, run: RunState, state: object): Promise<boolean> {
  const [, count] = await db.query<[unknown, number]>(
    `UPDATE background_tasks SET checkpoint = $3, failures = 0, heartbeat_at = now(), updated_at = now(), progress = $4,
       steps = $5, current_step = $6, details = $7
     WHERE id = $1 AND attempt = $2 AND status = 'running'`,
    [
      run.id,
      run.attempt,
      JSON.stringify(state),
      run.progress,
      JSON.stringify(run.steps),
      run.currentStep,
      JSON.stringify(run.details),
    ],
  );
  return count === 1;
}

/** SQL: like {@link keepCheckpoint}. @returns whether the task was still this run's */
export async function finishTask(db: EntityManager, run: RunState, outcome: Outcome): Promise<boolean> {
  const [, count] = await db.query<[unknown, number]>(
    `UPDATE background_tasks SET status = $3, result = $4, error = $5, progress = $6, steps = $7, current_step = $8,
       details = $9, heartbeat_at = NULL, finished_at = now(), updated_at = now()
     WHERE id = $1 AND attempt = $2 AND status = 'running'`,
    [
      run.id,
      run.attempt,
      outcome.status,
      outcome.result ? JSON.stringify(outcome.result) : null,
      outcome.error ? JSON.stringify(outcome.error) : null,
      run.progress,
      JSON.stringify(run.steps),
      run.currentStep,
      JSON.stringify(run.details),
    ],
  );
  return count === 1;
}

/** Leaves the task to a later run. SQL: counts its failures on. */
export async function putBack(
  db: EntityManager,
  { id, attempt }: RunState,
  pauseMs: number,
  failed: boolean,
): Promise<void> {
  await db.query(
    `UPDATE background_tasks SET status = 'queued', heartbeat_at = NULL, dispatched_at = NULL, updated_at = now(),
       run_at = now() + $3 * interval '1 millisecond', failures = failures + $4
     WHERE id = $1 AND attempt = $2 AND status = 'running'`,
    [id, attempt, pauseMs, failed ? 1 : 0],
  );
}

/** Adds lines to the log of a task, unless that is gone, and drops the oldest of too many. SQL: many lines in one statement. */
export async function addLog(db: EntityManager, id: string, entries: readonly LogEntry[]): Promise<void> {
  await db.query(
    `INSERT INTO background_task_logs (task_id, at, level, message)
     SELECT t.id, l.at, l.level, l.message
     FROM background_tasks t, unnest($2::timestamptz[], $3::text[], $4::text[]) WITH ORDINALITY AS l (at, level, message, n)
     WHERE t.id = $1 ORDER BY l.n`,
    [id, entries.map((e) => e.at), entries.map((e) => e.level), entries.map((e) => e.message)],
  );
  await db.query(
    `DELETE FROM background_task_logs WHERE task_id = $1 AND n <= (
       SELECT n FROM background_task_logs WHERE task_id = $1 ORDER BY n DESC OFFSET ${KEPT_LOG_LINES} LIMIT 1)`,
    [id],
  );
}
