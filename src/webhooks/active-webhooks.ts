import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { Database } from '../platform/database/index.js';
import { EventCatalogue, filterFields, filterOf, matchesEvent } from '../platform/events/index.js';
import { Bus } from '../platform/realtime/index.js';
import { Webhook } from './webhook.entity.js';
import type { Wants } from './webhooks.queries.js';

/** An active webhook as this process knows it, at most a few seconds old. */
export type Subscription = Wants & Pick<Webhook, 'id' | 'filters' | 'batchSize' | 'failingSince'>;

const SUBSCRIPTION = {
  ...{ id: true, events: true, readerScopes: true },
  ...{ filters: true, batchSize: true, failingSince: true },
} as const;

/** The parts of an event that decide which webhooks want it. */
export type WantedEvent = Parameters<typeof filterFields>[0];

/** Bus channel: a webhook has changed. */
const CHANGED = 'webhooks.changed';
/** Webhooks are loaded again after this time, because a message of the bus can be lost. */
const KEEP_MS = 5000;

/** Keeps in memory which events the active webhooks want, because every event needs it. */
@Injectable()
export class ActiveWebhooks implements OnModuleDestroy {
  private loading: Promise<Subscription[]> | undefined;
  private loadedAt = 0;
  private readonly unsubscribe: () => void;

  constructor(
    private readonly db: Database,
    private readonly bus: Bus,
    private readonly catalogue: EventCatalogue,
  ) {
    this.unsubscribe = bus.subscribe(CHANGED, () => (this.loading = undefined));
  }

  /** Must be called after the commit of a change. */
  changed(): void {
    this.bus.publish(CHANGED, {});
  }

  /** The webhooks that get this event, each with the event type that its delivery will have. */
  async matching(event: WantedEvent): Promise<(Subscription & { type: string })[]> {
    const all = await this.all();
    return all.flatMap((one) => {
      const type = this.typeFor(one, event.type);
      return type !== null && fits(one, event) ? [{ ...one, type }] : [];
    });
  }

  /** True when, as far as this process knows, a webhook gets events of this type. */
  async anyWants(type: string): Promise<boolean> {
    return (await this.all()).some((one) => this.typeFor(one, type) !== null);
  }

  /** The type under which a webhook gets events of a kind: their own, or the one that includes it; null: it does not get them. */
  typeFor(webhook: Wants, type: string): string | null {
    if (this.wants(webhook, type)) return type;
    const broader = this.catalogue.broaderTypeOf(type);
    return broader !== null && this.wants(webhook, broader) ? broader : null;
  }

  /** Whether a webhook may be told of events of this kind at all. */
  mayRead({ readerScopes }: Pick<Wants, 'readerScopes'>, type: string): boolean {
    return readerScopes.includes(this.catalogue.accessTo(type).scope);
  }

  onModuleDestroy(): void {
    this.unsubscribe();
  }

  private wants(webhook: Wants, type: string): boolean {
    return this.mayRead(webhook, type) && webhook.events.some((pattern) => matchesEvent(pattern, type));
  }

  private all(): Promise<Subscription[]> {
    if (!this.loading || Date.now() - this.loadedAt > KEEP_MS) {
      const loading = this.db.repository(Webhook).find({ select: SUBSCRIPTION, where: { active: true } });
      this.loading = loading;
      this.loadedAt = Date.now();
      loading.catch(() => {
        if (this.loading === loading) this.loading = undefined;
      });
    }
    return this.loading;
  }
}

/** Whether the filters of a webhook let an event of a wanted kind through. */
export function fits({ filters }: Pick<Subscription, 'filters'>, event: WantedEvent): boolean {
  return filters === null || (filterOf(filters)?.({ fields: filterFields(event) }) ?? true);
}
