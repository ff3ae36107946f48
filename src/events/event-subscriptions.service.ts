import { randomUUID } from 'node:crypto';
import { Injectable, type OnModuleInit } from '@nestjs/common';
import { type Actor, actsOn } from '../platform/context/index.js';
import { Database, findForUpdate, insertRow, takeLock, type Tx } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { EventCatalogue, filterOf } from '../platform/events/index.js';
import { assertVersion, Deletions, type Page, pageNewestFirst } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { ownerOf } from '../platform/ownership/index.js';
import { SavedSubscriptions } from '../streaming/index.js';
import { type ManagedWebhook, ManagedWebhooks } from '../webhooks/index.js';
import { EventSubscription } from './event-subscription.entity.js';
import { toSubscriptionDto } from './event-subscription.js';
import type {
  CreateSubscriptionDto,
  PutSubscriptionDto,
  SubscriptionDto,
  SubscriptionListDto,
  SubscriptionQueryDto,
} from './event-subscriptions.dto.js';

/** Of one owner. */
const MOST = 50;

/** What somebody wants to hear and how. Everybody sees his own alone: that is part of each query. */
@Injectable()
export class EventSubscriptions implements OnModuleInit {
  constructor(
    private readonly db: Database,
    private readonly webhooks: ManagedWebhooks,
    private readonly saved: SavedSubscriptions,
    private readonly deletions: Deletions,
    private readonly catalogue: EventCatalogue,
  ) {}

  onModuleInit(): void {
    this.saved.find = async (actor, id) => {
      const own = { id, ownerId: actor.id, deliveryMethod: 'stream' as const };
      const found = await this.db.repository(EventSubscription).findOneBy(own);
      return found && { patterns: found.eventPatterns, filters: found.filters, enabled: found.enabled };
    };
  }

  /**
   * @throws AppError `validation`; `forbidden` for events that the actor may not read; `rate_limited`
   *   SUBSCRIPTION_LIMIT_EXCEEDED past 50 of one owner
   */
  async create(actor: Actor, dto: CreateSubscriptionDto): Promise<SubscriptionDto> {
    this.assertMaySubscribe(actor, dto.event_patterns);
    filterOf(dto.filters);
    const config = dto.webhook_config;
    assertFitting(dto);
    if (config) await this.webhooks.assertAllowed(config.url, 'webhook_config.url');
    return this.db.transaction(async (tx) => {
      await assertRoom(tx, actor);
      const id = randomUUID();
      actsOn(publicId('sub', id));
      const row = await insertRow(tx, EventSubscription, {
        id,
        ownerId: actor.id,
        deliveryMethod: dto.delivery_method,
        ...this.valuesOf(actor, dto),
      });
      if (!config) return toSubscriptionDto(row);
      const wanted = webhookOf(row, { ...config, batch: dto.batch_config ?? null });
      const { webhook, secret } = await this.webhooks.create(tx, actor, id, wanted, config.secret);
      return toSubscriptionDto(row, webhook, secret);
    });
  }

  async list(actor: Actor, query: SubscriptionQueryDto, page: Page): Promise<SubscriptionListDto> {
    const { delivery_method: deliveryMethod, enabled } = query;
    const list = this.db.repository(EventSubscription).createQueryBuilder('subscription').where({ ownerId: actor.id });
    if (deliveryMethod) list.andWhere({ deliveryMethod });
    if (enabled !== undefined) list.andWhere({ enabled });
    const { rows, pagination } = await pageNewestFirst(list, page);
    const webhooks = await this.webhooks.of(rows.map(({ id }) => id));
    return { subscriptions: rows.map((row) => toSubscriptionDto(row, webhooks.get(row.id))), pagination };
  }

  /** @throws AppError `not_found`, also for another's */
  async get(actor: Actor, id: string): Promise<SubscriptionDto> {
    const row = await this.db.repository(EventSubscription).findOneBy({ id, ownerId: actor.id });
    if (!row) throw notFound(id);
    return toSubscriptionDto(row, (await this.webhooks.of([id])).get(id));
  }

