import { SERVER_SOURCE, type StoredEvent } from '../platform/events/index.js';
import { publicId } from '../platform/http/index.js';

export type TellableEvent = Pick<StoredEvent, 'id' | 'type' | 'data' | 'occurredAt'> &
  Partial<Pick<StoredEvent, 'source' | 'priority' | 'correlationId' | 'metadata' | 'expiresAt'>>;

export interface EventBody {
  eventId: string;
  eventType: string;
  body: Buffer;
  /** ISO 8601; null: never. */
  expiresAt: string | null;
}

/**
 * The bytes that are stored of an event and begin the body of every attempt of every webhook. Behind them comes what changes from attempt to
 * attempt ({@link DeliveryInfo}), which the log of attempts keeps: both together are the exact bytes that were sent and signed.
 */
export function bodyOf(event: TellableEvent): EventBody {
  const { source, priority, correlationId, metadata, expiresAt = null } = event;
  const body = {
    id: publicId('evt', event.id),
    type: event.type,
    event_type: event.type,
    timestamp: event.occurredAt,
    source: source ?? SERVER_SOURCE,
    data: event.data,
    // Of events that callers emit.
    ...(source ? { priority, correlation_id: correlationId, metadata } : {}),
  };
  return { eventId: event.id, eventType: event.type, body: Buffer.from(JSON.stringify(body)), expiresAt };
}

/** What a delivery of many events says it is; no event has a name of one word. */
export const BATCH_TYPE = 'batch';

/** The id that a receiver knows a delivery's content by. */
export function messageId(type: string, id: string): string {
  return publicId(type === BATCH_TYPE ? 'batch' : 'evt', id);
}
