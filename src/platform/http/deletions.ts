import { Injectable } from '@nestjs/common';
import { IsNull } from 'typeorm';
import { Database, type Tx } from '../database/index.js';
import { isAppError } from '../errors/index.js';
import { Deletion } from './deletion.entity.js';

/**
 * Remembers the ids of deleted rows for a month, so that a repeated DELETE gets the same answer as the first. Resources whose
 * rows remain (keys, sessions, roles, agents, commands) do not need this.
 */
@Injectable()
export class Deletions {
  constructor(private readonly db: Database) {}

  /**
   * Runs `remove` and records the public id in one transaction. Does nothing when the id was deleted before.
   * @param owner the owner of a private resource: the deletion is then known to the same owner only
   * @throws AppError as `remove` does; its `not_found` for an id that never existed
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
