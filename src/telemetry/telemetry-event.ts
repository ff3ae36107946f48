import { MAX_ISSUES } from '../platform/errors/index.js';
import { expectedOf, unknownField } from '../platform/http/index.js';
import type { EventIds } from './event-id.js';
import { parseTimestamp } from './timestamp.js';

/** What the events of one request have in common. */
export interface Receipt {
  /** ms since 1970. */
  receivedAt: number;
  /** Events of before then (ms since 1970) are old: see {@link TelemetryRow.isOld}. */
  dailySince: number;
  /** The event at position `n` of the request has the id at `n`. */
  ids: EventIds;
  /** Null when the parsed form is all there is. */
  raw: RawBatch | null;
}

/** The body's bytes and where in them the `data` of each event stands (see `locateData`). */
interface RawBatch {
  body: Buffer;
  spans: Int32Array;
}

/**
 * An accepted event on its way to the table. There are thousands of them until the commit, so each holds little: of what was
 * parsed only what is asked for again. Times are milliseconds since 1970; `data` and `metadata` are JSON text.
 */
export class TelemetryRow {
  /** Set before the row is written; null past the limit of series. */
  series: Series | null = null;
  /** Set by the writer. `refused`: the database would not take it. */
  outcome: 'stored' | 'duplicate' | 'refused' | undefined = undefined;

  constructor(
    readonly receipt: Receipt,
    /** Position in the request. */
    readonly index: number,
    /** True when the caller chose the id, so that a resend can be told apart. */
    readonly clientId: boolean,
    readonly ts: number,
    public eventType: string,
    public source: string,
    public metric: Metric | null,
    /** `data` when it is not taken from the body's bytes. */
    private readonly text: string | null,
    readonly metadata: string | null,
  ) {}

  /** Compact JSON, whatever it looked like when it came. */
  get data(): string {
    if (this.text !== null) return this.text;
    return JSON.stringify(JSON.parse(this.body.toString('utf8', this.from, this.to)));
  }

  /** True when `data` is `[from, to)` of `body`, valid JSON as it came. */
  get inBytes(): boolean {
    return this.text === null;
  }

  get body(): Buffer {
    return (this.receipt.raw as RawBatch).body;
  }

  get from(): number {
    return (this.receipt.raw as RawBatch).spans[2 * this.index];
  }

  get to(): number {
    return (this.receipt.raw as RawBatch).spans[2 * this.index + 1];
  }

  /** About the bytes that its JSON takes on the way to the database. */
  get size(): number {
    return (this.text === null ? this.to - this.from : this.text.length) + (this.metadata?.length ?? 0);
  }

  get eventId(): string {
    return this.receipt.ids.text(this.index);
  }

  get receivedAt(): number {
    return this.receipt.receivedAt;
  }

  /** True when its day is past the retention: it is kept apart, and not all events of its time are stored any more. */
  get isOld(): boolean {
    return this.ts < this.receipt.dailySince;
  }
}

/** A row of the catalogue, as the process remembers it. */
export interface Series {
  id: number;
  /** Newest `timestamp` stored, ms. */
  lastSeen: number;
}

/** What makes an event a point of a series. */
export interface Metric {
  name: string;
  value: number;
  unit: string | null;
  tags: Record<string, string>;
}

/** Why an item is refused: the field's path and what is wrong with it. */
export interface EventIssue {
  field: string;
  issue: string;
  expected?: string;
}

/** What validation needs to know besides the event itself. */
export interface EventRules {
  /** Time of receipt, ms since 1970. */
  now: number;
  /** Newest `timestamp` that is taken, ms since 1970. */
  newest: number;
  /** Source of events that name none. */
  defaultSource: string;
  /** The only source the caller may write, when limited to its own. */
  onlySource: string | null;
}

/** Largest `data` and largest `metadata` of one event, bytes of JSON. */
const MAX_DATA_BYTES = 64 * 1024;
const MAX_TAGS = 20;
const MAX_TAG_CHARACTERS = 200;
/** Names and values of all tags of an event: they are kept with every series, in the catalogue and in memory. */
const MAX_TAGS_CHARACTERS = 2000;
/** Far below the largest double, so that sums over a series cannot overflow. */
const MAX_VALUE = 1e300;

const EVENT_TYPE_RULE = '1 to 100 characters of A-Z a-z 0-9 . _ : -';
const EVENT_TYPE = /^[A-Za-z0-9._:-]{1,100}$/;
const SOURCE = /^\P{Cc}{1,100}$/u;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const REQUIRED = 'is required';
const KNOWN = new Set(['event_id', 'event_type', 'source', 'timestamp', 'data', 'metadata']);

type Refuse = (field: string, issue: string, expected?: string) => void;

/**
 * Checks one event in a single pass, written by hand because it runs for every event of the high-rate path; same rules and
 * words as a DTO would give.
 */
