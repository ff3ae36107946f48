import { Injectable } from '@nestjs/common';
import { type Actor, currentContext } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { EventBus, EventCatalogue, SERVER_SOURCE } from '../platform/events/index.js';
import { publicId } from '../platform/ids/index.js';
import { EventSubscribers } from './event-subscribers.js';
import type { EmitEventDto, EmittedEventAnswerDto } from './events.dto.js';

/** Bytes as JSON. */
const MOST_DATA = 64 * 1024;
const MOST_METADATA = 8 * 1024;
/** Of events that a signed call of a hook became. */
const HOOK_SOURCE = 'hook:';

/** Publishes events of callers. They reach webhooks, streams and other subscribers like the server's own events. */
@Injectable()
export class EventsService {
  constructor(
    private readonly db: Database,
    private readonly bus: EventBus,
    private readonly subscribers: EventSubscribers,
    private readonly catalogue: EventCatalogue,
  ) {}

  /**
   * Accepted means stored: it is told to whoever wants it also when this process dies now.
   * @throws AppError `validation`; `forbidden` EVENT_TYPE_RESERVED for a name of the server's own; `too_large` EVENT_TOO_LARGE
   */
  async emit(actor: Actor, dto: EmitEventDto): Promise<EmittedEventAnswerDto> {
    const type = this.typeOf(dto);
    const { data, source = actor.id, metadata = null, priority = 'normal', correlation_id = null } = dto;
    if (source === SERVER_SOURCE || source.startsWith(HOOK_SOURCE)) {
      const issue = source === SERVER_SOURCE ? 'is the name of the server itself' : 'is the name of a hook';
      throw AppError.validation({ field: 'source', issue, location: 'body' });
    }
    if (actor.type === 'agent' && source !== actor.id && source !== actor.name) {
      const issue = 'an agent may only write under its own name';
      throw AppError.validation({ field: 'source', issue, expected: actor.name, location: 'body' });
    }
    assertSize('data', data, MOST_DATA);
    if (metadata) assertSize('metadata', metadata, MOST_METADATA);
    const expiresAt = expiryOf(dto.expires_at);
    const correlationId = correlation_id;
    const event = await this.db.transaction(async (tx) => {
      const emitted = await this.bus.emit(tx, { type, data, source, metadata, priority, correlationId, expiresAt });
      const context = currentContext();
      if (context) context.resourceId ??= publicId('evt', emitted.id);
      return emitted;
    });
    return {
      event: {
        event_id: publicId('evt', event.id),
        type,
        event_type: type,
        timestamp: event.occurredAt,
        status: 'pending',
        source,
        priority,
        correlation_id,
        expires_at: expiresAt,
        subscriber_count: await this.subscribers.count(event),
      },
    };
  }

  private typeOf({ type, event_type }: EmitEventDto): string {
    const name = type ?? event_type;
    if (name === undefined) {
      throw AppError.validation({
        field: 'type',
        issue: 'is required',
        expected: 'type or event_type',
        location: 'body',
      });
    }
    if (type !== undefined && event_type !== undefined && type !== event_type) {
      throw AppError.validation({ field: 'event_type', issue: 'must be the same as type', location: 'body' });
    }
    if (this.catalogue.isReserved(name)) {
      throw new AppError('forbidden', `Only the server itself publishes ${name}; choose a name of your own`, {
        code: 'EVENT_TYPE_RESERVED',
        details: { field: 'type', type: name },
      });
    }
    return name;
  }
}

function assertSize(field: string, value: object, most: number): void {
  const bytes = Buffer.byteLength(JSON.stringify(value));
  if (bytes <= most) return;
  throw new AppError('too_large', `${field} has ${bytes} bytes as JSON, more than ${most}`, {
    code: 'EVENT_TOO_LARGE',
    details: { field, bytes, limit_bytes: most },
  });
}

function expiryOf(text: string | undefined): string | null {
  if (text === undefined) return null;
  const at = new Date(text);
  if (at.getTime() <= Date.now()) {
    throw AppError.validation({ field: 'expires_at', issue: 'must be in the future', location: 'body' });
  }
  return at.toISOString();
}
