import { defineEvent, payloadSchema } from '../platform/events/index.js';
import { SEVERITIES, type Severity } from './rule-definition.js';

/** What both events of an alert tell; ids are public ids. */
export interface AlertEventData {
  alert_id: string;
  rule_id: string;
  rule_name: string;
  severity: Severity;
  status: 'active' | 'cleared';
  /** For webhooks that get both events under the type `telemetry.alert`. */
  state: 'active' | 'resolved';
  /** In words: `cpu_usage gt 90`. */
  condition: string;
  message: string;
  source: string | null;
  group: Record<string, string>;
  metric_name: string | null;
  value: number | null;
  unit: string | null;
  tags: Record<string, string>;
  event_id: string | null;
  started_at: string;
}

export interface AlertResolvedData extends AlertEventData {
  last_value: number | null;
  cleared_at: string;
  clear_reason: string;
  cleared_by: string | null;
  duration_seconds: number;
}

const common = {
  alert_id: { type: 'string' },
  rule_id: { type: 'string' },
  rule_name: { type: 'string' },
  severity: { enum: SEVERITIES },
  status: { enum: ['active', 'cleared'] },
  state: { enum: ['active', 'resolved'] },
  condition: { type: 'string', description: 'What raises the alert, in words.' },
  message: { type: 'string' },
  source: { type: ['string', 'null'] },
  group: { type: 'object', additionalProperties: { type: 'string' } },
  metric_name: { type: ['string', 'null'] },
  value: { type: ['number', 'null'], description: 'Of the event that raised the alert.' },
  unit: { type: ['string', 'null'] },
  tags: { type: 'object', additionalProperties: { type: 'string' } },
  event_id: { type: ['string', 'null'], description: 'The telemetry event that raised the alert.' },
  started_at: { type: 'string', format: 'date-time' },
};

export const AlertRaised = defineEvent<AlertEventData>('telemetry.alert', {
  summary:
    'A rule over telemetry has raised an alert. A webhook for it alone also gets the end of the alert, with the state `resolved`.',
  schema: payloadSchema(common),
});

export const AlertResolved = defineEvent<AlertResolvedData>('telemetry.alert.resolved', {
  summary: 'An alert has ended, by its clear condition or by hand.',
  broaderType: AlertRaised.type,
  schema: payloadSchema({
    ...common,
    last_value: { type: ['number', 'null'] },
    cleared_at: { type: 'string', format: 'date-time' },
    clear_reason: { enum: ['condition', 'manual', 'rule_changed', 'rule_disabled', 'rule_deleted'] },
    cleared_by: { type: ['string', 'null'] },
    duration_seconds: { type: 'number' },
  }),
});

export const ThresholdExceeded = defineEvent<AlertEventData>('metric.threshold_exceeded', {
  summary: 'A rule with the action `event` has raised an alert.',
  schema: payloadSchema(common),
});
