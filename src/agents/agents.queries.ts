import type { EntityManager } from 'typeorm';
import { type Database, prepared, type Tx } from '../platform/database/index.js';
import type { Agent } from './agent.entity.js';
import type { AgentStatus } from './agent.js';

/** An agent as the target of a command. */
export type TargetAgent = Pick<
  Agent,
  'id' | 'name' | 'agentType' | 'endpoint' | 'labels' | 'allLabels' | 'connectedAt' | 'commandTypes'
>;

/** An agent after a change that may have changed its status. */
export interface StatusChange extends Pick<Agent, 'id' | 'name' | 'status' | 'lastSeenAt'> {
  previous: AgentStatus;
}

/** A sign of life of a link. */
export interface Seen {
  agentId: string;
  linkId: string;
  /** Epoch milliseconds. */
  at: number;
  loadPercent: number | null;
}

/** At most this many targets are found: one more than a selector may name, so that the caller sees that there are more. */
const MAX_FOUND = 1001;

const TARGET_BY_ID = prepared('agents.by-id', targetsWhere(`a.id = $1`));
const TARGET_BY_NAME = prepared('agents.by-name', targetsWhere(`lower(a.name) = lower($1)`));
const TARGETS_BY_LABELS = targetsWhere(`a.all_labels @> $1::jsonb AND a.labels @> $2::jsonb`);

const STATUS_CHANGE = `a.id, a.name, a.status, b.status AS previous, a.last_seen_at AS "lastSeenAt"`;

function targetsWhere(condition: string): string {
  return `SELECT a.id, a.name, a.agent_type AS "agentType", a.endpoint, a.labels, a.all_labels AS "allLabels",
      a.connected_at AS "connectedAt", a.command_types AS "commandTypes"
    FROM agents a WHERE ${condition} AND a.status <> 'deregistered' ORDER BY lower(a.name) LIMIT ${MAX_FOUND}`;
}

/** SQL because it runs for every command: PostgreSQL keeps its plan. */
export function findTargetById(db: Database, id: string): Promise<TargetAgent[]> {
  return db.query(TARGET_BY_ID, [id]);
}

/** SQL because it runs for every command: PostgreSQL keeps its plan. */
export function findTargetByName(db: Database, name: string): Promise<TargetAgent[]> {
  return db.query(TARGET_BY_NAME, [name]);
}

/**
 * SQL because it sorts by an expression.
 * @param labels all that are asked for
 * @param set those of them that must have been set on the server
 */
export function findTargetsByLabels(
  db: Database,
  labels: Record<string, string>,
  set: Record<string, string>,
): Promise<TargetAgent[]> {
  return db.query(TARGETS_BY_LABELS, [JSON.stringify(labels), JSON.stringify(set)]);
}

/** SQL because the unique index of names is on an expression. */
export async function lockByName(tx: Tx, name: string): Promise<Pick<Agent, 'id'> | undefined> {
  const [agent] = await tx.query<(Pick<Agent, 'id'> | undefined)[]>(
    `SELECT id FROM agents WHERE lower(name) = lower($1) AND status <> 'deregistered' FOR UPDATE`,
    [name],
  );
  return agent;
}

/** SQL because it is an aggregate. */
export function countByStatus(db: Database): Promise<{ status: AgentStatus; count: number }[]> {
  return db.query(`SELECT status, count(*)::int AS count FROM agents WHERE status <> 'deregistered' GROUP BY status`);
}

/**
 * Makes a link the one of its agent and stores what the agent says of itself. SQL because it returns the row as it was before,
 * and because presence must not raise the row's version, which TypeORM raises with each update.
 * @param node the process that holds the link
 * @returns undefined when the agent is not registered
 */
