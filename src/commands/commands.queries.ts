import { type Database, prepared, type Tx } from '../platform/database/index.js';
import type { CommandRow, CommandTransition } from './command-draft.js';
import type { Dispatchable } from './command-envelope.js';
import type { CommandOutput } from './command-output.entity.js';
import type { CommandState } from './command-status.js';
import type { CommandView } from './command-view.js';
import type { Command } from './command.entity.js';
import type { DueRun } from './commands.jobs.js';

/** A command that has just been accepted. */
export type NewCommand = CommandView &
  Pick<
    Command,
    | 'targetName'
    | 'credential'
    | 'requestId'
    | 'idempotencyKey'
    | 'idempotencyHash'
    | 'deadlineAt'
    | 'dueAt'
    | 'timeline'
  >;

const INSERT = prepared(
  'commands.create',
  `INSERT INTO commands (id, parent_id, retry_of, command_type, target, target_name, agent_id, executor, parameters, priority,
     timeout_seconds, status, callback_url, created_by, credential, request_id, idempotency_key, idempotency_hash,
     created_at, deadline_at, due_at, timeline)
   SELECT * FROM jsonb_to_recordset($1) AS c (id uuid, "parentId" uuid, "retryOf" uuid, "commandType" text, target text,
     "targetName" text, "agentId" uuid, executor text, parameters jsonb, priority smallint, "timeoutSeconds" integer,
     status text, "callbackUrl" text, "createdBy" text, credential text, "requestId" text, "idempotencyKey" text,
     "idempotencyHash" text, "createdAt" timestamptz, "deadlineAt" timestamptz, "dueAt" timestamptz, timeline jsonb)
   ON CONFLICT (created_by, idempotency_key) DO NOTHING
   RETURNING id`,
);

/**
 * Stores a command and its children. SQL because it runs for every command: one statement for all children, and PostgreSQL keeps
 * its plan.
 * @returns false when the idempotency key of the first row is taken; then nothing is stored
 */
export async function insertCommands(tx: Tx, [first, ...children]: NewCommand[]): Promise<boolean> {
  const stored = await tx.query<Pick<Command, 'id'>[]>(INSERT, [JSON.stringify([first])]);
  if (stored.length === 0) return false;
  if (children.length > 0) await tx.query(INSERT, [JSON.stringify(children)]);
  return true;
}

const BY_KEY = prepared(
  'commands.by-key',
  `SELECT id, idempotency_hash AS "idempotencyHash" FROM commands WHERE created_by = $1 AND idempotency_key = $2`,
);

/** SQL because it runs for every command with a key: PostgreSQL keeps its plan. */
export async function findByKey(
  db: Database,
  createdBy: string,
  key: string,
): Promise<Pick<Command, 'id' | 'idempotencyHash'> | undefined> {
  const [command] = await db.query<Pick<Command, 'id' | 'idempotencyHash'>>(BY_KEY, [createdBy, key]);
  return command;
}

/** Locks commands in the order of their ids. SQL because it runs for every report of an agent, for many commands at once. */
export async function lockCommands(tx: Tx, ids: readonly string[]): Promise<CommandRow[]> {
  const rows = await tx.query<(CommandRow & { outputBytes: unknown })[]>(
    `SELECT id, parent_id AS "parentId", command_type AS "commandType", target, agent_id AS "agentId", executor,
       target_name AS "targetName", priority, created_by AS "createdBy", status, created_at AS "createdAt",
       delivered_at AS "deliveredAt", started_at AS "startedAt", completed_at AS "completedAt",
       deadline_at AS "deadlineAt", due_at AS "dueAt", attempts, result, held_result AS "heldResult",
       output_bytes AS "outputBytes", output_truncated AS "outputTruncated", callback_url AS "callbackUrl",
       callback_attempts AS "callbackAttempts", callback_due_at AS "callbackDueAt"
     FROM commands WHERE id = ANY ($1::uuid[]) ORDER BY id FOR UPDATE`,
    [ids],
  );
  return rows.map((row) => ({ ...row, outputBytes: Number(row.outputBytes) }));
}

/** Stores changed commands and what they have printed. SQL because it does so for many commands in one round trip. */
export async function storeTransitions(tx: Tx, transitions: CommandTransition[]): Promise<void> {
  const chunks = transitions.flatMap(({ row, output }) => output.map((chunk) => ({ id: row.id, ...chunk })));
  await tx.query(
    `WITH printed AS (
       INSERT INTO command_output (command_id, "offset", stream, data)
       SELECT * FROM unnest($3::uuid[], $4::bigint[], $5::text[], $6::bytea[]))
     UPDATE commands c
     SET status = u.status, delivered_at = u."deliveredAt", started_at = u."startedAt", completed_at = u."completedAt",
         deadline_at = u."deadlineAt", due_at = u."dueAt", attempts = u.attempts, result = u.result,
         held_result = u."heldResult", output_bytes = u."outputBytes", output_truncated = u."outputTruncated",
         callback_due_at = u."callbackDueAt", timeline = c.timeline || u.notes, version = c.version + 1
     FROM jsonb_to_recordset($1) AS u (
       id uuid, status text, "deliveredAt" timestamptz, "startedAt" timestamptz, "completedAt" timestamptz,
       "deadlineAt" timestamptz, "dueAt" timestamptz, attempts int, result jsonb, "heldResult" jsonb,
       "outputBytes" bigint, "outputTruncated" boolean, "callbackDueAt" timestamptz, notes jsonb)
     WHERE c.id = u.id AND c.id = ANY ($2::uuid[])`,
    [
      JSON.stringify(transitions.map(({ row, notes }) => ({ ...row, notes }))),
      // The ids by themselves: what is in the JSON the planner takes for a hundred rows, and reads the whole table for them.
      transitions.map(({ row }) => row.id),
      chunks.map((c) => c.id),
      chunks.map((c) => c.offset),
      chunks.map((c) => c.stream),
      chunks.map((c) => c.data),
    ],
  );
}

