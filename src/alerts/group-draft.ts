import { randomUUID } from 'node:crypto';
import type { JudgedEvent } from './judged-event.js';
import type { Alert, ClearReason } from './alert.entity.js';
import type { AlertState, Sample } from './alert-state.entity.js';
import { end, type GroupState, newState, raise, takeEvent, takeTime } from './alert-state.js';
import { type CompiledRule, tagsOf } from './compiled-rule.js';
import type { Verdict } from './verdict.js';

export interface Clearing {
  alertId: string;
  reason: ClearReason;
  by: string | null;
  lastValue: number | null;
  lastAt: Date | null;
}

/** Further events for which the condition of an open alert held. */
export interface Repeats {
  alertId: string;
  count: number;
  lastValue: number | null;
  /** Time of the newest, ms since 1970. */
  lastTs: number;
}

/** An event that a rule has judged. */
export interface Reading {
  row: JudgedEvent;
  verdict: Verdict;
  /** It may have been taken before: it counts only when it comes after what the group has seen. */
  again: boolean;
}

/** What puts events of the same time in order: when they were received, then their ids. */
interface Place {
  receivedAt: number;
  eventId: string;
}

/** A locked group being moved on; storing it is the writer's business. */
export class GroupDraft {
  readonly state: GroupState = newState();
  alertId: string | null;
  sample: Sample | null;
  /** Of the events with the time `state.lastTs`, the last; null when that is the time of something else. */
  last: Place | null;
  changed = false;
  /** Alerts raised, in order; those that ended again at once have been cleared already. */
  readonly raised: Alert[] = [];
  /** The end of an alert that was there before. */
  clearing: Clearing | null = null;
  /** What adds to the count of the alert that was there before. */
  repeats: Repeats | null = null;
  private readonly before: string;

  constructor(
    readonly row: AlertState,
    /** Not needed to clear. */
    private readonly rule: CompiledRule | null,
    private readonly now: number,
  ) {
    Object.assign(this.state, {
      phase: row.phase,
      matches: row.matches,
      since: row.since?.getTime() ?? null,
      lastTs: row.lastTs.getTime(),
      raisedAt: row.raisedAt?.getTime() ?? null,
      dueAt: row.dueAt?.getTime() ?? null,
    } satisfies GroupState);
    this.alertId = row.alertId;
    this.sample = row.sample;
    this.last =
      row.lastReceivedAt && row.lastEventId !== null
        ? { receivedAt: row.lastReceivedAt.getTime(), eventId: row.lastEventId }
        : null;
    this.before = this.fingerprint();
  }

  takeEvents({ timing }: CompiledRule, readings: readonly Reading[]): void {
    const inOrder = [...readings].sort((a, b) => a.row.ts - b.row.ts || a.row.receivedAt - b.row.receivedAt);
    const isNew = newerThan(this.state.lastTs, this.last);
    for (const { row, verdict, again } of inOrder) {
      if (row.ts < this.state.lastTs || (again && !isNew(row))) continue;
      if (verdict === 'breach') this.sample = sampleOf(row);
      if (verdict !== 'silent' && newerThan(this.state.lastTs, this.last)(row)) {
        this.last = { receivedAt: row.receivedAt, eventId: row.eventId };
      }
      const effect = takeEvent(this.state, row.ts, verdict, timing, this.now);
      if (effect === 'raise') this.open();
      else if (effect === 'clear') this.close('condition', null, row);
      else if (verdict === 'breach' && this.alertId !== null) this.repeat(this.alertId, row);
    }
    this.note();
  }

  takeTime(): void {
    const effect = takeTime(this.state, this.now);
    if (effect === 'raise') this.open();
    else if (effect === 'clear') this.close('condition', null);
    this.note();
  }

  /** Raises for want of data; nothing when it is raised already or newer data has come. */
  raiseAbsence(source: string | null, lastSeen: number): void {
    if (this.state.phase !== 'ok' || lastSeen < this.state.lastTs) return;
    this.state.lastTs = lastSeen;
    this.last = null;
    this.sample = { event_id: null, source, metric_name: null, value: null, unit: null, tags: {} };
    raise(this.state, this.now);
    this.open();
    this.note();
  }

  /** Ends whatever is under way. Events older than now no longer count. */
  stop(reason: ClearReason, by: string | null): void {
    const wasOpen = this.alertId !== null;
    end(this.state);
    if (this.now > this.state.lastTs) {
      this.state.lastTs = this.now;
      this.last = null;
    }
    if (wasOpen) this.close(reason, by);
    this.note();
  }

  private open(): void {
    if (this.rule === null) throw new Error('An alert needs its rule');
    const { rule } = this.rule;
    const sample = this.sample;
    this.alertId = randomUUID();
    this.raised.push({
      id: this.alertId,
      ruleId: rule.id,
      groupId: this.row.groupId,
      ruleName: rule.name,
      severity: rule.severity,
      condition: this.rule.conditionText,
      grouping: this.row.grouping,
      source: sample?.source ?? this.row.grouping.source ?? null,
      metricName: sample?.metric_name ?? rule.definition.metric_name,
      unit: sample?.unit ?? null,
      tags: sample?.tags ?? {},
      eventId: sample?.event_id ?? null,
      value: sample?.value ?? null,
      status: 'active',
      startedAt: new Date(this.now),
      lastValue: sample?.value ?? null,
      lastAt: new Date(this.state.lastTs),
      count: 1,
      clearedAt: null,
      clearedBy: null,
      clearReason: null,
      acknowledgedAt: null,
      acknowledgedBy: null,
      notes: [],
      silenced: false,
      notifiedAt: null,
      actions: {},
    });
  }

  private repeat(alertId: string, { ts, metric }: JudgedEvent): void {
    const lastValue = metric?.value ?? null;
    const own = this.raised.find(({ id }) => id === alertId);
    if (own) {
      own.count++;
      own.lastValue = lastValue;
      return;
    }
    this.repeats = { alertId, count: (this.repeats?.count ?? 0) + 1, lastValue, lastTs: ts };
  }

  private close(reason: ClearReason, by: string | null, row?: JudgedEvent): void {
    const id = this.alertId;
    const own = this.raised.find((alert) => alert.id === id);
    const lastValue = row?.metric?.value ?? null;
    if (own) {
      Object.assign(own, { status: 'cleared', clearedAt: new Date(this.now), clearReason: reason, clearedBy: by });
      own.lastValue = lastValue ?? own.lastValue;
    } else if (id !== null) {
      this.clearing = { alertId: id, reason, by, lastValue, lastAt: row ? new Date(row.ts) : null };
    }
    this.alertId = null;
    this.sample = null;
  }

  private note(): void {
    this.changed ||= this.fingerprint() !== this.before;
  }

  private fingerprint(): string {
    const { phase, matches, since, lastTs, dueAt } = this.state;
    return JSON.stringify([phase, matches, since, lastTs, this.last, dueAt, this.alertId]);
  }
}

/** Whether an event comes after those that a group has seen, of which `last` is the last with the time `lastTs`. */
function newerThan(lastTs: number, last: Place | null): (row: JudgedEvent) => boolean {
  return ({ ts, receivedAt, eventId }) => {
    if (ts !== lastTs || last === null) return ts > lastTs;
    return receivedAt === last.receivedAt ? eventId > last.eventId : receivedAt > last.receivedAt;
  };
}

function sampleOf(row: JudgedEvent): Sample {
  return {
    event_id: row.eventId,
    source: row.source,
    metric_name: row.metric?.name ?? null,
    value: row.metric?.value ?? null,
    unit: row.metric?.unit ?? null,
    tags: tagsOf(row),
  };
}
