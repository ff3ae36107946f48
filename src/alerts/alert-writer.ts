import { Injectable } from '@nestjs/common';
import { AlertSettings } from './alerts.settings.js';
import { Database, type Tx } from '../platform/database/index.js';
import { EventBus } from '../platform/events/index.js';
import { publicId } from '../platform/http/index.js';
import { Logger, Metrics } from '../platform/observability/index.js';
import { type Alert, ALERT_COLUMNS, raisedData, resolvedData } from './alert.js';
import { addRepeats } from './alert-counts.js';
import { AlertRaised, AlertResolved } from './alerts.events.js';
import { type CompiledRule, groupId, type Grouping } from './compiled-rule.js';
import { GroupDraft, type StateRow } from './group-draft.js';
import { OpenGroups } from './open-groups.js';
import { type Silenceable, silencesInForce } from './silences.js';

/** One group of one rule and what is to be done with it. */
export interface GroupWork {
  rule: CompiledRule;
  groupKey: string;
  grouping: Grouping;
  act(draft: GroupDraft): void;
}

type Publication = Parameters<EventBus['publishMany']>[1][number];

const STATE_COLUMNS = `rule_id, group_id, group_key, grouping, phase, matches, since, last_ts, last_received_at, last_event_id,
  raised_at, due_at, alert_id, sample`;
/** After so long a change is held against the stored events once more: another process may not have known of it in time. */
const RECHECK_SECONDS = 3;
/** Alerts read at a time to find those whose silence has ended. */
const WAITING_AT_ONCE = 200;

/**
 * The only way the state of a group changes: under its lock, together with the alerts that are raised and cleared and the events
 * that tell of them. So each is told once, however many processes see the same thing.
 */
@Injectable()
export class AlertWriter {
  private readonly changes;
  private readonly overLimit;

  constructor(
    private readonly db: Database,
    private readonly events: EventBus,
    private readonly open: OpenGroups,
    private readonly settings: AlertSettings,
    private readonly logger: Logger,
    metrics: Metrics,
  ) {
    this.changes = metrics.counter('nexus_alerts_total', 'Alerts raised and cleared', ['change', 'severity']);
    this.overLimit = metrics.counter(
      'nexus_alert_groups_over_limit_total',
      'Times a group was passed over because its rule has NEXUS_ALERT_MAX_GROUPS open ones',
    );
  }

  /** @returns the work that was not done because its rule has changed meanwhile or is gone */
  async apply(works: readonly GroupWork[]): Promise<GroupWork[]> {
    return this.db.transaction(async (tx) => {
      const fresh = await ofCurrentRules(tx, works);
      const byKey = new Map(fresh.map((work) => [keyOf(work.rule.id, groupId(work.groupKey)), work]));
      const rows = await this.lockOrCreate(tx, byKey);
      const now = Date.now();
      const drafts = rows.map((row) => {
        const work = byKey.get(keyOf(row.rule_id, row.group_id)) as GroupWork;
        const draft = new GroupDraft(row, work.rule, now);
        work.act(draft);
        return draft;
      });
      await this.store(tx, drafts);
      const done = new Set(fresh);
      return works.filter((work) => !done.has(work));
    });
  }

  /** Locks groups that exist, for changes that need no rule: those of one rule or one alert. */
  async change(tx: Tx, ruleId: string, group: string | null, act: (draft: GroupDraft) => void): Promise<void> {
    const rows = await tx.query<StateRow[]>(
      `SELECT ${STATE_COLUMNS} FROM alert_states WHERE rule_id = $1 AND ($2::uuid IS NULL OR group_id = $2)
       ORDER BY group_id FOR UPDATE`,
      [ruleId, group],
    );
    const now = Date.now();
    const drafts = rows.map((row) => {
      const draft = new GroupDraft(row, null, now);
      act(draft);
      return draft;
    });
    await this.store(tx, drafts);
  }

  /** Tells of alerts whose silence has ended, however many others stay silent. */
  async unsilence(): Promise<void> {
    const silenced = await silencesInForce(this.db.manager);
    for (let after: string | null = null; ;) {
      const waiting: (Silenceable & { id: string })[] = await this.db.query(
        `SELECT id, rule_id, severity, source, tags FROM alerts
         WHERE status = 'active' AND notified_at IS NULL AND ($1::uuid IS NULL OR id > $1)
         ORDER BY id LIMIT ${WAITING_AT_ONCE}`,
        [after],
      );
      const due = waiting.filter((alert) => !silenced(alert)).map(({ id }) => id);
      if (due.length > 0) await this.tell(due);
      const last = waiting.at(-1);
      if (!last || waiting.length < WAITING_AT_ONCE) return;
      after = last.id;
    }
  }

