export {
  defineEvent,
  isExpired,
  EVENT_PRIORITIES,
  priorityWord,
  SERVER_SOURCE,
  type EventPriority,
  payloadSchema,
  type EventDefinition,
  type JsonSchema,
  type StoredEvent,
} from './event-definition.js';
export { type Filter, type Filterable, filterFields, filterOf } from './event-filter.js';
export { EVENT_NAME, EVENT_PATTERN, EVENT_PATTERN_RULE, matchesEvent } from './event-pattern.js';
export { EventBus } from './event-bus.js';
export type { DeadLetter } from './dead-letter.entity.js';
export { DeadLetters, type DeadLetterSummary } from './dead-letters.js';
export { EventHandlers, hears } from './event-handlers.js';
export { EventHistory } from './event-history.js';
export { EventNames } from './event-names.js';
export { EventFeed } from './event-feed.js';
export { OnEveryEvent, OnEvent, OnEvents } from './on-event.js';
export { OutboxStatus } from './outbox-status.js';
export { EventsModule } from './events.module.js';
export type { DomainEvent } from './event.entity.js';
export { EventCatalogue, type EventAccess, type EventFamily, type ReadingRule } from './event-catalogue.js';
export { matcherOf } from './name-matcher.js';
export type { HistoryFilter, HistoryPlace } from './outbox.queries.js';
