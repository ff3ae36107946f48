import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { WebhookSettings } from './webhooks.settings.js';
import { type Actor, actsOn } from '../platform/context/index.js';
import { assertRotatable, newSigningSecret } from '../platform/crypto/index.js';
import { Database, findForUpdate, insertRow, type Tx } from '../platform/database/index.js';
import { EgressClient } from '../platform/egress/index.js';
import { AppError } from '../platform/errors/index.js';
import { EventCatalogue, filterOf } from '../platform/events/index.js';
import { assertVersion, Deletions, type Page, pageNewestFirst, type PaginationDto } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { ownerOf } from '../platform/ownership/index.js';
import { ActiveWebhooks } from './active-webhooks.js';
import { completeRetry } from './retry-policy.js';
import { cancelQueued, giveUpUnreadable } from './queued-deliveries.js';
import { assertRoomForWebhook, switchTo } from './webhook.js';
import { Webhook } from './webhook.entity.js';
import { stillHeld } from './webhook-rights.js';
import { WebhookSecrets } from './webhook-secrets.js';
import type { CreateWebhookDto, RotateSecretDto, UpdateWebhookDto, WebhookDetailDto } from './webhooks.dto.js';
import { deliveryStats } from './webhooks.queries.js';

const DEFAULT_OVERLAP_SECONDS = 86_400;

/** Manages webhooks: where events are sent, and which. */
@Injectable()
export class WebhooksService {
  constructor(
    private readonly db: Database,
    private readonly egress: EgressClient,
    private readonly secrets: WebhookSecrets,
    private readonly active: ActiveWebhooks,
    private readonly deletions: Deletions,
    private readonly settings: WebhookSettings,
    private readonly catalogue: EventCatalogue,
  ) {}

  /**
   * @returns also the secret when the caller gave none
   * @throws AppError `validation` for a URL that is not allowed, `forbidden` for events that the actor may not read, `conflict` when
   * there are too many webhooks
   */
  async create(actor: Actor, dto: CreateWebhookDto): Promise<{ webhook: Webhook; secret?: string }> {
    await this.egress.assertAllowed(dto.url, 'url');
    filterOf(dto.filters);
    const readerScopes = this.readerScopesOf(actor, dto.events);
    const id = randomUUID();
    const secret = dto.secret ?? newSigningSecret();
    const holder = ownerOf(actor);
    const webhook = await this.db.transaction(async (tx) => {
      await assertRoomForWebhook(tx, this.settings.max);
      const created = await insertRow(tx, Webhook, {
        id,
        url: dto.url,
        events: [...new Set(dto.events)],
        readerScopes,
        secretBox: this.secrets.seal(id, secret),
        active: dto.active ?? true,
        retryConfig: completeRetry(dto.retry_config),
        description: dto.description ?? '',
        createdBy: actor.id,
        filters: dto.filters ?? null,
        batchSize: dto.batch_config?.max_size ?? null,
        batchWaitMs: dto.batch_config?.max_wait_ms ?? null,
        holderId: holder.actorId,
        holderCredential: holder.credentialId,
      });
      actsOn(publicId('webhook', id));
      this.db.afterCommit(tx, () => this.active.changed());
      return created;
    });
    return { webhook, ...(dto.secret === undefined ? { secret } : {}) };
  }

  async list(page: Page): Promise<{ webhooks: Webhook[]; pagination: PaginationDto }> {
    const list = this.db.repository(Webhook).createQueryBuilder('webhook');
    const { rows, pagination } = await pageNewestFirst(list, page);
    return { webhooks: rows, pagination };
  }

  async get(id: string): Promise<Webhook & { stats: WebhookDetailDto['stats'] }> {
    const webhook = await this.db.repository(Webhook).findOneBy({ id });
    if (!webhook) throw notFound(id);
    return { ...webhook, stats: await deliveryStats(this.db.manager, id) };
  }