  private async tell(ids: string[]): Promise<void> {
    await this.db.transaction(async (tx) => {
      const due = await tx.query<Alert[]>(
        `SELECT ${ALERT_COLUMNS} FROM alerts
         WHERE id = ANY ($1::uuid[]) AND status = 'active' AND notified_at IS NULL ORDER BY id FOR UPDATE SKIP LOCKED`,
        [ids],
      );
      await tx.query(`UPDATE alerts SET notified_at = now(), silenced = false WHERE id = ANY ($1::uuid[])`, [
        due.map(({ id }) => id),
      ]);
      await this.events.publishMany(tx, due.map(raisedEvent));
    });
  }

  /** Says that the rule has no room for groups of so many events. */
  passOver({ id }: CompiledRule, events: number): void {
    this.overLimit.inc(events);
    this.logger.warnRepeated(
      'alert-groups',
      { rule: id },
      'Alert groups passed over: NEXUS_ALERT_MAX_GROUPS is reached',
    );
  }

  private async lockOrCreate(tx: Tx, works: ReadonlyMap<string, GroupWork>): Promise<StateRow[]> {
    const found = await lock(tx, [...works.keys()]);
    const known = new Set(found.map((row) => keyOf(row.rule_id, row.group_id)));
    const missing = [...works].filter(([key]) => !known.has(key));
    if (missing.length === 0) return found;
    const fresh = missing.map(([key, { groupKey, grouping }]) => ({ ...ids(key), group_key: groupKey, grouping }));
    await tx.query(
      `INSERT INTO alert_states (rule_id, group_id, group_key, grouping)
       SELECT rule_id, group_id, group_key, grouping FROM (
         SELECT w.*, row_number() OVER (PARTITION BY rule_id ORDER BY group_id) AS n
         FROM jsonb_to_recordset($1) AS w (rule_id uuid, group_id uuid, group_key text, grouping jsonb)) fresh
       WHERE n + (SELECT count(*) FROM alert_states s WHERE s.rule_id = fresh.rule_id AND phase <> 'ok') <= $2
       ORDER BY rule_id, group_id
       ON CONFLICT DO NOTHING`,
      [JSON.stringify(fresh), this.settings.maxGroups],
    );
    const created = await lock(
      tx,
      missing.map(([key]) => key),
    );
    const over = missing.length - created.length;
    if (over > 0) this.passOver(missing[0][1].rule, over);
    return [...found, ...created];
  }

  private async store(tx: Tx, drafts: readonly GroupDraft[]): Promise<void> {
    const changed = drafts.filter((draft) => draft.changed);
    if (changed.length > 0) {
      await updateStates(tx, changed);
      const raised = changed.flatMap((draft) => draft.raised);
      await addRepeats(
        (sql, params) => tx.query(sql, params),
        changed.flatMap(({ repeats }) => (repeats ? [repeats] : [])),
      );
      // The old first: a group has one open alert.
      const cleared = await clearAlerts(tx, changed);
      await this.settle(tx, raised);
      await this.events.publishMany(tx, [...cleared.flatMap(resolvedEvents), ...raised.flatMap(told)]);
      this.db.afterCommit(tx, () => {
        for (const { severity } of raised) this.changes.inc({ change: 'raised', severity });
        for (const { severity, status } of [...cleared, ...raised]) {
          if (status === 'cleared') this.changes.inc({ change: 'cleared', severity });
        }
      });
    }
    this.db.afterCommit(tx, () => this.remember(drafts));
  }

  /** Stores new alerts; those under a silence are not told of. */
  private async settle(tx: Tx, raised: readonly Alert[]): Promise<void> {
    if (raised.length === 0) return;
    const silenced = await silencesInForce(tx);
    for (const alert of raised) {
      alert.silenced = silenced(alert);
      alert.notified_at = alert.silenced ? null : alert.started_at;
    }
    await tx.query(
      `INSERT INTO alerts (${ALERT_COLUMNS}) SELECT ${ALERT_COLUMNS} FROM jsonb_populate_recordset(NULL::alerts, $1)`,
      [JSON.stringify(raised)],
    );
  }

