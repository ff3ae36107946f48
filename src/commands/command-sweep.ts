import { Injectable } from '@nestjs/common';
import { Settings } from '../platform/config/index.js';
import { Database } from '../platform/database/index.js';
import { HandleJob, JobQueue } from '../platform/jobs/index.js';
import { finishHeld } from './agent-reports.js';
import { CommandDispatch } from './command-dispatch.js';
import type { CommandDraft } from './command-draft.js';
import { CommandWriter } from './command-writer.js';
import { PurgeCommands, RunCommand, SendCallback, SweepCommands } from './commands.jobs.js';

const BATCH = 200;
/** The same due work is queued again at most this often, should its job have been lost. */
const REQUEUE_MS = 10_000;

/** Ends what is overdue and restarts what was left lying; safe to run twice or in two processes (row CMD-11). */
@Injectable()
export class CommandSweep {
  constructor(
    private readonly db: Database,
    private readonly writer: CommandWriter,
    private readonly dispatch: CommandDispatch,
    private readonly jobs: JobQueue,
    private readonly settings: Settings,
  ) {}

  @HandleJob(SweepCommands)
  async sweep(): Promise<void> {
    while ((await this.endOverdue()) === BATCH);
    await this.restartDue();
  }

  private async endOverdue(): Promise<number> {
    let ended: CommandDraft[] = [];
    await this.db.transaction(async (tx) => {
      const overdue = await tx.query<{ id: string }[]>(
        `SELECT id FROM commands
         WHERE status IN ('queued', 'delivered', 'running') AND deadline_at <= now()
         ORDER BY deadline_at LIMIT ${BATCH} FOR UPDATE SKIP LOCKED`,
      );
      const ids = overdue.map(({ id }) => id);
      ended = ids.length > 0 ? await this.writer.change(tx, ids, giveUpOverdue) : [];
    });
    for (const { row } of ended) {
      if (row.status !== 'timed_out' || row.delivered_at === null || row.agent_id === null) continue;
      this.dispatch.cancel(row.agent_id, row.id, 'The command has run out of time');
    }
    return ended.length;
  }

  private async restartDue(): Promise<void> {
    const round = Math.floor(Date.now() / REQUEUE_MS);
    const runs = await this.db.query<{ id: string; attempt: number }>(
      `SELECT id, attempts AS attempt FROM commands
       WHERE due_at <= now() AND status IN ('queued', 'running') AND deadline_at > now() ORDER BY due_at LIMIT ${BATCH}`,
    );
    const callbacks = await this.db.query<{ id: string; attempt: number }>(
      `SELECT id, callback_attempts AS attempt FROM commands
       WHERE callback_due_at <= now() ORDER BY callback_due_at LIMIT ${BATCH}`,
    );
    const again = (job: typeof RunCommand, rows: { id: string; attempt: number }[]) =>
      rows.map(({ id, attempt }) => ({
        job: job as Parameters<JobQueue['enqueueMany']>[0][number]['job'],
        payload: { commandId: id, attempt },
        options: { jobId: `${id}-${attempt}-${round}` },
      }));
    await this.jobs.enqueueMany([...again(RunCommand, runs), ...again(SendCallback, callbacks)]);
  }

  /** Children go with their parents, output with its command. */
  @HandleJob(PurgeCommands)
  async purge(): Promise<number> {
    let purged = 0;
    for (;;) {
      const [, count] = await this.db.query<unknown>(
        `DELETE FROM commands WHERE id IN (
           SELECT id FROM commands
           WHERE completed_at < now() - make_interval(days => $1) AND parent_id IS NULL LIMIT ${BATCH})`,
        [this.settings.commandRetentionDays],
      );
      purged += Number(count);
      if (Number(count) < BATCH) return purged;
    }
  }
}

function giveUpOverdue(draft: CommandDraft): void {
  if (draft.row.held_result !== null) {
    finishHeld(draft);
    return;
  }
  const message =
    draft.row.status === 'queued' ? 'The command expired before it was delivered' : 'The command did not end in time';
  draft.giveUp('timed_out', { code: 'TIMEOUT', message });
}
