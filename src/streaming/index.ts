export { StreamingModule } from './streaming.module.js';
export { assertMayRead, type ReadingRule, readingRules, readingScopes, scopeOfEvent } from './channels.js';
export { type SavedSubscription, SavedSubscriptions } from './saved-subscriptions.js';
