export {
  broaderTypeOf,
  defineEvent,
  isExpired,
  EVENT_PRIORITIES,
  priorityWord,
  SERVER_SOURCE,
  type EventPriority,
  declaredEvents,
  payloadSchema,
  type EventDefinition,
  type JsonSchema,
  type StoredEvent,
} from './event-definition.js';
export { type Filter, type Filterable, filterFields, filterOf } from './event-filter.js';
export { EVENT_NAME, EVENT_PATTERN, EVENT_PATTERN_RULE, matchesEvent } from './event-pattern.js';
export { EventBus } from './event-bus.js';
export { DeadLetters, type DeadLetter } from './dead-letters.js';
export { EventHandlers, hears } from './event-handlers.js';
export { EventHistory, type HistoryFilter, type HistoryPlace } from './event-history.js';
export { EventNames } from './event-names.js';
export { EventFeed } from './event-feed.js';
export { OnEveryEvent, OnEvent, OnEvents } from './on-event.js';
export { OutboxStatus } from './outbox-status.js';
export { EventsModule } from './events.module.js';
export { CreateEvents1763700000000 } from './events.migration.js';
export { ExtendEvents1763710000000 } from './emitted-events.migration.js';
export { CreateDeadLetters1763720100000 } from './dead-letters.migration.js';
export { CreateEventCheckpoints1763930100000 } from './event-checkpoints.migration.js';
export { NoteRemovedEvents1763720300000 } from './removed-events.migration.js';
export { EVENT_COLUMNS, type EventRow, toStoredEvent } from './event-row.js';
