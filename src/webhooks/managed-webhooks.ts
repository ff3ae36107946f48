import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { Settings } from '../platform/config/index.js';
import { type Actor, actorHas } from '../platform/context/index.js';
import { newSigningSecret } from '../platform/crypto/index.js';
import { Database, type Tx } from '../platform/database/index.js';
import { EgressClient } from '../platform/egress/index.js';
import { ownerOf } from '../platform/ownership/index.js';
import { readingScopes } from '../streaming/index.js';
import { ActiveWebhooks } from './active-webhooks.js';
import { cancelQueued, giveUpUnreadable, isNarrower } from './queued-deliveries.js';
import { completeRetry } from './retry-policy.js';
import { assertRoomForWebhook, type Webhook, WEBHOOK_COLUMNS } from './webhook.js';
import { WebhookSecrets } from './webhook-secrets.js';
import type { BatchConfigDto, RetryConfigDto } from './webhooks.dto.js';

/** What the webhook of an event subscription is to be. */
export interface ManagedWebhook {
  url: string;
  events: readonly string[];
  filters: object | null;
  batch: BatchConfigDto | null;
  retry?: RetryConfigDto;
  active: boolean;
  description: string;
}

/**
 * For other domains: webhooks that are part of an event subscription (row EVT-04). They are sent, signed, retried and logged as all
 * others, and get only events that who wrote the subscription may read.
 */
@Injectable()
export class ManagedWebhooks {
  constructor(
    private readonly db: Database,
    private readonly egress: EgressClient,
    private readonly secrets: WebhookSecrets,
    private readonly active: ActiveWebhooks,
    private readonly settings: Settings,
  ) {}

  /** @throws AppError `validation` for a URL that may not be reached */
  async assertAllowed(url: string, field: string): Promise<void> {
    await this.egress.assertAllowed(url, field);
  }

  /** @returns the secret too when none was given. @throws AppError `conflict` past the limit */
  async create(
    tx: Tx,
    actor: Actor,
    subscriptionId: string,
    webhook: ManagedWebhook,
    given?: string,
  ): Promise<{ webhook: Webhook; secret?: string }> {
    await assertRoomForWebhook(tx, this.settings.webhookMax);
    const id = randomUUID();
    const secret = given ?? newSigningSecret();
    const [created] = await tx.query<Webhook[]>(
      `INSERT INTO webhooks (managed_by, id, secret_box, created_by, url, events, private_events, reader_scopes, filters,
         batch_size, batch_wait_ms, active, retry_config, description, holder_id, holder_credential)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) RETURNING ${WEBHOOK_COLUMNS}`,
      [subscriptionId, id, this.secrets.seal(id, secret), actor.id, ...valuesOf(actor, webhook)],
    );
    this.db.afterCommit(tx, () => this.active.changed());
    return { webhook: created, ...(given === undefined ? { secret } : {}) };
  }

  /** Switched on it forgets why it was disabled. A new secret replaces the old one at once. */
  async update(
    tx: Tx,
    actor: Actor,
    subscriptionId: string,
    webhook: ManagedWebhook,
    secret?: string,
  ): Promise<Webhook> {
    const [before] = await tx.query<Webhook[]>(
      `SELECT ${WEBHOOK_COLUMNS} FROM webhooks WHERE managed_by = $1 FOR UPDATE`,
      [subscriptionId],
    );
    const { id } = before;
    const [[updated]] = await tx.query<[Webhook[], number]>(
      `UPDATE webhooks SET url = $3, events = $4, private_events = $5, reader_scopes = $6, filters = $7, batch_size = $8,
         batch_wait_ms = $9, active = $10, retry_config = $11, description = $12, holder_id = $13, holder_credential = $14,
         secret_box = coalesce($2, secret_box),
         previous_secret_until = CASE WHEN $2 IS NULL THEN previous_secret_until END,
         disabled_at = CASE WHEN $10 THEN NULL ELSE disabled_at END,
         disabled_reason = CASE WHEN $10 THEN NULL ELSE disabled_reason END,
         failing_since = CASE WHEN $10 AND NOT active THEN NULL ELSE failing_since END,
         consecutive_failures = CASE WHEN $10 AND NOT active THEN 0 ELSE consecutive_failures END,
         updated_at = now(), version = version + 1
       WHERE id = $1 RETURNING ${WEBHOOK_COLUMNS}`,
      [id, secret === undefined ? null : this.secrets.seal(id, secret), ...valuesOf(actor, webhook)],
    );
    if (updated.url !== before.url) await cancelQueued(tx, id);
    if (isNarrower(updated, before)) await giveUpUnreadable(tx, id, updated);
    this.db.afterCommit(tx, () => this.active.changed());
    return updated;
  }

  /** With it go its deliveries and their log. */
  async remove(tx: Tx, subscriptionId: string): Promise<void> {
    await tx.query('DELETE FROM webhooks WHERE managed_by = $1', [subscriptionId]);
    this.db.afterCommit(tx, () => this.active.changed());
  }

  /** By UUID of the subscription. */
  async of(subscriptionIds: readonly string[]): Promise<Map<string, Webhook>> {
    const found = await this.db.query<Webhook>(
      `SELECT ${WEBHOOK_COLUMNS} FROM webhooks WHERE managed_by = ANY ($1::uuid[])`,
      [subscriptionIds],
    );
    return new Map(found.map((webhook) => [webhook.managed_by as string, webhook]));
  }
}

function valuesOf(actor: Actor, webhook: ManagedWebhook): unknown[] {
  const { url, events, filters, batch, retry, active, description } = webhook;
  const { actorId, credentialId } = ownerOf(actor);
  return [
    url,
    [...new Set(events)],
    actorHas(actor, 'user:read'),
    readingScopes(actor),
    filters,
    batch?.max_size ?? null,
    batch?.max_wait_ms ?? null,
    active,
    JSON.stringify(completeRetry(retry)),
    description,
    actorId,
    credentialId,
  ];
}
