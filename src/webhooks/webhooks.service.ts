import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { Settings } from '../platform/config/index.js';
import { type Actor, actorHas, actsOn } from '../platform/context/index.js';
import { assertRotatable, newSigningSecret } from '../platform/crypto/index.js';
import { Database, type Tx } from '../platform/database/index.js';
import { EgressClient } from '../platform/egress/index.js';
import { AppError } from '../platform/errors/index.js';
import { filterOf } from '../platform/events/index.js';
import {
  assertVersion,
  Deletions,
  type Page,
  type PaginationDto,
  paginationOf,
  publicId,
  timeAndIdAfter,
} from '../platform/http/index.js';
import { ownerOf } from '../platform/ownership/index.js';
import { assertMayRead, readingScopes } from '../streaming/index.js';
import { ActiveWebhooks } from './active-webhooks.js';
import { isPrivateEvent } from './private-events.js';
import { completeRetry } from './retry-policy.js';
import { cancelQueued, giveUpUnreadable, type Hearing, isNarrower } from './queued-deliveries.js';
import { assertRoomForWebhook, type Webhook, WEBHOOK_COLUMNS } from './webhook.js';
import { narrowed } from './webhook-rights.js';
import { WebhookSecrets } from './webhook-secrets.js';
import type { CreateWebhookDto, RotateSecretDto, UpdateWebhookDto, WebhookDetailDto } from './webhooks.dto.js';

const DEFAULT_OVERLAP_SECONDS = 86_400;
const NO_BATCH = { max_size: null, max_wait_ms: null };

/** Who is told of which events, and where (rows WHK-01, WHK-02). */
@Injectable()
export class WebhooksService {
  constructor(
    private readonly db: Database,
    private readonly egress: EgressClient,
    private readonly secrets: WebhookSecrets,
    private readonly active: ActiveWebhooks,
    private readonly deletions: Deletions,
    private readonly settings: Settings,
  ) {}

  /** @returns the secret too when the caller gave none. @throws AppError `validation` for a URL that may not be reached; `forbidden` for events that the actor may not read; `conflict` past the limit */
  async create(actor: Actor, dto: CreateWebhookDto): Promise<{ webhook: Webhook; secret?: string }> {
    await this.egress.assertAllowed(dto.url, 'url');
    filterOf(dto.filters);
    const hearing = hearingOf(actor, dto.events);
    const id = randomUUID();
    const secret = dto.secret ?? newSigningSecret();
    const holder = ownerOf(actor);
    const webhook = await this.db.transaction(async (tx) => {
      await assertRoomForWebhook(tx, this.settings.webhookMax);
      const [created] = await tx.query<Webhook[]>(
        `INSERT INTO webhooks (id, url, events, private_events, secret_box, active, retry_config, description, created_by,
           filters, batch_size, batch_wait_ms, holder_id, holder_credential, reader_scopes)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) RETURNING ${WEBHOOK_COLUMNS}`,
        [
          id,
          dto.url,
          [...new Set(dto.events)],
          hearing.private_events,
          this.secrets.seal(id, secret),
          dto.active ?? true,
          JSON.stringify(completeRetry(dto.retry_config)),
          dto.description ?? '',
          actor.id,
          dto.filters ?? null,
          dto.batch_config?.max_size ?? null,
          dto.batch_config?.max_wait_ms ?? null,
          holder.actorId,
          holder.credentialId,
          hearing.reader_scopes,
        ],
      );
      actsOn(publicId('webhook', id));
      this.db.afterCommit(tx, () => this.active.changed());
      return created;
    });
    return { webhook, ...(dto.secret === undefined ? { secret } : {}) };
  }

  async list(page: Page): Promise<{ webhooks: Webhook[]; pagination: PaginationDto }> {
    const { limit, offset } = page;
    const found = await this.db.query<Webhook>(
      `SELECT ${WEBHOOK_COLUMNS} FROM webhooks
       WHERE $3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid)
       ORDER BY created_at DESC, id DESC LIMIT $1 OFFSET $2`,
      [limit + 1, offset, ...timeAndIdAfter(page)],
    );
    const [{ total }] = await this.db.query<{ total: number }>('SELECT count(*)::int AS total FROM webhooks');
    const webhooks = found.slice(0, limit);
    const last = webhooks.at(-1);
    const hasMore = found.length > limit;
    return {
      webhooks,
      pagination: paginationOf(page, { total, hasMore, nextKeys: last && [last.created_at, last.id] }),
    };
  }

  async get(id: string): Promise<Webhook & { stats: WebhookDetailDto['stats'] }> {
    const [webhook] = await this.db.query<Webhook>(`SELECT ${WEBHOOK_COLUMNS} FROM webhooks WHERE id = $1`, [id]);
    if (!webhook) throw notFound(id);
    const [stats] = await this.db.query<WebhookDetailDto['stats']>(
      `SELECT count(*) FILTER (WHERE status = 'pending')::int AS pending,
              count(*) FILTER (WHERE status = 'delivered' AND finished_at > now() - interval '1 day')::int AS delivered_24h,
              count(*) FILTER (WHERE status = 'failed' AND finished_at > now() - interval '1 day')::int AS failed_24h
       FROM webhook_deliveries WHERE webhook_id = $1`,
      [id],
    );
    return { ...webhook, stats };
  }

