import type { TaskContext } from '../platform/background/index.js';
import { AppError } from '../platform/errors/index.js';
import type { EventHistory, HistoryFilter, HistoryPlace } from '../platform/events/index.js';

const PAGE = 5000;

/** What a task that first counts keeps of it. */
export interface Counting {
  /** Null while it counts. */
  total: number | null;
  counted: number;
  after: HistoryPlace | null;
}

/**
 * Counts the events that are meant, page by page, each page with a checkpoint.
 * @returns the state with its `total`, at the beginning again
 * @throws AppError `unprocessable` when there are more than `most`
 */
export async function countEvents<State extends Counting>(
  context: TaskContext<object, State>,
  history: EventHistory,
  filter: HistoryFilter,
  begun: State,
  most: number,
): Promise<State> {
  let state = begun;
  while (state.total === null) {
    context.signal.throwIfAborted();
    const { items, next } = await history.places(filter, state.after, PAGE);
    const counted = state.counted + items.length;
    if (counted > most) throw AppError.unprocessable(`More than ${most} events are meant: narrow the filter`);
    state = { ...state, counted, after: next, total: next ? null : counted };
    context.report({ total: counted });
    await context.checkpoint(state);
  }
  context.log(`${state.total} events are meant`);
  return state;
}
