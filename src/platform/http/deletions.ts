import { Injectable } from '@nestjs/common';
import { IsNull } from 'typeorm';
import { Database, type Tx } from '../database/index.js';
import { isAppError } from '../errors/index.js';
import { Deletion } from './deletion.entity.js';

/**
 * Remembers for a month the ids whose rows are gone, so that a repeated DELETE is answered as the first one. Resources whose
 * rows stay after their end (keys, sessions, roles, agents, commands) answer from those.
 */
@Injectable()
export class Deletions {
  constructor(private readonly db: Database) {}

  /**
   * Runs `remove` in a transaction and notes the public id with it; returns without an effect when it was deleted before.
   * @param owner whose it is, where others are not to know of it: only for the same owner it is known afterwards
   * @throws AppError as `remove` does; its `not_found` for an id that never was
   */
  once(id: string, remove: (tx: Tx) => Promise<void>, owner: string | null = null): Promise<void> {
    return this.db.transaction(async (tx) => {
      try {
        await remove(tx);
      } catch (error) {
        if (isAppError(error) && error.kind === 'not_found' && (await isKnown(tx, id, owner))) return;
        throw error;
      }
      await tx.insert(Deletion, { id, owner });
    });
  }
}

function isKnown(tx: Tx, id: string, owner: string | null): Promise<boolean> {
  return tx.existsBy(Deletion, { id, owner: owner ?? IsNull() });
}
