import { defineBackgroundTask } from '../platform/background/index.js';
import type { HistoryFilter } from '../platform/events/index.js';
import type { Counting } from './event-count.js';

export interface PurgeInput {
  filter: HistoryFilter & { to: string };
  dryRun: boolean;
  /** Most events deleted in one transaction. */
  batchSize: number;
}

export interface PurgeState extends Counting {
  deleted: number;
  /** Matching events that are still to be delivered to somebody. */
  kept: number;
}

/** Deletes events before their retention ends. */
export const PurgeMatching = defineBackgroundTask<PurgeInput, PurgeState>({
  kind: 'event.purge',
  queue: 'events',
  steps: ['count', 'delete'],
  maxOpen: 20,
});
