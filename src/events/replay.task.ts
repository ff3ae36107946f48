import { defineBackgroundTask } from '../platform/background/index.js';
import type { HistoryFilter } from '../platform/events/index.js';
import type { Counting } from './event-count.js';

export interface ReplayInput {
  /** With an end: what happens after the request is not replayed. */
  filter: HistoryFilter & { to: string };
  /** UUIDs; null: all. */
  webhookIds: string[] | null;
  handlers: string[];
  mode: 'immediate' | 'paced';
  /** Milliseconds, with `paced`. */
  delayMs: number;
}

export interface ReplayState extends Counting {
  replayed: number;
  deliveries: number;
  handlerJobs: number;
}

/** Sends past events to subscribers again. */
export const ReplayEvents = defineBackgroundTask<ReplayInput, ReplayState>({
  kind: 'event.replay',
  queue: 'events',
  steps: ['count', 'send'],
  concurrency: 2,
  maxOpen: 20,
});
