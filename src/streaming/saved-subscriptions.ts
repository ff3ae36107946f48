import { Injectable } from '@nestjs/common';
import type { Actor } from '../platform/context/index.js';

/** What somebody has written down to follow again and again. */
export interface SavedSubscription {
  patterns: readonly string[];
  filters: object | null;
  enabled: boolean;
}

/** Finds a subscription of the actor by its UUID; null when there is none. */
export type FindSaved = (actor: Actor, id: string) => Promise<SavedSubscription | null>;

/** Where streams ask for saved subscriptions: whoever keeps them says how to find one. */
@Injectable()
export class SavedSubscriptions {
  find: FindSaved = () => Promise.resolve(null);
}
