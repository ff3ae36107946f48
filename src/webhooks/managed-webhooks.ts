import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { In } from 'typeorm';
import { type Actor } from '../platform/context/index.js';
import { newSigningSecret } from '../platform/crypto/index.js';
import { Database, findForUpdate, insertRow, type Tx } from '../platform/database/index.js';
import { EgressClient } from '../platform/egress/index.js';
import { EventCatalogue } from '../platform/events/index.js';
import { ownerOf } from '../platform/ownership/index.js';
import { ActiveWebhooks } from './active-webhooks.js';
import { cancelQueued, giveUpUnreadable } from './queued-deliveries.js';
import { completeRetry } from './retry-policy.js';
import { WebhookSecrets } from './webhook-secrets.js';
import { Webhook } from './webhook.entity.js';
import { assertRoomForWebhook, switchTo } from './webhook.js';
import type { BatchConfigDto, RetryConfigDto } from './webhooks.dto.js';
import { WebhookSettings } from './webhooks.settings.js';

/** The wanted properties of the webhook of an event subscription. */
export interface ManagedWebhook {
  url: string;
  events: readonly string[];
  filters: Record<string, unknown> | null;
  batch: BatchConfigDto | null;
  retry?: RetryConfigDto;
  active: boolean;
  description: string;
}

/**
 * For other domains: webhooks that are part of an event subscription. Their deliveries are signed, sent, retried and logged like all
 * others. They get only events that the owner of the subscription may read.
 */
@Injectable()
export class ManagedWebhooks {
  constructor(
    private readonly db: Database,
    private readonly egress: EgressClient,
    private readonly secrets: WebhookSecrets,
    private readonly active: ActiveWebhooks,
    private readonly settings: WebhookSettings,
    private readonly catalogue: EventCatalogue,
  ) {}

  /** @throws AppError `validation` for a URL that is not allowed */
  async assertAllowed(url: string, field: string): Promise<void> {
    await this.egress.assertAllowed(url, field);
  }

  /** @returns also the secret when none was given. @throws AppError `conflict` when there are too many webhooks */
  async create(
    tx: Tx,
    actor: Actor,
    subscriptionId: string,
    webhook: ManagedWebhook,
    given?: string,
  ): Promise<{ webhook: Webhook; secret?: string }> {
    await assertRoomForWebhook(tx, this.settings.max);
    const id = randomUUID();
    const secret = given ?? newSigningSecret();
    const created = await insertRow(tx, Webhook, {
      id,
      managedBy: subscriptionId,
      secretBox: this.secrets.seal(id, secret),
      createdBy: actor.id,
      active: webhook.active,
      ...this.valuesOf(actor, webhook),
    });
    this.db.afterCommit(tx, () => this.active.changed());
    return { webhook: created, ...(given === undefined ? { secret } : {}) };
  }

  /** Activating it clears the reason why it was disabled. A new secret replaces the old one at once. */
  async update(
    tx: Tx,
    actor: Actor,
    subscriptionId: string,
    webhook: ManagedWebhook,
    secret?: string,
  ): Promise<Webhook> {
    const stored = await findForUpdate(tx, Webhook, { managedBy: subscriptionId });
    if (!stored) throw new Error(`The subscription ${subscriptionId} has no webhook`);
    const before = { ...stored };
    switchTo(stored, webhook.active);
    Object.assign(stored, this.valuesOf(actor, webhook));
    if (secret !== undefined) {
      Object.assign(stored, { secretBox: this.secrets.seal(stored.id, secret), previousSecretUntil: null });
    }
    await tx.save(stored);
    if (stored.url !== before.url) await cancelQueued(tx, stored.id);
    if (before.readerScopes.some((scope) => !stored.readerScopes.includes(scope))) {
      await giveUpUnreadable(tx, stored.id, (type) => this.active.mayRead(stored, type));
    }
    this.db.afterCommit(tx, () => this.active.changed());
    return stored;
  }

  /** Also removes its deliveries and their log. */
  async remove(tx: Tx, subscriptionId: string): Promise<void> {
    await tx.delete(Webhook, { managedBy: subscriptionId });
    this.db.afterCommit(tx, () => this.active.changed());
  }

  /** The webhooks of these subscriptions, by UUID of the subscription. */
  async of(subscriptionIds: readonly string[]): Promise<Map<string, Webhook>> {
    const found = await this.db.repository(Webhook).findBy({ managedBy: In([...subscriptionIds]) });
    return new Map(found.map((webhook) => [webhook.managedBy!, webhook]));
  }

  private valuesOf(actor: Actor, webhook: ManagedWebhook): Partial<Webhook> {
    const { url, events, filters, batch, retry, description } = webhook;
    const { actorId, credentialId } = ownerOf(actor);
    return {
      url,
      events: [...new Set(events)],
      readerScopes: this.catalogue.readingScopes(actor),
      filters,
      batchSize: batch?.max_size ?? null,
      batchWaitMs: batch?.max_wait_ms ?? null,
      retryConfig: completeRetry(retry),
      description,
      holderId: actorId,
      holderCredential: credentialId,
    };
  }
}
