import { publicId } from '../platform/http/index.js';
import type { AlertEventData, AlertResolvedData } from './alerts.events.js';
import type { Grouping } from './compiled-rule.js';
import type { Severity } from './rule-definition.js';

export type ClearReason = 'condition' | 'manual' | 'rule_changed' | 'rule_disabled' | 'rule_deleted';

export interface AlertNote {
  at: string;
  by: string;
  action: 'acknowledged' | 'resolved';
  text: string;
}

/** What became of an action of the rule, by its place in the list. */
export type ActionOutcome =
  | { type: 'command'; command_id: string }
  | { type: 'webhook'; webhook_id: string }
  | { type: 'command' | 'webhook'; error: string }
  | { type: 'event' };

/** A row of `alerts`. */
export interface Alert {
  id: string;
  rule_id: string;
  group_id: string;
  rule_name: string;
  severity: Severity;
  condition: string;
  grouping: Grouping;
  source: string | null;
  metric_name: string | null;
  unit: string | null;
  tags: Record<string, string>;
  event_id: string | null;
  value: number | null;
  status: 'active' | 'cleared';
  started_at: Date;
  last_value: number | null;
  last_at: Date | null;
  count: string;
  cleared_at: Date | null;
  cleared_by: string | null;
  clear_reason: ClearReason | null;
  acknowledged_at: Date | null;
  acknowledged_by: string | null;
  notes: AlertNote[];
  silenced: boolean;
  notified_at: Date | null;
  actions: Record<string, ActionOutcome>;
}

export const ALERT_COLUMNS = `id, rule_id, group_id, rule_name, severity, condition, grouping, source, metric_name, unit,
  tags, event_id, value, status, started_at, last_value, last_at, count, cleared_at, cleared_by, clear_reason,
  acknowledged_at, acknowledged_by, notes, silenced, notified_at, actions`;

export function raisedData(alert: Alert): AlertEventData {
  return {
    alert_id: publicId('alert', alert.id),
    rule_id: publicId('rule', alert.rule_id),
    rule_name: alert.rule_name,
    severity: alert.severity,
    status: 'active',
    state: 'active',
    condition: alert.condition,
    message: messageOf(alert),
    source: alert.source,
    group: alert.grouping,
    metric_name: alert.metric_name,
    value: alert.value,
    unit: alert.unit,
    tags: alert.tags,
    event_id: alert.event_id,
    started_at: alert.started_at.toISOString(),
  };
}

export function resolvedData(alert: Alert): AlertResolvedData {
  const clearedAt = alert.cleared_at ?? new Date();
  return {
    ...raisedData(alert),
    status: 'cleared',
    state: 'resolved',
    message: `${alert.rule_name}: resolved`,
    last_value: alert.last_value,
    cleared_at: clearedAt.toISOString(),
    clear_reason: alert.clear_reason ?? 'condition',
    cleared_by: alert.cleared_by,
    duration_seconds: Math.max(0, clearedAt.getTime() - alert.started_at.getTime()) / 1000,
  };
}

/** One line for a pager. */
export function messageOf({ rule_name, condition, source, value, unit }: Alert): string {
  const measured = value === null ? '' : ` (${value}${unit ? ` ${unit}` : ''})`;
  return `${rule_name}: ${condition}${measured}${source === null ? '' : ` on ${source}`}`;
}
