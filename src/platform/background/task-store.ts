import { Injectable } from '@nestjs/common';
import { Database, type Tx, takeLock } from '../database/index.js';
import {
  addLog,
  beat,
  type ClaimedTask,
  claimTask,
  type DueTask,
  finishTask,
  keepCheckpoint,
  type LogEntry,
  type Outcome,
  putBack,
  type RunState,
  takeDue,
  undispatch,
} from './background.queries.js';
import type { TaskDefinition } from './task-definition.js';

/** The rows of background tasks: who may run one, and what its run writes. All of a run's writes name its attempt. */
@Injectable()
export class TaskStore {
  constructor(private readonly db: Database) {}

  due(kinds: readonly TaskDefinition<object, object>[]): Promise<DueTask[]> {
    return takeDue(this.db.manager, kinds);
  }

  undispatch(ids: readonly string[]): Promise<void> {
    return undispatch(this.db.manager, ids);
  }

  /** Begins a run. Null when it is another's, has ended, or as many of its kind run as may. */
  claim(id: string, definition: TaskDefinition<object, object>): Promise<ClaimedTask | null> {
    return this.db.transaction(async (tx) => {
      await takeLock(tx, 'background.claim', definition.kind);
      return claimTask(tx, id, definition);
    });
  }

  async beat<Run extends RunState>(runs: readonly Run[]): Promise<Run[]> {
    return beat(this.db.manager, runs);
  }

  /** Work that got this far is no reason to give it up. @returns whether the task is still this run's */
  async checkpoint(run: RunState, state: object, tx: Tx = this.db.manager): Promise<boolean> {
    return keepCheckpoint(tx, run, state);
  }

  /** @returns whether the task was still this run's */
  async finish(run: RunState, outcome: Outcome): Promise<boolean> {
    return finishTask(this.db.manager, run, outcome);
  }

  /** Leaves the task to a later run. `failed`: it counts as a failure. */
  async putBack(run: RunState, pauseMs: number, failed: boolean): Promise<void> {
    await putBack(this.db.manager, run, pauseMs, failed);
  }

  async addLog(id: string, entries: readonly LogEntry[]): Promise<void> {
    await addLog(this.db.manager, id, entries);
  }
}
