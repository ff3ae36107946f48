import type { StoredEvent } from './event-definition.js';
import type { DomainEvent } from './event.entity.js';

/** A placed row of the outbox, as SQL gives it. */
export type EventRow = Omit<StoredEvent, 'occurredAt' | 'expiresAt'> & Pick<DomainEvent, 'occurredAt' | 'expiresAt'>;

export function toStoredEvent({ occurredAt, expiresAt, ...row }: EventRow): StoredEvent {
  return { ...row, occurredAt: occurredAt.toISOString(), expiresAt: expiresAt?.toISOString() ?? null };
}
