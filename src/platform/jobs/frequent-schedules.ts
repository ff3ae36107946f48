import { Injectable } from '@nestjs/common';
import { runDetached } from '../context/index.js';
import { Database, prepared } from '../database/index.js';
import { Logger } from '../observability/index.js';
import { isFrequent, type JobDefinition } from './job-definition.js';
import { JobRegistry } from './job-registry.js';

const MAX_PAUSE_MS = 1000;

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

/**
 * Runs the jobs that are repeated within a minute, each once across all workers: one statement a second claims what is due. As jobs of a
 * queue they cost the idle server most of its work. A run that is cut off is made up for by the next.
 */
@Injectable()
export class FrequentSchedules {
  private timer: NodeJS.Timeout | undefined;
  private claiming: Promise<void> | undefined;
  private readonly running = new Set<string>();
  private known = false;
  private stopped = false;

  constructor(
    private readonly db: Database,
    private readonly registry: JobRegistry,
    private readonly logger: Logger,
  ) {}

  /** Calls `run`, which never rejects, with each job that this process is to run; none of them twice at a time. */
  start(run: (definition: JobDefinition<unknown>) => Promise<void>): void {
    const definitions = this.registry
      .all()
      .map(({ definition }) => definition)
      .filter(isFrequent);
    if (definitions.length === 0) return;
    const begin = (): void => {
      this.claiming ??= runDetached(() => this.runDue(definitions, run))
        .catch((error: unknown) => {
          if (this.stopped) return;
          this.known = false;
          this.logger.warnRepeated('schedules', { err: String(error) }, 'Schedules could not be run; trying again');
        })
        .finally(() => (this.claiming = undefined));
    };
    this.timer = setInterval(begin, Math.min(MAX_PAUSE_MS, ...definitions.map(({ everyMs }) => everyMs)));
    begin();
  }

  stop(): void {
    this.stopped = true;
    clearInterval(this.timer);
  }

  private async runDue(
    definitions: (JobDefinition<unknown> & { everyMs: number })[],
    run: (definition: JobDefinition<unknown>) => Promise<void>,
  ): Promise<void> {
    if (!this.known) {
      await this.db.query('INSERT INTO schedule_claims (job) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING', [
        definitions.map(({ name }) => name).sort(),
      ]);
      this.known = true;
    }
    const free = definitions.filter(({ name }) => !this.running.has(name));
    const [due] = await this.db.query<{ job: string }[]>(CLAIM, [
      free.map(({ name }) => name),
      free.map(({ everyMs }) => everyMs),
    ]);
    for (const { job } of this.stopped ? [] : due) {
      const definition = free.find(({ name }) => name === job) as JobDefinition<unknown>;
      this.running.add(job);
      void run(definition).finally(() => this.running.delete(job));
    }
  }
}
