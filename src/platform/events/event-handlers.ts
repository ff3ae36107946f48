import { Injectable } from '@nestjs/common';
import type { JobDefinition } from '../jobs/index.js';
import type { StoredEvent } from './event-definition.js';

/** A subscriber of the outbox. */
export interface EventHandler {
  /** `<domain>.<what it does>`. */
  readonly name: string;
  /** Null: events of every kind. */
  readonly type: string | null;
  /** It takes a list. */
  readonly many: boolean;
  readonly job: JobDefinition<unknown>;
}

/** Whether a subscriber is told of an event: what the server does when something has happened in it, it does not do at a caller's word. */
export function hears({ type }: EventHandler, event: StoredEvent): boolean {
  return type === null || (type === event.type && event.source === null);
}

/** All subscribers of this version, by name. */
@Injectable()
export class EventHandlers {
  private readonly byName = new Map<string, EventHandler>();
  private readonly byType = new Map<string | null, EventHandler[]>();

  add(handler: EventHandler): void {
    this.byName.set(handler.name, handler);
    this.byType.set(handler.type, [...this.of(handler.type), handler]);
  }

  get(name: string): EventHandler | undefined {
    return this.byName.get(name);
  }

  all(): EventHandler[] {
    return [...this.byName.values()];
  }

  names(): string[] {
    return [...this.byName.keys()].sort();
  }

  /** Those of one kind of event, or with null those of every kind. */
  of(type: string | null): readonly EventHandler[] {
    return this.byType.get(type) ?? [];
  }

  queues(): string[] {
    return [...new Set([...this.byName.values()].map(({ job }) => job.queue))];
  }

  /** The handler that a job of this name runs. */
  ofJob(jobName: string): EventHandler | undefined {
    return [...this.byName.values()].find(({ job }) => job.name === jobName);
  }
}
