import { EVENT_NAME } from './event-pattern.js';

export type JsonSchema = Readonly<Record<string, unknown>>;

/** A kind of event: past tense, dotted lower case. Payloads are plain data: public ids, no entities. */
export interface EventDefinition<Payload extends object> {
  readonly type: string;
  /** What has happened, for readers of the catalogue. */
  readonly summary: string;
  /** JSON Schema (draft 2020-12) of the payload. */
  readonly schema: JsonSchema;
  /** A kind that includes this one: a webhook for it, but not for this kind by itself, gets this event under that name. */
  readonly broaderType?: string;
  /** Never set; carries the payload type. */
  readonly payload?: Payload;
}

/** An event as it left the outbox. */
export interface StoredEvent<Payload extends object = Record<string, unknown>> {
  readonly id: string;
  /** Place in the one order of all events; grows without being dense. */
  readonly seq: string;
  readonly type: string;
  /** Public id of the resource it is about; events of one subject keep their order. */
  readonly subject: string | null;
  readonly data: Payload;
  readonly actorId: string;
  readonly requestId: string | null;
  readonly occurredAt: string;
  /** Who a caller says it comes from; null: the server itself. */
  readonly source: string | null;
  readonly metadata: Record<string, unknown> | null;
  readonly priority: EventPriority;
  readonly correlationId: string | null;
  /** From then on nobody is told any more (ISO 8601); null: never. */
  readonly expiresAt: string | null;
}

/** What the server's own events are shown to come from; nobody else may say so. */
export const SERVER_SOURCE = 'nexus';

export const EVENT_PRIORITIES = ['low', 'normal', 'high', 'critical'] as const;
export type EventPriority = (typeof EVENT_PRIORITIES)[number];
/** The word for a priority: 1 and 2 are low, to 5 normal, to 8 high, 9 and 10 critical. Anything else stays as it came. */
export function priorityWord(spelling: unknown): unknown {
  if (spelling === 'medium') return 'normal';
  const level = typeof spelling === 'string' && /^\d+$/.test(spelling) ? Number(spelling) : spelling;
  if (typeof level !== 'number' || !Number.isInteger(level) || level < 1 || level > 10) return spelling;
  return EVENT_PRIORITIES[[3, 6, 9].filter((from) => level >= from).length];
}

/** An event that a caller emits: its name is not in the catalogue, its data follow no schema of ours. */
export type EmittedEvent = Omit<StoredEvent, 'id' | 'seq' | 'subject' | 'actorId' | 'requestId' | 'occurredAt'>;

export function isExpired({ expiresAt }: Pick<StoredEvent, 'expiresAt'>, now = Date.now()): boolean {
  return expiresAt !== null && Date.parse(expiresAt) <= now;
}

/** Defines a kind of event; the module that publishes it declares it with `EventsModule.forFeature`. */
export function defineEvent<Payload extends object>(
  type: string,
  options: { summary: string; schema: JsonSchema; broaderType?: string },
): EventDefinition<Payload> {
  if (!EVENT_NAME.test(type)) throw new Error(`${type} is not a dotted lower-case event name`);
  return { type, ...options };
}

/** The schema of a payload with these fields. Further ones may be added later: readers must not mind them. */
export function payloadSchema(
  required: Readonly<Record<string, JsonSchema>>,
  optional: Readonly<Record<string, JsonSchema>> = {},
): JsonSchema {
  return { type: 'object', required: Object.keys(required), properties: { ...required, ...optional } };
}
