import { Injectable } from '@nestjs/common';
import { HandleTask, type TaskContext } from '../platform/background/index.js';
import { Database } from '../platform/database/index.js';
import { EventHistory } from '../platform/events/index.js';
import { WebhookReplays } from '../webhooks/index.js';
import { countEvents } from './event-count.js';
import { type PurgeInput, PurgeMatching, type PurgeState } from './purge.task.js';

/** Events looked at in one transaction, of which at most a batch is deleted. */
const LOOK = 2000;

type Context = TaskContext<PurgeInput, PurgeState>;

/** Purges: counts what is meant, then deletes it batch by batch, each in one transaction with the note that it is done. */
@Injectable()
export class PurgeWorker {
  constructor(
    private readonly db: Database,
    private readonly history: EventHistory,
    private readonly deliveries: WebhookReplays,
  ) {}

  @HandleTask(PurgeMatching)
  async purge(context: Context): Promise<object> {
    const { filter, dryRun } = context.input;
    const zero = { total: null, counted: 0, after: null, deleted: 0, kept: 0 };
    let state: PurgeState = context.state ?? zero;
    await context.step('count');
    if (state.total === null) {
      state = { ...(await countEvents(context, this.history, filter, state, Infinity)), after: null };
    }
    await context.step('delete');
    for (let more = !dryRun; more;) {
      context.signal.throwIfAborted();
      state = await this.deleteSome(context, state);
      context.report({ deleted: state.deleted, kept: state.kept });
      context.progress(state.deleted + state.kept, state.total ?? 0);
      more = state.after !== null;
    }
    return { total: state.total, deleted: state.deleted, kept: state.kept };
  }

  private deleteSome(context: Context, state: PurgeState): Promise<PurgeState> {
    const { filter, batchSize } = context.input;
    return this.db.transaction(async (tx) => {
      const { items, next } = await this.history.places(filter, state.after, LOOK);
      const batch = items.slice(0, batchSize);
      const ids = batch.map(({ id }) => id);
      const waiting = await this.deliveries.undelivered(tx, ids);
      const deleted = await this.history.remove(
        tx,
        ids.filter((id) => !waiting.has(id)),
      );
      const done = {
        ...state,
        after: items.length > batchSize ? batch[batch.length - 1] : next,
        deleted: state.deleted + deleted,
        kept: state.kept + waiting.size,
      };
      await context.checkpoint(done, tx);
      return done;
    });
  }
}