  /**
   * Activating it clears the reason why it was disabled. A new URL or owner gets nothing that was queued for the previous one.
   * @throws AppError `precondition` when it does not have the expected version
   */
  async update(actor: Actor, id: string, dto: UpdateWebhookDto, expected: number | undefined): Promise<Webhook> {
    if (dto.url !== undefined) await this.egress.assertAllowed(dto.url, 'url');
    filterOf(dto.filters);
    return this.db.transaction(async (tx) => {
      const webhook = await lock(tx, id);
      assertNotManaged(webhook);
      assertVersion(expected, webhook.version);
      const before = { ...webhook };
      // A new URL needs the same check as new events, because it also changes who receives them.
      const rewritten = dto.events !== undefined || dto.url !== undefined;
      const holder = rewritten || dto.active === true ? ownerOf(actor) : undefined;
      // Activating somebody else's webhook makes the actor its owner, but adds none of the actor's rights to it.
      const kept = holder ? stillHeld(webhook.readerScopes, actor) : webhook.readerScopes;
      webhook.url = dto.url ?? webhook.url;
      if (dto.events) webhook.events = [...new Set(dto.events)];
      webhook.readerScopes = rewritten ? this.readerScopesOf(actor, dto.events ?? webhook.events) : kept;
      switchTo(webhook, dto.active ?? webhook.active);
      if (dto.retry_config) webhook.retryConfig = completeRetry(dto.retry_config);
      webhook.description = dto.description ?? webhook.description;
      if (dto.filters !== undefined) webhook.filters = dto.filters;
      if (dto.batch_config !== undefined) {
        webhook.batchSize = dto.batch_config?.max_size ?? null;
        webhook.batchWaitMs = dto.batch_config?.max_wait_ms ?? null;
      }
      if (holder) Object.assign(webhook, { holderId: holder.actorId, holderCredential: holder.credentialId });
      await tx.save(webhook);
      if (webhook.url !== before.url || webhook.holderId !== before.holderId) await cancelQueued(tx, id);
      if (before.readerScopes.some((scope) => !webhook.readerScopes.includes(scope))) {
        await giveUpUnreadable(tx, id, (type) => this.active.mayRead(webhook, type));
      }
      this.db.afterCommit(tx, () => this.active.changed());
      return webhook;
    });
  }

  /** Also removes its deliveries and their log. */
  remove(id: string): Promise<void> {
    return this.deletions.once(publicId('webhook', id), async (tx) => {
      assertNotManaged(await lock(tx, id));
      await tx.delete(Webhook, { id });
      this.db.afterCommit(tx, () => this.active.changed());
    });
  }

  /**
   * Both secrets sign until the overlap ends.
   * @returns also the secret when the caller gave none
   * @throws AppError `conflict` while an earlier rotation overlaps, unless `overlap_seconds` is 0
   */
  async rotateSecret(id: string, dto: RotateSecretDto): Promise<{ until: Date; secret?: string }> {
    const secret = dto.secret ?? newSigningSecret();
    const overlap = dto.overlap_seconds ?? DEFAULT_OVERLAP_SECONDS;
    const until = new Date(Date.now() + 1000 * overlap);
    await this.db.transaction(async (tx) => {
      const webhook = await lock(tx, id);
      assertRotatable(webhook.previousSecretUntil, overlap);
      webhook.previousSecretBox = webhook.secretBox;
      webhook.previousSecretUntil = until;
      webhook.secretBox = this.secrets.seal(id, secret);
      await tx.save(webhook);
    });
    return { until, ...(dto.secret === undefined ? { secret } : {}) };
  }

  /**
   * What the actor's webhooks read by.
   * @throws AppError `forbidden` when an event is asked for by name and the actor may not read it
   */
  private readerScopesOf(actor: Actor, events: readonly string[]): string[] {
    this.catalogue.assertMayRead(actor, events, 'events');
    return this.catalogue.readingScopes(actor);
  }
}

/** @throws AppError `conflict` for a webhook that is part of an event subscription */
function assertNotManaged({ id, managedBy }: Webhook): void {
  if (managedBy === null) return;
  const [webhook_id, subscription_id] = [publicId('webhook', id), publicId('sub', managedBy)];
  throw AppError.conflict(`The webhook belongs to the event subscription ${subscription_id}; change that instead`, {
    webhook_id,
    subscription_id,
  });
}

/** @throws AppError `not_found` */
async function lock(tx: Tx, id: string): Promise<Webhook> {
  const webhook = await findForUpdate(tx, Webhook, { id });
  if (!webhook) throw notFound(id);
  return webhook;
}

function notFound(id: string): AppError {
  return AppError.notFound('webhook', publicId('webhook', id));
}