/** How many children each parent has in each state. SQL because it is an aggregate. */
export function countChildren(
  tx: Tx,
  parentIds: string[],
): Promise<{ parentId: string; status: CommandState; count: number }[]> {
  return tx.query(
    `SELECT parent_id AS "parentId", status, count(*)::int AS count FROM commands
     WHERE parent_id = ANY ($1::uuid[]) GROUP BY parent_id, status`,
    [parentIds],
  );
}

/** How many commands have not ended, by state. SQL because it is an aggregate. */
export function countPending(db: Database): Promise<{ status: CommandState; count: number }[]> {
  return db.query(
    `SELECT status, count(*)::int AS count FROM commands
     WHERE status IN ('queued', 'delivered', 'running') AND executor <> 'fanout' GROUP BY status`,
  );
}

/** Those of the commands that still wait. SQL because it runs for every command, for many at once. */
export function findQueued(db: Database, ids: string[]): Promise<(DueRun & Pick<Command, 'agentId'>)[]> {
  return db.query(
    `SELECT id, agent_id AS "agentId", executor, attempts, priority, created_at AS "createdAt" FROM commands
     WHERE id = ANY ($1::uuid[]) AND status = 'queued'`,
    [ids],
  );
}

/**
 * What an agent should get next. SQL because it sorts by an expression: urgency grows by one step a minute, so that a low priority
 * waits long but not for ever.
 */
export function findMostUrgent(
  db: Database,
  agentId: string,
  except: string[],
  limit: number,
): Promise<Dispatchable[]> {
  return db.query(
    `SELECT id, agent_id AS "agentId", command_type AS "commandType", parameters, timeout_seconds AS "timeoutSeconds",
       priority, created_at AS "createdAt"
     FROM commands
     WHERE agent_id = $1 AND status = 'queued' AND executor = 'link' AND deadline_at > now() AND id <> ALL ($2::uuid[])
     ORDER BY priority + floor(extract(epoch FROM now() - created_at) / 60) DESC, created_at, id LIMIT $3`,
    [agentId, except, limit],
  );
}

/** How many commands wait for each of the agents. SQL because it is an aggregate. */
export function countWaiting(db: Database, agentIds: string[]): Promise<{ agentId: string; count: number }[]> {
  return db.query(
    `SELECT agent_id AS "agentId", count(*)::int AS count FROM commands
     WHERE agent_id = ANY ($1::uuid[]) AND status = 'queued' AND executor = 'link' AND deadline_at > now()
     GROUP BY agent_id`,
    [agentIds],
  );
}

/** Claims commands whose time is over by the clock of the database; what another process has claimed is left to it. */
export async function claimOverdue(tx: Tx, limit: number): Promise<string[]> {
  const rows = await tx.query<Pick<Command, 'id'>[]>(
    `SELECT id FROM commands
     WHERE status IN ('queued', 'delivered', 'running') AND deadline_at <= now()
     ORDER BY deadline_at LIMIT $1 FOR UPDATE SKIP LOCKED`,
    [limit],
  );
  return rows.map(({ id }) => id);
}

/** Runs that a worker must look at. SQL because it goes by the clock of the database. */
export function findDueRuns(db: Database, limit: number): Promise<DueRun[]> {
  return db.query(
    `SELECT id, attempts, priority, created_at AS "createdAt", executor FROM commands
     WHERE due_at <= now() AND status IN ('queued', 'running') AND deadline_at > now() ORDER BY due_at LIMIT $1`,
    [limit],
  );
}

/** SQL because it goes by the clock of the database. */
export function findDueCallbacks(db: Database, limit: number): Promise<Pick<Command, 'id' | 'callbackAttempts'>[]> {
  return db.query(
    `SELECT id, callback_attempts AS "callbackAttempts" FROM commands
     WHERE callback_due_at <= now() ORDER BY callback_due_at LIMIT $1`,
    [limit],
  );
}

/** Bytes of one page of output, about: whole chunks are given. */
export const PAGE_BYTES = 256 * 1024;
export const PAGE_CHUNKS = 1000;

/** State and one chunk of output of a command; without a chunk when it has printed nothing. */
export type OutputRow = Pick<Command, 'status'> &
  ((Pick<CommandOutput, 'stream' | 'data'> & { offset: string }) | { offset: null });

/** One row without output when there is none, no row when the command belongs to another agent than the one given. */
const READ_OUTPUT = prepared(
  'commands.logs',
  `SELECT c.status, o."offset", o.stream, o.data
   FROM commands c LEFT JOIN LATERAL (
     SELECT "offset", stream, data FROM (
       SELECT "offset", stream, data, sum(length(data)) OVER (ORDER BY "offset") - length(data) AS before
       FROM command_output
       WHERE command_id = c.id AND "offset" >= coalesce(
         (SELECT max("offset") FROM command_output WHERE command_id = c.id AND "offset" <= $2), 0)
       ORDER BY "offset" LIMIT ${PAGE_CHUNKS}
     ) AS chunks WHERE before < ${PAGE_BYTES}
   ) AS o ON true
   WHERE c.id = $1 AND ($3::uuid IS NULL OR c.agent_id = $3)
   ORDER BY o."offset"`,
);

/**
 * A page of output from byte `after` on. SQL because of its window function, and because state and output must be of one moment:
 * when the command has ended, all of its output is there.
 */
export function readOutput(db: Database, id: string, after: number, agentId: string | null): Promise<OutputRow[]> {
  return db.query(READ_OUTPUT, [id, after, agentId]);
}
