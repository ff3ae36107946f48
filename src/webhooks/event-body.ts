import { SERVER_SOURCE, type StoredEvent } from '../platform/events/index.js';
import { publicId } from '../platform/ids/index.js';

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
 * The stored bytes of an event, with which the body of every attempt starts. {@link DeliveryInfo}, which differs between attempts,
 * follows them and is kept in the log of attempts. Both together are the exact bytes that were sent and signed.
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
    // Only events of callers have these fields.
    ...(source ? { priority, correlation_id: correlationId, metadata } : {}),
  };
  return { eventId: event.id, eventType: event.type, body: Buffer.from(JSON.stringify(body)), expiresAt };
}

/** The type of a delivery of several events. No event has it, since event names have at least two words. */
export const BATCH_TYPE = 'batch';

/** The id by which a receiver recognises the content of a delivery. */
export function messageId(type: string, id: string): string {
  return publicId(type === BATCH_TYPE ? 'batch' : 'evt', id);
}
