import { publicId } from '../platform/ids/index.js';
import type { Alert } from './alert.entity.js';
import type { AlertEventData, AlertResolvedData } from './alerts.events.js';

export function raisedData(alert: Alert): AlertEventData {
  return {
    alert_id: publicId('alert', alert.id),
    rule_id: publicId('rule', alert.ruleId),
    rule_name: alert.ruleName,
    severity: alert.severity,
    status: 'active',
    state: 'active',
    condition: alert.condition,
    message: messageOf(alert),
    source: alert.source,
    group: alert.grouping,
    metric_name: alert.metricName,
    value: alert.value,
    unit: alert.unit,
    tags: alert.tags,
    event_id: alert.eventId,
    started_at: alert.startedAt.toISOString(),
  };
}

export function resolvedData(alert: Alert): AlertResolvedData {
  const clearedAt = alert.clearedAt ?? new Date();
  return {
    ...raisedData(alert),
    status: 'cleared',
    state: 'resolved',
    message: `${alert.ruleName}: resolved`,
    last_value: alert.lastValue,
    cleared_at: clearedAt.toISOString(),
    clear_reason: alert.clearReason ?? 'condition',
    cleared_by: alert.clearedBy,
    duration_seconds: Math.max(0, clearedAt.getTime() - alert.startedAt.getTime()) / 1000,
  };
}

/** One line for a pager. */
export function messageOf({ ruleName, condition, source, value, unit }: Alert): string {
  const measured = value === null ? '' : ` (${value}${unit ? ` ${unit}` : ''})`;
  return `${ruleName}: ${condition}${measured}${source === null ? '' : ` on ${source}`}`;
}