export function readEvent(
  raw: unknown,
  index: number,
  rules: EventRules,
  receipt: Receipt,
): TelemetryRow | EventIssue[] {
  if (!isObject(raw)) return [{ field: '', issue: 'must be an object' }];
  const issues: EventIssue[] = [];
  const refuse: Refuse = (field, issue, expected) =>
    void issues.push({ field, issue, expected: expected ?? expectedOf(issue) });

  for (const key in raw) {
    if (issues.length > MAX_ISSUES) break;
    if (!KNOWN.has(key)) issues.push({ field: key.slice(0, 100), ...unknownField(key, [...KNOWN]) });
  }
  const { event_id: id, event_type: type, source = rules.defaultSource, timestamp, metadata } = raw;
  if (typeof type !== 'string' || !EVENT_TYPE.test(type)) {
    refuse('event_type', type === undefined ? REQUIRED : `must be ${EVENT_TYPE_RULE}`, EVENT_TYPE_RULE);
  }
  if (typeof source !== 'string' || !isSource(source)) {
    refuse('source', 'must be 1 to 100 characters without control characters');
  } else if (rules.onlySource !== null && source !== rules.onlySource) {
    refuse('source', 'an agent may only write under its own name', rules.onlySource);
  }
  if (id !== undefined) {
    if (typeof id !== 'string' || !UUID.test(id)) refuse('event_id', 'must be a UUID');
    else if (timestamp === undefined) {
      refuse('timestamp', 'is required with event_id, to recognise a resend', 'an ISO 8601 date and time');
    }
  }
  const ts = timestamp === undefined ? rules.now : parseTimestamp(timestamp);
  if (Number.isNaN(ts)) refuse('timestamp', 'must be an ISO 8601 date and time with a time zone');
  else if (ts > rules.newest) {
    refuse('timestamp', `is too far in the future (server time ${iso(rules.now)})`, `at most ${iso(rules.newest)}`);
  } else if (ts < 0) refuse('timestamp', 'must not be before 1970');

  const metric = isObject(raw.data) ? readMetric(raw.data, refuse) : null;
  if (!isObject(raw.data)) refuse('data', raw.data === undefined ? REQUIRED : 'must be an object', 'an object');
  if (metadata !== undefined && !isObject(metadata)) refuse('metadata', 'must be an object');
  if (issues.length > 0) return issues;

  const data = isInBytes(receipt, index) ? null : JSON.stringify(raw.data);
  const meta = metadata === undefined ? null : JSON.stringify(metadata);
  if (data && tooLarge(data)) return [{ field: 'data', issue: `must not be larger than ${MAX_DATA_BYTES} bytes` }];
  if (meta && tooLarge(meta)) return [{ field: 'metadata', issue: `must not be larger than ${MAX_DATA_BYTES} bytes` }];
  if (id !== undefined) receipt.ids.put(index, id as string);
  return new TelemetryRow(receipt, index, id !== undefined, ts, type as string, source as string, metric, data, meta);
}

/** Whether `data` can be taken from the body's bytes: white space may have made it larger there than it is. */
function isInBytes({ raw }: Receipt, index: number): boolean {
  const size = raw ? raw.spans[2 * index + 1] - raw.spans[2 * index] : 0;
  return size > 0 && size <= MAX_DATA_BYTES;
}

/** {@link SOURCE}, which is slow, only for what is not plain text. */
function isSource(text: string): boolean {
  if (text.length === 0 || text.length > 200) return false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || code > 0x7e) return SOURCE.test(text);
  }
  return text.length <= 100;
}

function readMetric(data: Record<string, unknown>, refuse: Refuse): Metric | null {
  const { metric_name: name, value, unit, tags } = data;
  if (name !== undefined && (typeof name !== 'string' || name.length === 0 || name.length > 200)) {
    refuse('data.metric_name', 'must be 1 to 200 characters');
  }
  if (typeof value === 'number') {
    if (!(Math.abs(value) <= MAX_VALUE)) refuse('data.value', 'must be a finite number between -1e300 and 1e300');
  } else if (value !== undefined && typeof value !== 'string' && typeof value !== 'boolean') {
    refuse('data.value', 'must be a number, a string or a boolean');
  }
  if (unit !== undefined && (typeof unit !== 'string' || unit.length > 50)) {
    refuse('data.unit', 'must be at most 50 characters');
  }
  if (tags !== undefined) checkTags(tags, refuse);
  if (typeof name !== 'string' || typeof value !== 'number') return null;
  return { name, value, unit: (unit as string | undefined) ?? null, tags: (tags as Metric['tags'] | undefined) ?? {} };
}

function checkTags(tags: unknown, refuse: Refuse): void {
  if (!isObject(tags)) return refuse('data.tags', 'must be an object of strings');
  let count = 0;
  let characters = 0;
  for (const key in tags) {
    const value = tags[key];
    if (++count > MAX_TAGS) return refuse('data.tags', `must not have more than ${MAX_TAGS} tags`);
    if (key.length === 0 || key.length > MAX_TAG_CHARACTERS) {
      refuse('data.tags', `names must be 1 to ${MAX_TAG_CHARACTERS} characters`);
    } else if (typeof value !== 'string' || value.length > MAX_TAG_CHARACTERS) {
      refuse(`data.tags.${key}`, `must be a string of at most ${MAX_TAG_CHARACTERS} characters`);
    } else characters += key.length + value.length;
  }
  if (characters > MAX_TAGS_CHARACTERS) {
    refuse('data.tags', `names and values must not be longer than ${MAX_TAGS_CHARACTERS} characters together`);
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function tooLarge(json: string): boolean {
  return json.length * 3 > MAX_DATA_BYTES && Buffer.byteLength(json) > MAX_DATA_BYTES;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
