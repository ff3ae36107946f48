import { createHash, randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { type Actor, currentContext } from '../platform/context/index.js';
import { Database, prepared, type Tx } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { EventBus } from '../platform/events/index.js';
import { publicId } from '../platform/http/index.js';
import { CommandDispatch } from './command-dispatch.js';
import type { CommandDraft } from './command-draft.js';
import { type CommandPlan, CommandPlanner, type PlannedTarget } from './command-plan.js';
import { CommandQueries } from './command-queries.service.js';
import { isFinal, priorityWord } from './command-status.js';
import { type CommandView, VIEW_COLUMNS } from './command-view.js';
import { CommandWriter } from './command-writer.js';
import { type CommandEventData, CommandQueued } from './commands.events.js';
import type { CreateCommandDto } from './commands.dto.js';

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
   * Accepts a command: once this returns it is stored and will be delivered or will expire (row CMD-01).
   * @throws AppError as {@link CommandPlanner.plan}; `conflict` when the idempotency key was used with another body
   */
  async create(actor: Actor, dto: CreateCommandDto, retryOf: string | null = null): Promise<AcceptedCommand> {
    const key = dto.idempotency_key ?? null;
    const hash = key === null ? null : hashOf(dto);
    if (key !== null) {
      const earlier = await findByKey(this.db.manager, actor.id, key);
      if (earlier) return this.replay(earlier, hash);
    }
    const plan = await this.planner.plan(actor, dto);
    const rows = rowsOf(actor, plan, retryOf, key, hash);
    const [first, ...children] = rows;
    const stored = await this.db.transaction(async (tx) => {
      if (!(await insert(tx, rows))) return false;
      await this.events.publishMany(
        tx,
        rows.map((row) => ({ event: CommandQueued, subject: publicId('cmd', row.id), data: queuedData(row) })),
      );
      const context = currentContext();
      if (context) context.resourceId = publicId('cmd', first.id);
      this.db.afterCommit(tx, () => this.send(rows));
      return true;
    });
    if (!stored) return this.replay(await findByKey(this.db.manager, actor.id, key as string), hash);
    return this.accepted(first, children, false);
  }

  /** A new command like a finished one (row CMD-07). @throws AppError `conflict` while the command is not finished */
  async retry(actor: Actor, id: string): Promise<AcceptedCommand> {
    const old = await this.queries.get(actor, id);
    if (!isFinal(old.status)) throw AppError.conflict(`A ${old.status} command cannot be retried`);
    return this.create(
      actor,
      {
        command_type: old.command_type,
        target: old.agent_id && old.parent_id ? publicId('agent', old.agent_id) : old.target,
        parameters: old.parameters,
        priority: priorityWord(old.priority),
        timeout_seconds: old.timeout_seconds,
        callback_url: old.callback_url ?? undefined,
      },
      id,
    );
  }

  /**
   * Cancels a command and, of a parent, all its children; whoever runs one is told to stop (row CMD-03).
   * @throws AppError `conflict` when it has finished otherwise
   */
  async cancel(actor: Actor, id: string, reason = 'Cancelled by request'): Promise<Date> {
    const command = await this.queries.get(actor, id);
    const linked: CommandDraft[] = [];
    const end = (draft: CommandDraft): void => {
      const ended = draft.giveUp('cancelled', { code: 'CANCELLED', message: reason }, `By ${actor.id}: ${reason}`);
      // A queued one too: its frame may be on the way.
      if (ended && draft.row.executor === 'link') linked.push(draft);
    };
    const cancelledAt = await this.db.transaction(async (tx) => {
      linked.length = 0;
      const family = await lockFamily(tx, id);
      await this.planner.assertMayCommandIds(
        actor,
        family.filter(({ executor }) => executor !== 'fanout').map(({ agent_id }) => agent_id),
      );
      const [own] = await this.writer.change(tx, [id], end);
      if (own?.row.status !== 'cancelled') {
        throw AppError.conflict(`A ${command.status} command cannot be cancelled`, { status: command.status });
      }
      const children = family.filter((member) => member.id !== id).map((member) => member.id);
      if (own.changed && children.length > 0) await this.writer.change(tx, children, end);
      return own.row.completed_at as Date;
    });
    for (const { row } of linked) if (row.agent_id) this.dispatch.cancel(row.agent_id, row.id, reason);
    return cancelledAt;
  }

  private send(rows: NewCommand[]): void {
    for (const row of rows) {
      if (row.executor === 'link' && row.agent_id) this.dispatch.offer({ ...row, agent_id: row.agent_id });
    }
  }

  private async replay(row: (CommandView & { idempotency_hash: string }) | null, hash: string | null) {
    if (!row || row.idempotency_hash !== hash) {
      throw AppError.conflict('The idempotency_key was used for another command', {
        ...(row ? { command_id: publicId('cmd', row.id) } : {}),
      });
    }
    const children = await this.db.query<CommandView>(
      `SELECT ${VIEW_COLUMNS} FROM commands WHERE parent_id = $1 ORDER BY id`,
      [row.id],
    );
    return this.accepted(row, children, true);
  }

  private accepted(command: CommandView, children: CommandView[], replayed: boolean): AcceptedCommand {
    const expected = this.writer.typicalMs(command.command_type) ?? command.timeout_seconds * 1000;
    return {
      command,
      children: children.map((child) => publicId('cmd', child.id)),
      estimatedCompletion: command.completed_at ?? new Date(command.created_at.getTime() + expected),
      replayed,
    };
  }
}