  /** Only the secret may be left out and stays. @throws AppError as {@link create}; `precondition` when it is not at the expected version */
  async replace(
    actor: Actor,
    id: string,
    dto: PutSubscriptionDto,
    expected: number | undefined,
  ): Promise<SubscriptionDto> {
    this.assertMaySubscribe(actor, dto.event_patterns);
    filterOf(dto.filters);
    assertFitting(dto);
    const { webhook_config: config } = dto;
    if (config) await this.webhooks.assertAllowed(config.url, 'webhook_config.url');
    return this.db.transaction(async (tx) => {
      const row = await lock(tx, actor, id);
      assertVersion(expected, row.version);
      if (dto.delivery_method !== row.deliveryMethod) throw bodyIssue('delivery_method', 'cannot be changed');
      Object.assign(row, this.valuesOf(actor, dto), dto.enabled === false ? {} : { disabledAt: null });
      await tx.save(row);
      if (!config) return toSubscriptionDto(row);
      const wanted = webhookOf(row, { ...config, batch: dto.batch_config ?? null });
      return toSubscriptionDto(row, await this.webhooks.update(tx, actor, id, wanted, config.secret ?? undefined));
    });
  }

  /** With a webhook go its deliveries and their log. @throws AppError `not_found`, also for another's */
  remove(actor: Actor, id: string): Promise<void> {
    const remove = async (tx: Tx): Promise<void> => {
      await lock(tx, actor, id);
      await this.webhooks.remove(tx, id);
      await tx.delete(EventSubscription, { id });
    };
    return this.deletions.once(publicId('sub', id), remove, actor.id);
  }

  /** What a request says of a subscription, and from whom it has its rights. */
  private valuesOf(actor: Actor, dto: CreateSubscriptionDto | PutSubscriptionDto): Partial<EventSubscription> {
    return {
      name: dto.name,
      eventPatterns: [...new Set(dto.event_patterns)],
      filters: dto.filters ?? null,
      readerScopes: this.catalogue.readingScopes(actor),
      enabled: dto.enabled ?? true,
      ownerCredential: ownerOf(actor).credentialId,
    };
  }

  private assertMaySubscribe(actor: Actor, patterns: readonly string[]): void {
    if (actor.type === 'agent') throw AppError.forbidden('Agents cannot have event subscriptions');
    this.catalogue.assertMayRead(actor, patterns, 'event_patterns');
  }
}

function webhookOf(
  row: EventSubscription,
  { url, retry_config, batch }: Pick<ManagedWebhook, 'url' | 'batch'> & { retry_config?: ManagedWebhook['retry'] },
): ManagedWebhook {
  const { eventPatterns: events, filters, enabled: active, name: description } = row;
  return { url, batch, retry: retry_config, events, filters, active, description };
}

/** One of an owner's requests after the other, so that none slips past the limit beside another. */
async function assertRoom(tx: Tx, actor: Actor): Promise<void> {
  await takeLock(tx, 'events.subscriptions', actor.id);
  if ((await tx.countBy(EventSubscription, { ownerId: actor.id })) < MOST) return;
  const options = { code: 'SUBSCRIPTION_LIMIT_EXCEEDED', limit: MOST, details: { limit: MOST } };
  throw new AppError('rate_limited', `At most ${MOST} subscriptions of one owner; delete one first`, options);
}

async function lock(tx: Tx, actor: Actor, id: string): Promise<EventSubscription> {
  const row = await findForUpdate(tx, EventSubscription, { id, ownerId: actor.id });
  if (!row) throw notFound(id);
  return row;
}

function assertFitting(dto: PutSubscriptionDto): void {
  if (dto.delivery_method === 'webhook') {
    if (!dto.webhook_config) throw bodyIssue('webhook_config', 'is needed by webhook');
    return;
  }
  if (dto.webhook_config) throw bodyIssue('webhook_config', 'is for webhook alone');
  if (dto.batch_config) throw bodyIssue('batch_config', 'is for webhook alone');
}

function bodyIssue(field: string, issue: string): AppError {
  return AppError.validation({ field, issue, location: 'body' });
}

function notFound(id: string): AppError {
  return AppError.notFound('subscription', publicId('sub', id));
}
