import { Injectable } from '@nestjs/common';
import { runDetached } from '../context/index.js';
import { Database } from '../database/index.js';
import { Logger } from '../observability/index.js';
import { isFrequent, type JobDefinition } from './job-definition.js';
import { JobRegistry } from './job-registry.js';
import { addClaims, claimDue } from './schedules.queries.js';

const MAX_PAUSE_MS = 1000;

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
      await addClaims(
        this.db.manager,
        definitions.map(({ name }) => name),
      );
      this.known = true;
    }
    const free = definitions.filter(({ name }) => !this.running.has(name));
    const due = await claimDue(this.db.manager, free);
    for (const job of this.stopped ? [] : due) {
      const definition = free.find(({ name }) => name === job) as JobDefinition<unknown>;
      this.running.add(job);
      void run(definition).finally(() => this.running.delete(job));
    }
  }
}
