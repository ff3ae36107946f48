import { AppError } from '../platform/errors/index.js';
import type { AlertEventData } from './alerts.events.js';

const PLACEHOLDER = /\{\{ ?([a-z_]+(?:\.[^{}]{1,200})?) ?\}\}/g;
/** What may become part of a target: nothing that could make it a selector of others. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
const FIELDS = [
  'alert_id',
  'rule_id',
  'rule_name',
  'severity',
  'condition',
  'message',
  'source',
  'metric_name',
  'value',
  'unit',
];

/** Texts within `value`, however deep, with `{{source}}`, `{{tag.<name>}}` and the like filled in; unknown ones are empty. */
export function fillIn(value: unknown, alert: AlertEventData): unknown {
  if (typeof value === 'string') {
    const whole = /^\{\{ ?value ?\}\}$/.test(value);
    return whole ? alert.value : value.replace(PLACEHOLDER, (_text, name: string) => valueOf(name, alert));
  }
  if (Array.isArray(value)) return value.map((one) => fillIn(one, alert));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, fillIn(one, alert)]));
}

/**
 * The same for a target. Sources and tags are what their senders say, so only plain names are filled in.
 * @throws AppError `unprocessable`
 */
export function fillInTarget(target: string, alert: AlertEventData): string {
  return target.replace(PLACEHOLDER, (text, name: string) => {
    const value = valueOf(name, alert);
    if (!NAME.test(value)) {
      throw AppError.unprocessable(`${text} is no name of a target`, { value: value.slice(0, 100) });
    }
    return value;
  });
}

function valueOf(name: string, alert: AlertEventData): string {
  if (name.startsWith('tag.')) return alert.tags[name.slice('tag.'.length)] ?? '';
  if (name.startsWith('group.')) return alert.group[name.slice('group.'.length)] ?? '';
  if (!FIELDS.includes(name)) return '';
  const value = alert[name as keyof AlertEventData];
  return typeof value === 'string' || typeof value === 'number' ? String(value) : '';
}
