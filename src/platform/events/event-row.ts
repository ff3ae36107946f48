import type { StoredEvent } from './event-definition.js';

/** A placed row of the outbox, as queries return it. */
export type EventRow = Omit<StoredEvent, 'actorId' | 'requestId' | 'occurredAt' | 'correlationId' | 'expiresAt'> & {
  actor_id: string;
  request_id: string | null;
  occurred_at: Date;
  correlation_id: string | null;
  expires_at: Date | null;
};

export const EVENT_COLUMNS = [
  ...['id', 'seq', 'type', 'subject', 'data', 'actor_id', 'request_id', 'occurred_at'],
  ...['source', 'metadata', 'priority', 'correlation_id', 'expires_at'],
];

export function toStoredEvent(row: EventRow): StoredEvent {
  const { actor_id, request_id, occurred_at, correlation_id, expires_at, ...rest } = row;
  return {
    ...rest,
    actorId: actor_id,
    requestId: request_id,
    occurredAt: occurred_at.toISOString(),
    correlationId: correlation_id,
    expiresAt: expires_at?.toISOString() ?? null,
  };
}
