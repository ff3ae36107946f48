import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Long operations with their progress and logs (rows JOB-02, JOB-07). */
export class CreateBackgroundTasks1763720000000 implements MigrationInterface {
  readonly name = 'CreateBackgroundTasks1763720000000';

  async up(db: QueryRunner): Promise<void> {
    await db.query(`
      CREATE TABLE background_tasks (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        kind text NOT NULL,
        status text NOT NULL DEFAULT 'queued'
          CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
        progress double precision NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),
        steps jsonb NOT NULL,
        current_step text,
        input jsonb NOT NULL,
        details jsonb NOT NULL DEFAULT '{}',
        checkpoint jsonb,
        result jsonb,
        error jsonb,
        created_by text NOT NULL,
        request_id text,
        attempt integer NOT NULL DEFAULT 0,
        failures integer NOT NULL DEFAULT 0,
        run_at timestamptz(3) NOT NULL DEFAULT now(),
        heartbeat_at timestamptz(3),
        dispatched_at timestamptz(3),
        dispatches integer NOT NULL DEFAULT 0,
        cancelled_by text,
        created_at timestamptz(3) NOT NULL DEFAULT now(),
        started_at timestamptz(3),
        updated_at timestamptz(3) NOT NULL DEFAULT now(),
        finished_at timestamptz(3),
        CHECK ((status = 'running') = (heartbeat_at IS NOT NULL)),
        CHECK ((status IN ('queued', 'running')) = (finished_at IS NULL)),
        CHECK ((status = 'cancelled') = (cancelled_by IS NOT NULL))
      )`);
    await db.query(`
      CREATE INDEX background_tasks_open ON background_tasks (kind, created_at) WHERE status IN ('queued', 'running')`);
    await db.query(`CREATE INDEX background_tasks_newest ON background_tasks (created_at DESC, id DESC)`);
    await db.query(`
      CREATE INDEX background_tasks_finished ON background_tasks (finished_at) WHERE finished_at IS NOT NULL`);
    await db.query(`
      CREATE TABLE background_task_logs (
        task_id uuid NOT NULL REFERENCES background_tasks ON DELETE CASCADE,
        n bigint GENERATED ALWAYS AS IDENTITY,
        at timestamptz(3) NOT NULL,
        level text NOT NULL CHECK (level IN ('info', 'warn', 'error')),
        message text NOT NULL,
        PRIMARY KEY (task_id, n)
      )`);
  }

  async down(db: QueryRunner): Promise<void> {
    await db.query(`DROP TABLE background_task_logs`);
    await db.query(`DROP TABLE background_tasks`);
  }
}
