import { In } from 'typeorm';
import type { Tx } from '../platform/database/index.js';
import type { AlertEvaluator } from './alert-evaluator.entity.js';
import { type ActionOutcome, Alert } from './alert.entity.js';
import { AlertState } from './alert-state.entity.js';
import type { Clearing, GroupDraft, Repeats } from './group-draft.js';

/** After so long a change is held against the stored events once more: another process may not have known of it in time. */
const RECHECK_SECONDS = 3;
/** How long it is remembered what an ended group has seen, so that nothing old raises it again. */
const KEEP_STATES_MINUTES = 10;
/** A process that has not been heard of for so long is dead; longer than any pause of one that lives. */
const DEAD_SECONDS = 10;

export type GroupId = Pick<AlertState, 'ruleId' | 'groupId'>;

/** Locks groups in one order everywhere, to avoid deadlocks. SQL: TypeORM cannot look for pairs by two arrays. */
export function lockStates(tx: Tx, names: readonly GroupId[]): Promise<AlertState[]> {
  return tx
    .createQueryBuilder(AlertState, 'state')
    .where('(state.ruleId, state.groupId) IN (SELECT * FROM unnest(:ruleIds::uuid[], :groupIds::uuid[]))', {
      ruleIds: names.map(({ ruleId }) => ruleId),
      groupIds: names.map(({ groupId }) => groupId),
    })
    .orderBy('state.ruleId')
    .addOrderBy('state.groupId')
    .setLock('pessimistic_write')
    .getMany();
}

/** Adds groups for which their rules have room. SQL: a window function counts the new groups of each rule. */
export async function insertStates(
  tx: Tx,
  states: readonly (GroupId & Pick<AlertState, 'groupKey' | 'grouping'>)[],
  maxOpen: number,
): Promise<void> {
  await tx.query(
    `INSERT INTO alert_states (rule_id, group_id, group_key, grouping)
     SELECT "ruleId", "groupId", "groupKey", grouping FROM (
       SELECT w.*, row_number() OVER (PARTITION BY "ruleId" ORDER BY "groupId") AS n
       FROM jsonb_to_recordset($1) AS w ("ruleId" uuid, "groupId" uuid, "groupKey" text, grouping jsonb)) fresh
     WHERE n + (SELECT count(*) FROM alert_states s WHERE s.rule_id = "ruleId" AND phase <> 'ok') <= $2
     ORDER BY "ruleId", "groupId"
     ON CONFLICT DO NOTHING`,
    [JSON.stringify(states), maxOpen],
  );
}

/** Stores where groups stand. SQL: one update of many rows. */
export async function updateStates(tx: Tx, drafts: readonly GroupDraft[]): Promise<void> {
  const iso = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());
  const records = drafts.map(({ row, state, alertId, sample, last }) => ({
    rule_id: row.ruleId,
    group_id: row.groupId,
    phase: state.phase,
    matches: state.matches,
    since: iso(state.since),
    last_ts: iso(state.lastTs),
    last_received_at: iso(last && last.receivedAt),
    last_event_id: last && last.eventId,
    raised_at: iso(state.raisedAt),
    due_at: iso(state.dueAt),
    alert_id: alertId,
    sample,
  }));
  await tx.query(
    `UPDATE alert_states s SET phase = u.phase, matches = u.matches, since = u.since, last_ts = u.last_ts,
       last_received_at = u.last_received_at, last_event_id = u.last_event_id, raised_at = u.raised_at,
       due_at = u.due_at, alert_id = u.alert_id, sample = u.sample,
       recheck_at = now() + interval '${RECHECK_SECONDS} seconds', updated_at = clock_timestamp()
     FROM jsonb_populate_recordset(NULL::alert_states, $1) u WHERE s.rule_id = u.rule_id AND s.group_id = u.group_id`,
    [JSON.stringify(records)],
  );
}

/** Groups whose last change must be held against the stored events. SQL: the time is of the database's clock. */
export function statesToRecheck(tx: Tx, limit: number): Promise<AlertState[]> {
  return tx
    .createQueryBuilder(AlertState, 'state')
    .where('state.recheckAt <= now()')
    .orderBy('state.recheckAt')
    .limit(limit)
    .getMany();
}

/** Notes that a group was rechecked, unless it has changed since. SQL: the time is of the database's clock. */
export async function noteRechecked(tx: Tx, { ruleId, groupId }: GroupId): Promise<void> {
  await tx.query(
    `UPDATE alert_states SET recheck_at = NULL WHERE rule_id = $1 AND group_id = $2 AND recheck_at <= now()`,
    [ruleId, groupId],
  );
}

