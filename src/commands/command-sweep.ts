import { Injectable } from '@nestjs/common';
import { In } from 'typeorm';
import { AgentStatusChanged } from '../agents/agents.events.js';
import { Database } from '../platform/database/index.js';
import { OnEvent, type StoredEvent } from '../platform/events/index.js';
import { parsePublicId } from '../platform/ids/index.js';
import { HandleJob, type JobDefinition, JobQueue } from '../platform/jobs/index.js';
import { finishHeld } from './agent-reports.js';
import type { CommandTransition } from './command-draft.js';
import { isFinal } from './command-status.js';
import { CommandWriter } from './command-writer.js';
import { Command } from './command.entity.js';
import { runJob, SendCallback, SweepCommands } from './commands.jobs.js';
import { claimOverdue, findDueCallbacks, findDueRuns } from './commands.queries.js';

const BATCH = 200;
/** The same due work is queued again at most this often, should its job have been lost. */
const REQUEUE_MS = 10_000;

/** Ends what is overdue and restarts what was left lying; safe to run twice or in two processes. */
@Injectable()
export class CommandSweep {
  constructor(
    private readonly db: Database,
    private readonly writer: CommandWriter,
    private readonly jobs: JobQueue,
  ) {}

  @HandleJob(SweepCommands)
  async sweep(): Promise<void> {
    while ((await this.endOverdue()) === BATCH);
    await this.restartDue();
  }

  private async endOverdue(): Promise<number> {
    return this.db.transaction(async (tx) => {
      const ids = await claimOverdue(tx, BATCH);
      if (ids.length > 0) await this.writer.change(tx, ids, giveUpOverdue);
      return ids.length;
    });
  }

  /** What an agent had when it was deregistered ends now: nobody will report on it. */
  @OnEvent(AgentStatusChanged, { handler: 'commands.end-deregistered', queue: 'commands' })
  async endDeregistered({ data }: StoredEvent<{ agent_id: string; status: string }>): Promise<void> {
    if (data.status !== 'deregistered') return;
    const agentId = parsePublicId('agent', data.agent_id);
    if (agentId === null) return;
    while ((await this.endSomeOf(agentId)) === BATCH);
  }

  private endSomeOf(agentId: string): Promise<number> {
    return this.db.transaction(async (tx) => {
      // A request to an endpoint that is under way ends by its answer.
      const open = await tx.find(Command, {
        select: { id: true },
        where: [
          { agentId, status: In(['queued', 'delivered']) },
          { agentId, status: 'running', executor: 'link' },
        ],
        take: BATCH,
      });
      const ids = open.map(({ id }) => id);
      if (ids.length > 0) await this.writer.change(tx, ids, giveUpDeregistered);
      return ids.length;
    });
  }

  private async restartDue(): Promise<void> {
    const round = Math.floor(Date.now() / REQUEUE_MS);
    const runs = await findDueRuns(this.db, BATCH);
    const callbacks = await findDueCallbacks(this.db, BATCH);
    await this.jobs.enqueueMany([
      // Runs that still wait for a worker too: they have become more urgent meanwhile.
      ...runs.map((run) => runJob(run, round)),
      ...callbacks.map(({ id, callbackAttempts: attempt }) => ({
        job: SendCallback as JobDefinition<unknown>,
        payload: { commandId: id, attempt },
        options: { jobId: `${id}-${attempt}-${round}` },
      })),
    ]);
  }
}

function giveUpDeregistered(transition: CommandTransition): void {
  const { row } = transition;
  if (row.status === 'queued') {
    transition.giveUp('failed', {
      code: 'AGENT_GONE',
      message: 'The agent was deregistered before it got the command',
    });
  } else if (row.executor === 'link' && !isFinal(row.status)) {
    const message = 'The agent was deregistered while it had the command: whether it did its work cannot be told';
    transition.giveUp('failed', { code: 'UNKNOWN_OUTCOME', message });
  }
}

function giveUpOverdue(transition: CommandTransition): void {
  if (transition.row.heldResult !== null) {
    finishHeld(transition);
    return;
  }
  const message =
    transition.row.status === 'queued'
      ? 'The command expired before it was delivered'
      : 'The command did not end in time';
  transition.giveUp('timed_out', { code: 'TIMEOUT', message });
}
