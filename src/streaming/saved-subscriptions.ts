import { Injectable } from '@nestjs/common';
import type { Actor } from '../platform/context/index.js';

/** A subscription that a user has saved, to be used by any number of connections. */
export interface SavedSubscription {
  patterns: readonly string[];
  filters: object | null;
  enabled: boolean;
}

/** Finds a subscription of the actor by its UUID; null when there is none. */
export type FindSaved = (actor: Actor, id: string) => Promise<SavedSubscription | null>;

/** Lets streams find saved subscriptions. The domain that stores them contributes the function that finds one. */
@Injectable()
export class SavedSubscriptions {
  find: FindSaved = () => Promise.resolve(null);
}
