import { setTimeout as delay } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { HandleTask, type TaskContext } from '../platform/background/index.js';
import { Database } from '../platform/database/index.js';
import { EventHandlers, EventHistory, hears, type HistoryPlace, type StoredEvent } from '../platform/events/index.js';
import { JobQueue } from '../platform/jobs/index.js';
import { WebhookReplays } from '../webhooks/index.js';
import { countEvents } from './event-count.js';
import { type ReplayInput, type ReplayState, ReplayEvents } from './replay.task.js';

const MOST_REPLAYED = 100_000;
/** At once, without a pace: at most two hundred events a second. */
const BATCH = 50;
const PAUSE_MS = 250;
/** Events looked at in one statement. */
const PAGE = 500;

type Context = TaskContext<ReplayInput, ReplayState>;

interface Found {
  event: StoredEvent;
  place: HistoryPlace;
}

/** Replays: counts what is meant, then tells of it in small steps, each in one transaction with the note that it is done. */
@Injectable()
export class ReplayWorker {
  constructor(
    private readonly db: Database,
    private readonly history: EventHistory,
    private readonly handlers: EventHandlers,
    private readonly webhooks: WebhookReplays,
    private readonly jobs: JobQueue,
  ) {}

  @HandleTask(ReplayEvents)
  async replay(context: Context): Promise<object> {
    const zero = { total: null, counted: 0, after: null, replayed: 0, deliveries: 0, handlerJobs: 0 };
    let state: ReplayState = context.state ?? zero;
    await context.step('count');
    if (state.total === null) {
      state = await countEvents(context, this.history, context.input.filter, state, MOST_REPLAYED);
    }
    await context.step('send');
    for (let more = true; more;) {
      context.signal.throwIfAborted();
      const { items, next } = await this.history.page(context.input.filter, state.after, PAGE);
      state = await this.send(context, state, items);
      // What does not match behind the last one that does.
      if (next) state = { ...state, after: next };
      more = next !== null;
    }
    return resultOf(state);
  }

  private async send(context: Context, begun: ReplayState, events: readonly Found[]): Promise<ReplayState> {
    const { mode, delayMs } = context.input;
    const size = mode === 'paced' ? 1 : BATCH;
    let state = begun;
    for (let i = 0; i < events.length; i += size) {
      if (state.replayed > 0) await delay(mode === 'paced' ? delayMs : PAUSE_MS, undefined, { signal: context.signal });
      state = await this.sendSome(context, state, events.slice(i, i + size));
      context.report(resultOf(state));
      context.progress(state.replayed, state.total ?? 0);
    }
    return state;
  }

  private sendSome(context: Context, state: ReplayState, found: readonly Found[]): Promise<ReplayState> {
    const { webhookIds, handlers } = context.input;
    const events = found.map(({ event }) => event);
    return this.db.transaction(async (tx) => {
      const deliveries = await this.webhooks.replay(tx, context.taskId, webhookIds, events);
      const handlerJobs = await this.enqueue(context.taskId, handlers, events);
      const done: ReplayState = {
        ...state,
        after: found[found.length - 1].place,
        replayed: state.replayed + events.length,
        deliveries: state.deliveries + deliveries,
        handlerJobs: state.handlerJobs + handlerJobs,
      };
      await context.checkpoint(done, tx);
      return done;
    });
  }

  /** The ids of the jobs are made of replay and event: one that is added twice runs once. */
  private async enqueue(replayId: string, names: readonly string[], events: readonly StoredEvent[]): Promise<number> {
    const jobs = names.flatMap((name) => {
      const handler = this.handlers.get(name);
      if (!handler) return [];
      const { job, many } = handler;
      return events
        .filter((event) => hears(handler, event))
        .map((event) => ({
          job,
          payload: many ? [event] : event,
          options: { jobId: `${event.id}-replay-${replayId}` },
        }));
    });
    if (jobs.length > 0) await this.jobs.enqueueMany(jobs);
    return jobs.length;
  }
}

function resultOf({ total, replayed, deliveries, handlerJobs }: ReplayState): Record<string, unknown> {
  return { total, replayed, deliveries, handler_jobs: handlerJobs };
}