export async function storeLink(
  tx: Tx,
  agentId: string,
  link: { id: string; node: string },
  hello: Pick<Agent, 'version' | 'hostname' | 'platform' | 'reportedLabels' | 'commandTypes' | 'capabilities'>,
): Promise<(StatusChange & { replaced: string | null; signingKey: string | null }) | undefined> {
  const [[row]] = await tx.query<[(StatusChange & { replaced: string | null; signingKey: string | null })[], number]>(
    `WITH before AS (
       SELECT id, status, link_id FROM agents WHERE id = $1 AND status <> 'deregistered' FOR UPDATE
     )
     UPDATE agents a SET link_id = $2, link_node = $3, connected_at = now(), last_seen_at = now(),
       status = CASE WHEN a.held THEN a.status ELSE 'active' END,
       version = $4, hostname = $5, platform = $6, reported_labels = $7, command_types = $8,
       capabilities = CASE WHEN cardinality($9::text[]) > 0 THEN $9::text[] ELSE a.capabilities END
     FROM before b WHERE a.id = b.id
     RETURNING ${STATUS_CHANGE}, b.link_id AS replaced,
       (SELECT k.public_key FROM agent_signing_keys k WHERE k.agent_id = a.id) AS "signingKey"`,
    [
      agentId,
      link.id,
      link.node,
      hello.version,
      hello.hostname,
      hello.platform,
      JSON.stringify(hello.reportedLabels),
      JSON.stringify(hello.commandTypes),
      hello.capabilities,
    ],
  );
  return row;
}

/**
 * SQL because it updates many rows at once, each with values of its own.
 * @returns ids of the agents whose link is still the one given
 */
export async function storeSeen(db: EntityManager, batch: Seen[]): Promise<string[]> {
  const [rows] = await db.query<[Pick<Agent, 'id'>[], number]>(
    `UPDATE agents a SET last_seen_at = greatest(a.last_seen_at, to_timestamp(s.at / 1000.0)),
       load_percent = coalesce(s.load_percent, a.load_percent)
     FROM unnest($1::uuid[], $2::uuid[], $3::float8[], $4::real[]) AS s (id, link_id, at, load_percent)
     WHERE a.id = s.id AND a.link_id = s.link_id
     RETURNING a.id`,
    [batch.map((s) => s.agentId), batch.map((s) => s.linkId), batch.map((s) => s.at), batch.map((s) => s.loadPercent)],
  );
  return rows.map(({ id }) => id);
}

/** A heartbeat over HTTP. SQL because it returns the row as it was before and must not raise the row's version. */
export async function storeHeartbeat(
  tx: Tx,
  agentId: string,
  { loadPercent, status }: Pick<Agent, 'loadPercent' | 'status'>,
): Promise<StatusChange[]> {
  const [rows] = await tx.query<[StatusChange[], number]>(
    `WITH before AS (SELECT id, status FROM agents WHERE id = $1 AND status <> 'deregistered' FOR UPDATE)
     UPDATE agents a SET last_seen_at = now(), load_percent = coalesce($2, a.load_percent),
       status = CASE WHEN a.held THEN a.status ELSE $3 END
     FROM before b WHERE a.id = b.id
     RETURNING ${STATUS_CHANGE}`,
    [agentId, loadPercent, status],
  );
  return rows;
}

/** Takes the given links from their agents; a link that its agent has replaced is left out. */
export function unlink(tx: Tx, links: { agentId: string; linkId: string }[]): Promise<StatusChange[]> {
  return unlinkWhere(tx, `(a.id, a.link_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))`, [
    links.map((l) => l.agentId),
    links.map((l) => l.linkId),
  ]);
}

/** Takes the link from every agent that was not heard of for so long. */
export function unlinkSilent(tx: Tx, graceSeconds: number): Promise<StatusChange[]> {
  return unlinkWhere(
    tx,
    `(a.status IN ('active', 'degraded') OR a.link_id IS NOT NULL) AND a.status <> 'deregistered'
     AND coalesce(a.last_seen_at, CASE WHEN a.endpoint IS NULL THEN a.registered_at END)
       < now() - make_interval(secs => $1)`,
    [graceSeconds],
  );
}

/** Takes every link that another process than this one holds. */
export function unlinkOtherNodes(tx: Tx, node: string): Promise<StatusChange[]> {
  return unlinkWhere(tx, `a.link_id IS NOT NULL AND a.link_node <> $1`, [node]);
}

/** SQL because it updates many rows at once and returns them as they were before. */
async function unlinkWhere(tx: Tx, condition: string, params: unknown[]): Promise<StatusChange[]> {
  const [rows] = await tx.query<[StatusChange[], number]>(
    `WITH before AS (SELECT a.id, a.status FROM agents a WHERE ${condition} ORDER BY a.id FOR UPDATE)
     UPDATE agents a SET link_id = NULL, link_node = NULL, connected_at = NULL,
       status = CASE WHEN a.status IN ('active', 'degraded') THEN 'offline' ELSE a.status END
     FROM before b WHERE a.id = b.id
     RETURNING ${STATUS_CHANGE}`,
    params,
  );
  return rows;
}
