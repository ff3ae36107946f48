import { Injectable } from '@nestjs/common';
import type { Tx } from '../database/index.js';
import type { JobDefinition, JobQueue } from '../jobs/index.js';
import type { StoredEvent } from './event-definition.js';
import { type EventHandler, EventHandlers, hears } from './event-handlers.js';

/** Events of one job for a subscriber that takes many. */
const JOB_BATCH = 100;

export type EventJob = Parameters<JobQueue['enqueueMany']>[0][number];

/** Says which of these kinds of events somebody wants, as of the transaction. */
export type AskWanted = (tx: Tx, types: readonly string[]) => Promise<ReadonlySet<string>>;

/** Handles events in the transaction that relays them, and returns those that are left to a job. */
export type HandleInRelay = (tx: Tx, events: StoredEvent[]) => Promise<StoredEvent[]>;

/** What a subscriber did in the relay's transaction has failed: that transaction cannot go on. */
export class HandlingInRelayFailed extends Error {}

/** Makes the jobs of subscribers out of events. */
@Injectable()
export class EventJobs {
  /** By name of the handler. */
  private readonly narrowed = new Map<string, AskWanted>();
  private readonly inRelay = new Map<string, HandleInRelay>();

  constructor(private readonly handlers: EventHandlers) {}

  /** Events that `wanted` does not name cost this subscriber no job. It is asked for each batch, in its transaction. */
  narrow(handler: string, wanted: AskWanted): void {
    this.narrowed.set(handler, wanted);
  }

  /** `handle` is offered the events first. Events that it returns, and all when it throws, become jobs as ever. */
  handleInRelay(handler: string, handle: HandleInRelay): void {
    this.inRelay.set(handler, handle);
  }

  /**
   * Jobs of all subscribers for these events, which are in their order.
   * @param inRelay whether subscribers may handle events in this transaction instead
   * @throws HandlingInRelayFailed when one of them failed
   */
  async ofAll(tx: Tx, events: StoredEvent[], inRelay: boolean): Promise<EventJob[]> {
    const jobs = events.flatMap((event) =>
      this.handlers
        .of(event.type)
        .filter((handler) => !handler.many && hears(handler, event))
        .map((handler) => jobOf(handler, event)),
    );
    const types = [...new Set(events.map(({ type }) => type))];
    const takers = [...types.flatMap((type) => this.handlers.of(type)), ...this.handlers.of(null)];
    for (const handler of takers.filter(({ many }) => many)) {
      jobs.push(...(await this.of(handler, tx, events, inRelay)));
    }
    return jobs;
  }

  /** Jobs of one subscriber. */
  async of(handler: EventHandler, tx: Tx, events: StoredEvent[], inRelay = false): Promise<EventJob[]> {
    const own = events.filter((event) => hears(handler, event));
    if (!handler.many) return own.map((event) => jobOf(handler, event));
    const types = [...new Set(own.map(({ type }) => type))];
    const wanted = handler.type === null ? await this.narrowed.get(handler.name)?.(tx, types) : undefined;
    const asked = wanted ? own.filter(({ type }) => wanted.has(type)) : own;
    return inBatches(handler.job, inRelay ? await this.left(handler, tx, asked) : asked);
  }

  private async left({ name }: EventHandler, tx: Tx, events: StoredEvent[]): Promise<StoredEvent[]> {
    const handle = this.inRelay.get(name);
    if (!handle || events.length === 0) return events;
    try {
      return await handle(tx, events);
    } catch (cause) {
      throw new HandlingInRelayFailed(`${name}: ${String(cause)}`, { cause });
    }
  }
}

function jobOf({ job }: EventHandler, event: StoredEvent): EventJob {
  return { job, payload: event, options: { jobId: event.id }, requestId: event.requestId ?? undefined };
}

function inBatches(job: JobDefinition<unknown>, events: StoredEvent[]): EventJob[] {
  const found: EventJob[] = [];
  for (let i = 0; i < events.length; i += JOB_BATCH) {
    const payload = events.slice(i, i + JOB_BATCH);
    found.push({ job, payload, options: { jobId: `${payload[0].id}-${payload.length}` } });
  }
  return found;
}
