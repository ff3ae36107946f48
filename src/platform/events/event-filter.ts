import { AppError } from '../errors/index.js';
import { priorityWord, SERVER_SOURCE, type StoredEvent } from './event-definition.js';

type Fields = Readonly<Record<string, unknown>>;

/** What filters look at: an event's own fields, and behind them those of its data. */
export interface Filterable {
  readonly fields: Fields;
}

export type Filter = (event: Filterable) => boolean;

const MOST_FIELDS = 20;
const MOST_VALUES = 100;
const LONGEST = 200;
/** Longer than any wanted value. */
const NONE = ' '.repeat(LONGEST + 1);

/**
 * A filter of wanted values, one or a list per field; all fields must fit. A field may be a path (`data.unit`);
 * `tag.<name>` is a tag of telemetry. Null when nothing is filtered; fields that do not apply are checked, but filter nothing.
 * @throws AppError `validation`
 */
export function filterOf(wanted: unknown, applies: (field: string) => boolean = () => true): Filter | null {
  if (wanted === undefined || wanted === null) return null;
  if (typeof wanted !== 'object' || Array.isArray(wanted)) throw invalid('filters must be an object');
  const entries = Object.entries(wanted);
  if (entries.length > MOST_FIELDS) throw invalid(`filters must not have more than ${MOST_FIELDS} fields`);
  const all = entries.map(([field, value]) => ({ field, path: pathOf(field), values: valuesOf(field, value) }));
  const tests = all.filter(({ field }) => applies(field));
  if (tests.length === 0) return null;
  return ({ fields }) => tests.every(({ path, values }) => values.has(valueAt(fields, path)));
}

function pathOf(field: string): string[] {
  if (field.length === 0 || field.length > LONGEST) throw invalid('names of filters have 1 to 200 characters');
  return field.startsWith('tag.') ? ['tags', field.slice(4)] : field.split('.');
}

function valuesOf(field: string, value: unknown): ReadonlySet<string> {
  const values: unknown[] = Array.isArray(value) ? value : [value];
  const good = (one: unknown): boolean =>
    (typeof one === 'string' && one.length <= LONGEST) || typeof one === 'number' || typeof one === 'boolean';
  if (values.length === 0 || values.length > MOST_VALUES || !values.every(good)) {
    throw invalid(
      `filters.${field.slice(0, 50)} must be a text, number or boolean, or a list of 1 to ${MOST_VALUES} of them`,
    );
  }
  const wanted = field === 'priority' ? [...values, ...values.map(priorityWord)] : values;
  return new Set(wanted.map(String));
}

function valueAt(fields: Fields, path: readonly string[]): string {
  const found = follow(fields, path) ?? follow(fields.data, path);
  return typeof found === 'string' || typeof found === 'number' || typeof found === 'boolean' ? String(found) : NONE;
}

function follow(from: unknown, path: readonly string[]): unknown {
  let value = from;
  for (const name of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
    value = (value as Fields)[name];
  }
  return value;
}

/** What filters see of an event: its data, and before them what is said of it. */
export function filterFields(
  event: Pick<StoredEvent, 'type' | 'subject' | 'data' | 'source' | 'priority' | 'correlationId' | 'metadata'>,
): Fields {
  const { type, subject, data, source, priority, correlationId, metadata } = event;
  // Who emits an event says where it comes from; of the server's own it is a matter of the data.
  const said = { source: source ?? SERVER_SOURCE, priority, correlation_id: correlationId };
  const all = source === null ? { ...said, ...data } : { ...data, ...said };
  return { ...all, event_type: type, subject, metadata, data };
}

function invalid(issue: string): AppError {
  return AppError.validation({ field: 'filters', issue }, issue);
}
