export { StreamingModule } from './streaming.module.js';
export { type SavedSubscription, SavedSubscriptions } from './saved-subscriptions.js';
