import { createHash, randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { type Actor, currentContext } from '../platform/context/index.js';
import { Database, findForUpdate, type Tx } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { EventBus } from '../platform/events/index.js';
import { publicId } from '../platform/ids/index.js';
import { CommandDispatch } from './command-dispatch.js';
import type { CommandTransition } from './command-draft.js';
import { type CommandPlan, CommandPlanner, type PlannedTarget } from './command-plan.js';
import { CommandQueries } from './command-queries.service.js';
import { isFinal, priorityWord } from './command-status.js';
import type { CommandView } from './command-view.js';
import { CommandWriter } from './command-writer.js';
import { Command } from './command.entity.js';
import { type CommandEventData, CommandQueued } from './commands.events.js';
import type { CreateCommandDto } from './commands.dto.js';
import { findByKey, insertCommands, type NewCommand } from './commands.queries.js';

/** If the job behind a command of the server's own is lost, the sweep starts it after this. */
const REDRIVE_MS = 5000;

export interface AcceptedCommand {
  command: CommandView;
  children: string[];
  estimatedCompletion: Date;
  /** True when this is the answer to an earlier request with the same key. */
  replayed: boolean;
}

/** Accepts, repeats and cancels commands. */
@Injectable()
export class CommandsService {
  constructor(
    private readonly db: Database,
    private readonly planner: CommandPlanner,
    private readonly queries: CommandQueries,
    private readonly dispatch: CommandDispatch,
    private readonly writer: CommandWriter,
    private readonly events: EventBus,
  ) {}

  /**
   * Accepts a command: once this returns it is stored and will be delivered or will expire.
   * @throws AppError as {@link CommandPlanner.plan}; `conflict` when the idempotency key was used with another body
   */
  async create(actor: Actor, dto: CreateCommandDto, retryOf: string | null = null): Promise<AcceptedCommand> {
    const key = dto.idempotency_key ?? null;
    const hash = key === null ? null : hashOf(dto);
    if (key !== null) {
      const earlier = await findByKey(this.db, actor.id, key);
      if (earlier) return this.replay(earlier, hash);
    }
    const plan = await this.planner.plan(actor, dto);
    const rows = rowsOf(actor, plan, retryOf, key, hash);
    const [first, ...children] = rows;
    const stored = await this.db.transaction(async (tx) => {
      if (!(await insertCommands(tx, rows))) return false;
      await this.events.publishMany(
        tx,
        rows.map((row) => ({ event: CommandQueued, subject: publicId('cmd', row.id), data: queuedData(row) })),
      );
      const context = currentContext();
      if (context) context.resourceId = publicId('cmd', first.id);
      this.db.afterCommit(tx, () => this.send(rows));
      return true;
    });
    if (!stored) return this.replay(await findByKey(this.db, actor.id, key as string), hash);
    return this.accepted(first, children, false);
  }

  /** A new command like a finished one. @throws AppError `conflict` while the command is not finished */
  async retry(actor: Actor, id: string): Promise<AcceptedCommand> {
    const old = await this.queries.get(actor, id);
    if (!isFinal(old.status)) throw AppError.conflict(`A ${old.status} command cannot be retried`);
    return this.create(
      actor,
      {
        command_type: old.commandType,
        target: old.agentId && old.parentId ? publicId('agent', old.agentId) : old.target,
        parameters: old.parameters,
        priority: priorityWord(old.priority),
        timeout_seconds: old.timeoutSeconds,
        callback_url: old.callbackUrl ?? undefined,
      },
      id,
    );
  }

  /**
   * Cancels a command and, of a parent, all its children; whoever runs one is told to stop.
   * @throws AppError `conflict` when it has finished otherwise
   */
  async cancel(actor: Actor, id: string, reason = 'Cancelled by request'): Promise<Date> {
    const command = await this.queries.get(actor, id);
    const linked: CommandTransition[] = [];
    const end = (transition: CommandTransition): void => {
      const ended = transition.giveUp('cancelled', { code: 'CANCELLED', message: reason }, `By ${actor.id}: ${reason}`);
      // A queued one too: its frame may be on the way.
      if (ended && transition.row.executor === 'link') linked.push(transition);
    };
    const cancelledAt = await this.db.transaction(async (tx) => {
      linked.length = 0;
      const family = await lockFamily(tx, id);
      await this.planner.assertMayCommandIds(
        actor,
        family.filter(({ executor }) => executor !== 'fanout').map(({ agentId }) => agentId),
      );
      const [own] = await this.writer.change(tx, [id], end);
      if (own?.row.status !== 'cancelled') {
        throw AppError.conflict(`A ${command.status} command cannot be cancelled`, { status: command.status });
      }
      const children = family.filter((member) => member.id !== id).map((member) => member.id);
      if (own.changed && children.length > 0) await this.writer.change(tx, children, end);
      return own.row.completedAt as Date;
    });
    for (const { row } of linked) if (row.agentId) this.dispatch.cancel(row.agentId, row.id, reason);
    return cancelledAt;
  }

  private send(rows: NewCommand[]): void {
    for (const row of rows) {
      if (row.executor === 'link' && row.agentId) this.dispatch.offer({ ...row, agentId: row.agentId });
    }
  }

  private async replay(
    earlier: Pick<Command, 'id' | 'idempotencyHash'> | undefined,
    hash: string | null,
  ): Promise<AcceptedCommand> {
    if (!earlier || earlier.idempotencyHash !== hash) {
      throw AppError.conflict('The idempotency_key was used for another command', {
        ...(earlier ? { command_id: publicId('cmd', earlier.id) } : {}),
      });
    }
    const { id } = earlier;
    const commands = this.db.repository(Command);
    const command = await commands.findOneByOrFail({ id });
    const children = await commands.find({ select: { id: true }, where: { parentId: id }, order: { id: 'ASC' } });
    return this.accepted(command, children, true);
  }

  private accepted(command: CommandView, children: Pick<Command, 'id'>[], replayed: boolean): AcceptedCommand {
    const expected = this.writer.typicalMs(command.commandType) ?? command.timeoutSeconds * 1000;
    return {
      command,
      children: children.map((child) => publicId('cmd', child.id)),
      estimatedCompletion: command.completedAt ?? new Date(command.createdAt.getTime() + expected),
      replayed,
    };
  }
}

/** Whom a command for several agents is for: nobody itself. */
type Fanout = Omit<PlannedTarget, 'name'> & { name: null };

/** One row for one target; for several a parent first, then a child for each. */
function rowsOf(
  actor: Actor,
  plan: CommandPlan,
  retryOf: string | null,
  key: string | null,
  hash: string | null,
): NewCommand[] {
  const now = new Date();
  const at = (ms: number): Date => new Date(now.getTime() + ms);
  const row = (id: string, target: string, { agentId, name, executor }: PlannedTarget | Fanout): NewCommand => ({
    id,
    parentId: null,
    retryOf,
    commandType: plan.type,
    target,
    agentId,
    executor,
    targetName: name,
    parameters: plan.parameters,
    priority: plan.priority,
    timeoutSeconds: plan.timeoutSeconds,
    status: 'queued',
    callbackUrl: plan.callbackUrl,
    createdBy: actor.id,
    credential: actor.credentialId,
    requestId: currentContext()?.requestId ?? null,
    idempotencyKey: key,
    idempotencyHash: hash,
    createdAt: now,
    deliveredAt: null,
    startedAt: null,
    completedAt: null,
    attempts: 0,
    deadlineAt: executor === 'fanout' ? null : at(plan.timeoutSeconds * 1000),
    dueAt: executor === 'builtin' || executor === 'http' ? at(REDRIVE_MS) : null,
    timeline: [
      {
        at: now.toISOString(),
        status: 'queued',
        ...(retryOf ? { detail: `Retry of ${publicId('cmd', retryOf)}` } : {}),
      },
    ],
  });
  const id = randomUUID();
  const [only, ...others] = plan.targets;
  if (others.length === 0) return [row(id, plan.target, only)];
  const children = plan.targets.map((target) => ({
    ...row(randomUUID(), target.name, target),
    parentId: id,
    retryOf: null,
    callbackUrl: null,
    idempotencyKey: null,
    idempotencyHash: null,
  }));
  return [row(id, plan.target, { agentId: null, name: null, executor: 'fanout' }), ...children];
}

function queuedData(row: NewCommand): CommandEventData {
  return {
    command_id: publicId('cmd', row.id),
    command_type: row.commandType,
    target: row.target,
    agent_id: row.agentId && publicId('agent', row.agentId),
    parent_id: row.parentId && publicId('cmd', row.parentId),
    source: row.targetName ?? row.createdBy,
    priority: priorityWord(row.priority),
    status: 'queued',
    substatus: 'queued',
  };
}

/** A command and its children, locked in the order in which everybody locks them: children before parents. */
async function lockFamily(tx: Tx, id: string): Promise<Pick<Command, 'id' | 'agentId' | 'executor'>[]> {
  const children = await tx.find(Command, {
    select: { id: true, agentId: true, executor: true },
    where: { parentId: id },
    order: { id: 'ASC' },
    lock: { mode: 'pessimistic_write' },
  });
  const own = await findForUpdate(tx, Command, { id });
  return own ? [...children, own] : children;
}

/** One hash for one meaning: the order of the keys does not matter. */
function hashOf(dto: CreateCommandDto): string {
  const sorted = (_key: string, value: unknown): unknown =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value;
  return createHash('sha256').update(JSON.stringify(dto, sorted)).digest('hex');
}
