import { Injectable, type OnModuleInit } from '@nestjs/common';
import { Settings } from '../platform/config/index.js';
import { Database, type Tx } from '../platform/database/index.js';
import { EventBus, isExpired, OnEveryEvent, type StoredEvent } from '../platform/events/index.js';
import { HandleJob } from '../platform/jobs/index.js';
import { ActiveWebhooks, type Subscription } from './active-webhooks.js';
import { Batches } from './batches.js';
import { Courier } from './courier.js';
import { addDeliveries, type DeliveryOrder, dueDeliveries } from './deliveries.queries.js';
import { bodyOf } from './event-body.js';
import { SweepDeliveries } from './webhooks.jobs.js';
import { addBatchItems, type BatchItem, distinctWants } from './webhooks.queries.js';

const HANDLER = 'webhooks.deliver';
/** Most deliveries that one round of the relay writes itself. With more, jobs write them while the relay continues. */
const MAX_IN_RELAY = 100;

/** The deliveries of events, by the state and kind of their webhooks. */
interface Orders {
  healthy: DeliveryOrder[];
  failing: DeliveryOrder[];
  batched: BatchItem[];
}

/** Handles events and jobs for webhooks. */
@Injectable()
export class WebhooksWorker implements OnModuleInit {
  constructor(
    private readonly db: Database,
    private readonly active: ActiveWebhooks,
    private readonly batches: Batches,
    private readonly courier: Courier,
    private readonly settings: Settings,
    private readonly events: EventBus,
  ) {}

  /** Most event types have no webhook. This filter costs one query for a round of events instead of a job for each. */
  onModuleInit(): void {
    this.events.narrow(HANDLER, async (tx, types) => {
      const asked = await distinctWants(tx);
      return new Set(types.filter((type) => asked.some((one) => this.active.typeFor(one, type) !== null)));
    });
    if (this.settings.runsWorkers) this.events.handleInRelay(HANDLER, (tx, events) => this.deliverInRelay(tx, events));
  }

  /** @returns the events left for a job: those for webhooks that fail, that take batches, or that this process does not know yet */
  private async deliverInRelay(tx: Tx, events: StoredEvent[]): Promise<StoredEvent[]> {
    const left: StoredEvent[] = [];
    const orders: DeliveryOrder[] = [];
    for (const event of events) {
      const { healthy, failing, batched } = await this.ordersOf([event]);
      const known = await this.active.anyWants(event.type);
      if (known && failing.length === 0 && batched.length === 0) orders.push(...healthy);
      else left.push(event);
    }
    if (orders.length === 0) return left;
    if (orders.reduce((sum, { webhookIds }) => sum + webhookIds.length, 0) > MAX_IN_RELAY) return events;
    const due = await addDeliveries(tx, orders);
    this.db.afterCommit(tx, () => this.courier.offer(due));
    return left;
  }

  @OnEveryEvent({ handler: HANDLER, queue: 'webhooks' })
  async deliver(events: StoredEvent[]): Promise<void> {
    const { healthy, failing, batched } = await this.ordersOf(events.filter((one) => !isExpired(one)));
    if (healthy.length > 0) this.courier.offer(await addDeliveries(this.db.manager, healthy));
    if (batched.length > 0) {
      await addBatchItems(this.db.manager, batched);
      this.courier.offer(await this.batches.close());
    }
    // Added after the others were offered, and not offered: the next sweep sends these soon enough.
    if (failing.length > 0) await addDeliveries(this.db.manager, failing);
  }

  private async ordersOf(events: StoredEvent[]): Promise<Orders> {
    const orders: Orders = { healthy: [], failing: [], batched: [] };
    for (const event of events) {
      const webhooks = await this.active.matching(event);
      for (const type of new Set(webhooks.map((one) => one.type))) {
        const ofType = webhooks.filter((one) => one.type === type);
        const idsOf = (which: (one: Subscription) => boolean): string[] => ofType.filter(which).map(({ id }) => id);
        const body = bodyOf({ ...event, type });
        for (const part of ['healthy', 'failing'] as const) {
          const webhookIds = idsOf(
            (one) => one.batchSize === null && (one.failingSince !== null) === (part === 'failing'),
          );
          if (webhookIds.length > 0) orders[part].push({ ...body, webhookIds });
        }
        const webhookIds = idsOf((one) => one.batchSize !== null);
        if (webhookIds.length > 0) orders.batched.push({ ...body, seq: event.seq, webhookIds });
      }
    }
    return orders;
  }

  @HandleJob(SweepDeliveries)
  async sweep(): Promise<void> {
    this.courier.offer(await dueDeliveries(this.db.manager, this.courier.unready()));
    this.courier.offer(await this.batches.close());
  }
}
