import { appendMetadata } from '../jobs/index.js';
import type { EventDefinition, StoredEvent } from './event-definition.js';

export const ON_EVENT = Symbol('on-event');

export interface OnEventOptions {
  /** Name of this subscriber, unique in the whole server: `<domain>.<what it does>`. */
  handler: string;
  queue: string;
  attempts?: number;
}

export interface OnEventMeta extends OnEventOptions {
  /** Null: events of every kind. */
  type: string | null;
  /** The handler takes a list. */
  many: boolean;
}

/** Runs the method as a job of its own for every event of the kind: a failing subscriber is retried alone. */
export function OnEvent<Payload extends object>(event: EventDefinition<Payload>, options: OnEventOptions) {
  return <M extends (event: StoredEvent<Payload>) => Promise<unknown>>(
    target: object,
    name: string | symbol,
    descriptor: TypedPropertyDescriptor<M>,
  ): void => {
    const meta: OnEventMeta = { ...options, type: event.type, many: false };
    appendMetadata(ON_EVENT, meta)(target, name, descriptor as TypedPropertyDescriptor<unknown>);
  };
}

/** Runs the method for events of the kind, up to a hundred in one job: in their order, some of them again after a failure. */
export function OnEvents<Payload extends object>(event: EventDefinition<Payload>, options: OnEventOptions) {
  return <M extends (events: StoredEvent<Payload>[]) => Promise<unknown>>(
    target: object,
    name: string | symbol,
    descriptor: TypedPropertyDescriptor<M>,
  ): void => {
    const meta: OnEventMeta = { ...options, type: event.type, many: true };
    appendMetadata(ON_EVENT, meta)(target, name, descriptor as TypedPropertyDescriptor<unknown>);
  };
}

/** Runs the method for all events of whatever kind, many in one job: in their order, some of them again after a failure. */
export function OnEveryEvent(options: OnEventOptions) {
  return <M extends (events: StoredEvent[]) => Promise<unknown>>(
    target: object,
    name: string | symbol,
    descriptor: TypedPropertyDescriptor<M>,
  ): void => {
    const meta: OnEventMeta = { ...options, type: null, many: true };
    appendMetadata(ON_EVENT, meta)(target, name, descriptor as TypedPropertyDescriptor<unknown>);
  };
}