  private remember(drafts: readonly GroupDraft[]): void {
    for (const { row, state, alertId } of drafts) {
      const { phase, since } = state;
      this.open.remember({ ruleId: row.rule_id, groupKey: row.group_key, phase, since, alertId });
    }
  }
}

function keyOf(ruleId: string, group: string): string {
  return `${ruleId}/${group}`;
}

function ids(key: string): { rule_id: string; group_id: string } {
  const [rule_id, group_id] = key.split('/');
  return { rule_id, group_id };
}

/** Work of rules that are enabled and still what they were when the events were judged; they cannot change until the commit. */
async function ofCurrentRules(tx: Tx, works: readonly GroupWork[]): Promise<GroupWork[]> {
  const rows = await tx.query<{ id: string; version: number }[]>(
    `SELECT id, version FROM alert_rules WHERE id = ANY ($1::uuid[]) AND enabled ORDER BY id FOR SHARE`,
    [[...new Set(works.map(({ rule }) => rule.id))]],
  );
  const versions = new Map(rows.map(({ id, version }) => [id, version]));
  return works.filter(({ rule }) => versions.get(rule.id) === rule.rule.version);
}

/** In one order everywhere, so that nobody waits in a circle. */
function lock(tx: Tx, keys: readonly string[]): Promise<StateRow[]> {
  const pairs = keys.map(ids);
  return tx.query(
    `SELECT ${STATE_COLUMNS} FROM alert_states
     WHERE (rule_id, group_id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))
     ORDER BY rule_id, group_id FOR UPDATE`,
    [pairs.map((pair) => pair.rule_id), pairs.map((pair) => pair.group_id)],
  );
}

async function updateStates(tx: Tx, drafts: readonly GroupDraft[]): Promise<void> {
  const iso = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());
  const records = drafts.map(({ row, state, alertId, sample, last }) => ({
    rule_id: row.rule_id,
    group_id: row.group_id,
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
       last_received_at = u.last_received_at, last_event_id = u.last_event_id, raised_at = u.raised_at, due_at = u.due_at, alert_id = u.alert_id, sample = u.sample,
       recheck_at = now() + interval '${RECHECK_SECONDS} seconds', updated_at = clock_timestamp()
     FROM jsonb_populate_recordset(NULL::alert_states, $1) u WHERE s.rule_id = u.rule_id AND s.group_id = u.group_id`,
    [JSON.stringify(records)],
  );
}

async function clearAlerts(tx: Tx, drafts: readonly GroupDraft[]): Promise<Alert[]> {
  const clearings = drafts.flatMap(({ clearing }) => (clearing ? [clearing] : []));
  if (clearings.length === 0) return [];
  const records = clearings.map((c) => ({ id: c.alertId, r: c.reason, b: c.by, v: c.lastValue, t: c.lastAt }));
  const [rows] = await tx.query<[Alert[], number]>(
    `UPDATE alerts a SET status = 'cleared', cleared_at = greatest(now(), a.started_at), clear_reason = u.r,
       cleared_by = u.b, last_value = coalesce(u.v, a.last_value), last_at = coalesce(u.t, a.last_at)
     FROM jsonb_to_recordset($1) AS u (id uuid, r text, b text, v double precision, t timestamptz)
     WHERE a.id = u.id AND a.status = 'active'
     RETURNING ${ALERT_COLUMNS.split(',')
       .map((column) => `a.${column.trim()}`)
       .join()}`,
    [JSON.stringify(records)],
  );
  return rows;
}

function raisedEvent(alert: Alert): Publication {
  return { event: AlertRaised, subject: publicId('alert', alert.id), data: raisedData(alert) };
}

/** Who was not told that it began is not told that it ended. */
function resolvedEvents(alert: Alert): Publication[] {
  if (alert.notified_at === null) return [];
  return [{ event: AlertResolved, subject: publicId('alert', alert.id), data: resolvedData(alert) }];
}

/** The events of an alert that was raised in this transaction, and maybe ended again. */
function told(alert: Alert): Publication[] {
  if (alert.notified_at === null) return [];
  return [raisedEvent(alert), ...(alert.status === 'cleared' ? resolvedEvents(alert) : [])];
}
