import { Injectable } from '@nestjs/common';
import { In, IsNull, MoreThan } from 'typeorm';
import { AlertSettings } from './alerts.settings.js';
import { Database, type Tx } from '../platform/database/index.js';
import { EventBus } from '../platform/events/index.js';
import { publicId } from '../platform/ids/index.js';
import { Logger, Metrics } from '../platform/observability/index.js';
import { raisedData, resolvedData } from './alert.js';
import { Alert } from './alert.entity.js';
import { AlertRule } from './alert-rule.entity.js';
import { AlertState } from './alert-state.entity.js';
import {
  addRepeats,
  clearAlerts,
  type GroupId,
  insertAlerts,
  insertStates,
  lockStates,
  updateStates,
} from './alerts.queries.js';
import { AlertRaised, AlertResolved } from './alerts.events.js';
import { type CompiledRule, groupId, type Grouping } from './compiled-rule.js';
import { GroupDraft } from './group-draft.js';
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
      const byKey = new Map(fresh.map((work) => [keyOf(idOf(work)), work]));
      const rows = await this.lockOrCreate(tx, byKey);
      const now = Date.now();
      const drafts = rows.map((row) => {
        const work = byKey.get(keyOf(row)) as GroupWork;
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
    const rows = await tx.find(AlertState, {
      where: group === null ? { ruleId } : { ruleId, groupId: group },
      order: { groupId: 'ASC' },
      lock: { mode: 'pessimistic_write' },
    });
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
      const waiting: (Silenceable & { id: string })[] = await this.db.repository(Alert).find({
        select: { id: true, ruleId: true, severity: true, source: true, tags: true },
        where: { status: 'active', notifiedAt: IsNull(), ...(after === null ? {} : { id: MoreThan(after) }) },
        order: { id: 'ASC' },
        take: WAITING_AT_ONCE,
      });
      const due = waiting.filter((alert) => !silenced(alert)).map(({ id }) => id);
      if (due.length > 0) await this.tell(due);
      const last = waiting.at(-1);
      if (!last || waiting.length < WAITING_AT_ONCE) return;
      after = last.id;
    }
  }

  private async tell(ids: string[]): Promise<void> {
    await this.db.transaction(async (tx) => {
      const due = await tx.find(Alert, {
        where: { id: In(ids), status: 'active', notifiedAt: IsNull() },
        order: { id: 'ASC' },
        lock: { mode: 'pessimistic_write', onLocked: 'skip_locked' },
      });
      const told = { notifiedAt: new Date(), silenced: false };
      await tx.update(Alert, { id: In(due.map(({ id }) => id)) }, told);
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

  private async lockOrCreate(tx: Tx, works: ReadonlyMap<string, GroupWork>): Promise<AlertState[]> {
    const found = await lockStates(tx, [...works.values()].map(idOf));
    const known = new Set(found.map(keyOf));
    const missing = [...works].flatMap(([key, work]) => (known.has(key) ? [] : [work]));
    if (missing.length === 0) return found;
    const fresh = missing.map((work) => ({ ...idOf(work), groupKey: work.groupKey, grouping: work.grouping }));
    await insertStates(tx, fresh, this.settings.maxGroups);
    const created = await lockStates(tx, fresh);
    const over = missing.length - created.length;
    if (over > 0) this.passOver(missing[0].rule, over);
    return [...found, ...created];
  }

  private async store(tx: Tx, drafts: readonly GroupDraft[]): Promise<void> {
    const changed = drafts.filter((draft) => draft.changed);
    if (changed.length > 0) {
      await updateStates(tx, changed);
      const raised = changed.flatMap((draft) => draft.raised);
      await addRepeats(
        tx,
        changed.flatMap(({ repeats }) => repeats ?? []),
      );
      // The old first: a group has one open alert.
      const cleared = await clearAlerts(
        tx,
        changed.flatMap(({ clearing }) => clearing ?? []),
      );
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
      alert.notifiedAt = alert.silenced ? null : alert.startedAt;
    }
    await insertAlerts(tx, raised);
  }

  private remember(drafts: readonly GroupDraft[]): void {
    for (const { row, state, alertId } of drafts) {
      const { phase, since } = state;
      this.open.remember({ ruleId: row.ruleId, groupKey: row.groupKey, phase, since, alertId });
    }
  }
}

function idOf({ rule, groupKey }: GroupWork): GroupId {
  return { ruleId: rule.id, groupId: groupId(groupKey) };
}

function keyOf(id: GroupId): string {
  return `${id.ruleId}/${id.groupId}`;
}

/** Work of rules that are enabled and still what they were when the events were judged; they cannot change until the commit. */
async function ofCurrentRules(tx: Tx, works: readonly GroupWork[]): Promise<GroupWork[]> {
  const rules = await tx.find(AlertRule, {
    select: { id: true, version: true },
    where: { id: In([...new Set(works.map(({ rule }) => rule.id))]), enabled: true },
    order: { id: 'ASC' },
    lock: { mode: 'pessimistic_read' },
  });
  const versions = new Map(rules.map(({ id, version }) => [id, version]));
  return works.filter(({ rule }) => versions.get(rule.id) === rule.rule.version);
}

function raisedEvent(alert: Alert): Publication {
  return { event: AlertRaised, subject: publicId('alert', alert.id), data: raisedData(alert) };
}

/** Who was not told that it began is not told that it ended. */
function resolvedEvents(alert: Alert): Publication[] {
  if (alert.notifiedAt === null) return [];
  return [{ event: AlertResolved, subject: publicId('alert', alert.id), data: resolvedData(alert) }];
}

/** The events of an alert that was raised in this transaction, and maybe ended again. */
function told(alert: Alert): Publication[] {
  if (alert.notifiedAt === null) return [];
  return [raisedEvent(alert), ...(alert.status === 'cleared' ? resolvedEvents(alert) : [])];
}