/** Deletes the states of groups that ended long ago. SQL: joins two tables. */
export async function deleteEndedStates(tx: Tx): Promise<void> {
  await tx.query(
    `DELETE FROM alert_states s USING alert_rules r
     WHERE s.rule_id = r.id AND s.phase = 'ok' AND s.recheck_at IS NULL
       AND s.updated_at < now() - interval '${KEEP_STATES_MINUTES} minutes'
       AND r.definition->'absent_for_seconds' = 'null'
       AND NOT EXISTS (SELECT 1 FROM alert_evaluators WHERE beat_at < now() - interval '${DEAD_SECONDS} seconds')`,
  );
}

/** Stores new alerts. SQL: one parameter however many there are; PostgreSQL takes 65535 at most. */
export async function insertAlerts(tx: Tx, alerts: readonly Alert[]): Promise<void> {
  const { columns } = tx.connection.getMetadata(Alert);
  const records = alerts.map((alert) =>
    Object.fromEntries(columns.map((column) => [column.databaseName, column.getEntityValue(alert) as unknown])),
  );
  await tx.query(`INSERT INTO alerts SELECT * FROM jsonb_populate_recordset(NULL::alerts, $1)`, [
    JSON.stringify(records),
  ]);
}

/** Ends alerts that are open. SQL: one update of many rows. @returns those that were */
export async function clearAlerts(tx: Tx, clearings: readonly Clearing[]): Promise<Alert[]> {
  if (clearings.length === 0) return [];
  const [rows] = await tx.query<[Pick<Alert, 'id'>[], number]>(
    `UPDATE alerts a SET status = 'cleared', cleared_at = greatest(now(), a.started_at), clear_reason = u.reason,
       cleared_by = u.by, last_value = coalesce(u."lastValue", a.last_value), last_at = coalesce(u."lastAt", a.last_at)
     FROM jsonb_to_recordset($1)
       AS u ("alertId" uuid, reason text, by text, "lastValue" double precision, "lastAt" timestamptz)
     WHERE a.id = u."alertId" AND a.status = 'active'
     RETURNING a.id`,
    [JSON.stringify(clearings)],
  );
  return rows.length > 0 ? tx.findBy(Alert, { id: In(rows.map(({ id }) => id)) }) : [];
}

/** Adds to the counts of open alerts; those that have ended meanwhile are left alone. SQL: one update of many rows. */
export async function addRepeats(tx: Tx, repeats: readonly Repeats[]): Promise<void> {
  if (repeats.length === 0) return;
  await tx.query(
    `UPDATE alerts a SET count = a.count + u.count,
       last_value = CASE WHEN t >= a.last_at THEN u."lastValue" ELSE a.last_value END, last_at = greatest(a.last_at, t)
     FROM jsonb_to_recordset($1) AS u ("alertId" uuid, count bigint, "lastValue" double precision, "lastTs" bigint)
     CROSS JOIN LATERAL to_timestamp(u."lastTs" / 1000.0) AS t
     WHERE a.id = u."alertId" AND a.status = 'active'`,
    [JSON.stringify(repeats)],
  );
}

/** Notes what became of an action. The first outcome stays. SQL: merges into JSON in one step. @returns whether this was it */
export async function recordOutcome(tx: Tx, alertId: string, n: number, outcome: ActionOutcome): Promise<boolean> {
  const [, count] = await tx.query<[unknown[], number]>(
    `UPDATE alerts SET actions = actions || jsonb_build_object($2::text, $3::jsonb)
     WHERE id = $1 AND NOT jsonb_exists(actions, $2)`,
    [alertId, String(n), JSON.stringify(outcome)],
  );
  return count > 0;
}

/** Changes whenever a rule does. SQL: three aggregates of one moment. */
export async function stateOfRules(tx: Tx): Promise<string> {
  const [{ state }] = await tx.query<{ state: string }[]>(
    `SELECT concat_ws(' ', count(*), sum(version), max(updated_at)) AS state FROM alert_rules`,
  );
  return state;
}

/** Says that a process lives, and how far it has come. SQL: the time is of the database's clock. */
export async function beat(tx: Tx, { id, doneBefore }: Pick<AlertEvaluator, 'id' | 'doneBefore'>): Promise<void> {
  await tx.query(
    `INSERT INTO alert_evaluators (id, beat_at, done_before) VALUES ($1, now(), $2)
     ON CONFLICT (id) DO UPDATE SET beat_at = now(), done_before = excluded.done_before`,
    [id, doneBefore],
  );
}

/** Processes that died, some at a time. SQL: the time is of the database's clock. */
export function deadEvaluators(tx: Tx): Promise<AlertEvaluator[]> {
  return tx.query<AlertEvaluator[]>(
    `SELECT id, beat_at AS "beatAt", done_before AS "doneBefore" FROM alert_evaluators
     WHERE beat_at < now() - interval '${DEAD_SECONDS} seconds' ORDER BY beat_at LIMIT 5`,
  );
}