  /**
   * Switching it on forgets why it was disabled. Another URL or owner gets nothing that was queued for the one before.
   * @throws AppError `precondition` when it is not at the expected version
   */
  async update(actor: Actor, id: string, dto: UpdateWebhookDto, expected: number | undefined): Promise<Webhook> {
    if (dto.url !== undefined) await this.egress.assertAllowed(dto.url, 'url');
    filterOf(dto.filters);
    return this.db.transaction(async (tx) => {
      const webhook = await lock(tx, id);
      assertNotManaged(webhook);
      assertVersion(expected, webhook.version);
      const batch = dto.batch_config === undefined ? undefined : { ...NO_BATCH, ...dto.batch_config };
      const revived = dto.active === true && !webhook.active;
      // Where the events go is as much a matter of who may hear them as which they are.
      const rewritten = dto.events !== undefined || dto.url !== undefined;
      const holder = rewritten || dto.active === true ? ownerOf(actor) : undefined;
      // Who revives another's webhook answers for it from now on, and lends it nothing.
      const kept = holder ? narrowed(webhook, actor) : webhook;
      const hearing = rewritten ? hearingOf(actor, dto.events ?? webhook.events) : kept;
      const [[updated]] = await tx.query<[Webhook[], number]>(
        `UPDATE webhooks SET url = $2, events = $3, private_events = $4, active = $5, retry_config = $6, description = $7,
           disabled_at = CASE WHEN $5 THEN NULL ELSE disabled_at END,
           disabled_reason = CASE WHEN $5 THEN NULL ELSE disabled_reason END,
           failing_since = CASE WHEN $8 THEN NULL ELSE failing_since END,
           consecutive_failures = CASE WHEN $8 THEN 0 ELSE consecutive_failures END,
           filters = $9, batch_size = $10, batch_wait_ms = $11, updated_at = now(), version = version + 1,
           holder_id = coalesce($12, holder_id), holder_credential = CASE WHEN $12 IS NULL THEN holder_credential ELSE $13 END,
           reader_scopes = $14
         WHERE id = $1 RETURNING ${WEBHOOK_COLUMNS}`,
        [
          id,
          dto.url ?? webhook.url,
          dto.events ? [...new Set(dto.events)] : webhook.events,
          hearing.private_events,
          dto.active ?? webhook.active,
          JSON.stringify(dto.retry_config ? completeRetry(dto.retry_config) : webhook.retry_config),
          dto.description ?? webhook.description,
          revived,
          dto.filters === undefined ? webhook.filters : dto.filters,
          batch ? batch.max_size : webhook.batch_size,
          batch ? batch.max_wait_ms : webhook.batch_wait_ms,
          holder?.actorId ?? null,
          holder?.credentialId ?? null,
          hearing.reader_scopes,
        ],
      );
      if (updated.url !== webhook.url || (holder && holder.actorId !== webhook.holder_id)) await cancelQueued(tx, id);
      if (isNarrower(updated, webhook)) await giveUpUnreadable(tx, id, updated);
      this.db.afterCommit(tx, () => this.active.changed());
      return updated;
    });
  }

  /** With it go its deliveries and their log. */
  remove(id: string): Promise<void> {
    return this.deletions.once(publicId('webhook', id), async (tx) => {
      assertNotManaged(await lock(tx, id));
      await tx.query('DELETE FROM webhooks WHERE id = $1', [id]);
      this.db.afterCommit(tx, () => this.active.changed());
    });
  }

  /**
   * Both secrets sign until the overlap is over.
   * @returns the secret too when the caller gave none
   * @throws AppError `conflict` while an earlier rotation overlaps, unless `overlap_seconds` is 0
   */
  async rotateSecret(id: string, dto: RotateSecretDto): Promise<{ until: Date; secret?: string }> {
    const secret = dto.secret ?? newSigningSecret();
    const overlap = dto.overlap_seconds ?? DEFAULT_OVERLAP_SECONDS;
    const until = new Date(Date.now() + 1000 * overlap);
    await this.db.transaction(async (tx) => {
      assertRotatable((await lock(tx, id)).previous_secret_until, overlap);
      await tx.query(
        `UPDATE webhooks SET previous_secret_box = secret_box, previous_secret_until = $2, secret_box = $3,
           updated_at = now(), version = version + 1 WHERE id = $1`,
        [id, until, this.secrets.seal(id, secret)],
      );
    });
    return { until, ...(dto.secret === undefined ? { secret } : {}) };
  }
}

/** @throws AppError `conflict` for a webhook that is part of an event subscription */
function assertNotManaged({ id, managed_by }: Webhook): void {
  if (managed_by === null) return;
  const [webhook_id, subscription_id] = [publicId('webhook', id), publicId('sub', managed_by)];
  throw AppError.conflict(`The webhook belongs to the event subscription ${subscription_id}; change that instead`, {
    webhook_id,
    subscription_id,
  });
}

/** @throws AppError `not_found` */
async function lock(tx: Tx, id: string): Promise<Webhook & { holder_id: string }> {
  const [webhook] = await tx.query<(Webhook & { holder_id: string })[]>(
    `SELECT ${WEBHOOK_COLUMNS}, holder_id FROM webhooks WHERE id = $1 FOR UPDATE`,
    [id],
  );
  if (!webhook) throw notFound(id);
  return webhook;
}

function notFound(id: string): AppError {
  return AppError.notFound('webhook', publicId('webhook', id));
}

/**
 * What the actor's webhooks may be told of.
 * @throws AppError `forbidden` when an event is asked for by name and the actor may not read it
 */
function hearingOf(actor: Actor, events: readonly string[]): Hearing {
  const privateEvents = actorHas(actor, 'user:read');
  const refused = privateEvents ? [] : events.filter(isPrivateEvent);
  if (refused.length > 0) {
    throw AppError.forbidden('Events about users and their credentials need the scope user:read', { events: refused });
  }
  assertMayRead(actor, events, 'events');
  return { private_events: privateEvents, reader_scopes: readingScopes(actor) };
}