interface NewCommand extends CommandView {
  target_name: string | null;
  credential: string | null;
  request_id: string | null;
  idempotency_key: string | null;
  idempotency_hash: string | null;
  deadline_at: Date | null;
  due_at: Date | null;
  timeline: { at: string; status: string; detail?: string }[];
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
    parent_id: null,
    retry_of: retryOf,
    command_type: plan.type,
    target,
    agent_id: agentId,
    executor,
    target_name: name,
    parameters: plan.parameters,
    priority: plan.priority,
    timeout_seconds: plan.timeoutSeconds,
    status: 'queued',
    callback_url: plan.callbackUrl,
    created_by: actor.id,
    credential: actor.credentialId,
    request_id: currentContext()?.requestId ?? null,
    idempotency_key: key,
    idempotency_hash: hash,
    created_at: now,
    delivered_at: null,
    started_at: null,
    completed_at: null,
    attempts: 0,
    deadline_at: executor === 'fanout' ? null : at(plan.timeoutSeconds * 1000),
    due_at: executor === 'builtin' || executor === 'http' ? at(REDRIVE_MS) : null,
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
    parent_id: id,
    retry_of: null,
    callback_url: null,
    idempotency_key: null,
    idempotency_hash: null,
  }));
  return [row(id, plan.target, { agentId: null, name: null, executor: 'fanout' }), ...children];
}

const INSERT = prepared(
  'commands.create',
  `INSERT INTO commands (id, parent_id, retry_of, command_type, target, target_name, agent_id, executor, parameters, priority,
      timeout_seconds, status, callback_url, created_by, credential, request_id, idempotency_key, idempotency_hash,
      created_at, deadline_at, due_at, timeline)
    SELECT id, parent_id, retry_of, command_type, target, target_name, agent_id, executor, parameters, priority, timeout_seconds,
      status, callback_url, created_by, credential, request_id, idempotency_key, idempotency_hash, created_at,
      deadline_at, due_at, timeline
    FROM jsonb_populate_recordset(NULL::commands, $1)
    ON CONFLICT (created_by, idempotency_key) DO NOTHING
    RETURNING id`,
);

/** False when the first row's idempotency key is taken; then nothing is stored. */
async function insert(tx: Tx, rows: NewCommand[]): Promise<boolean> {
  const [first, ...children] = rows;
  const stored = await tx.query<{ id: string }[]>(INSERT, [JSON.stringify([first])]);
  if (stored.length === 0) return false;
  if (children.length > 0) await tx.query(INSERT, [JSON.stringify(children)]);
  return true;
}

function queuedData(row: NewCommand): CommandEventData {
  return {
    command_id: publicId('cmd', row.id),
    command_type: row.command_type,
    target: row.target,
    agent_id: row.agent_id && publicId('agent', row.agent_id),
    parent_id: row.parent_id && publicId('cmd', row.parent_id),
    source: row.target_name ?? row.created_by,
    priority: priorityWord(row.priority),
    status: 'queued',
    substatus: 'queued',
  };
}

async function findByKey(
  db: Tx,
  createdBy: string,
  key: string,
): Promise<(CommandView & { idempotency_hash: string }) | null> {
  const [row] = await db.query<(CommandView & { idempotency_hash: string })[]>(
    `SELECT ${VIEW_COLUMNS}, idempotency_hash FROM commands WHERE created_by = $1 AND idempotency_key = $2`,
    [createdBy, key],
  );
  return row ?? null;
}

/** A command and its children, locked in the order in which everybody locks them: children before parents. */
function lockFamily(tx: Tx, id: string): Promise<{ id: string; agent_id: string | null; executor: string }[]> {
  return tx.query(
    `SELECT id, agent_id, executor FROM commands WHERE id = $1 OR parent_id = $1 ORDER BY id = $1, id FOR UPDATE`,
    [id],
  );
}

/** One hash for one meaning: the order of the keys does not matter. */
function hashOf(dto: CreateCommandDto): string {
  const sorted = (_key: string, value: unknown): unknown =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value;
  return createHash('sha256').update(JSON.stringify(dto, sorted)).digest('hex');
}
