import { randomUUID } from 'node:crypto';
import { Injectable, type OnModuleInit } from '@nestjs/common';
import { type Actor, actsOn } from '../platform/context/index.js';
import { Database, type Tx } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { filterOf } from '../platform/events/index.js';
import { assertVersion, Deletions, type Page, paginationOf, publicId, timeAndIdAfter } from '../platform/http/index.js';
import { ownerOf } from '../platform/ownership/index.js';
import { assertMayRead, readingScopes, SavedSubscriptions } from '../streaming/index.js';
import { type ManagedWebhook, ManagedWebhooks } from '../webhooks/index.js';
import { type EventSubscription, SUBSCRIPTION_COLUMNS, toSubscriptionDto } from './event-subscription.js';
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
  ) {}

  onModuleInit(): void {
    this.saved.find = async (actor, id) => {
      const [row] = await this.db.query<EventSubscription>(
        `SELECT ${SUBSCRIPTION_COLUMNS} FROM event_subscriptions
         WHERE id = $1 AND owner_id = $2 AND delivery_method = 'stream'`,
        [id, actor.id],
      );
      return row ? { patterns: row.event_patterns, filters: row.filters, enabled: row.enabled } : null;
    };
  }

  /**
   * @throws AppError `validation`; `forbidden` for events that the actor may not read; `rate_limited`
   *   SUBSCRIPTION_LIMIT_EXCEEDED past 50 of one owner
   */
  async create(actor: Actor, dto: CreateSubscriptionDto): Promise<SubscriptionDto> {
    assertMaySubscribe(actor, dto.event_patterns);
    filterOf(dto.filters);
    const config = dto.webhook_config;
    assertFitting(dto);
    if (config) await this.webhooks.assertAllowed(config.url, 'webhook_config.url');
    return this.db.transaction(async (tx) => {
      await assertRoom(tx, actor);
      const id = randomUUID();
      actsOn(publicId('sub', id));
      const [row] = await tx.query<EventSubscription[]>(
        `INSERT INTO event_subscriptions (id, owner_id, name, event_patterns, filters, reader_scopes, delivery_method, enabled,
           owner_credential)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING ${SUBSCRIPTION_COLUMNS}`,
        [
          id,
          actor.id,
          dto.name,
          [...new Set(dto.event_patterns)],
          dto.filters ?? null,
          readingScopes(actor),
          dto.delivery_method,
          dto.enabled ?? true,
          ownerOf(actor).credentialId,
        ],
      );
      if (!config) return toSubscriptionDto(row);
      const wanted = webhookOf(row, { ...config, batch: dto.batch_config ?? null });
      const { webhook, secret } = await this.webhooks.create(tx, actor, id, wanted, config.secret);
      return toSubscriptionDto(row, webhook, secret);
    });
  }

  async list(actor: Actor, query: SubscriptionQueryDto, page: Page): Promise<SubscriptionListDto> {
    const where = `owner_id = $1 AND ($2::text IS NULL OR delivery_method = $2) AND ($3::boolean IS NULL OR enabled = $3)`;
    const filters = [actor.id, query.delivery_method ?? null, query.enabled ?? null];
    const [{ total }] = await this.db.query<{ total: number }>(
      `SELECT count(*)::int AS total FROM event_subscriptions WHERE ${where}`,
      filters,
    );
    const found = await this.db.query<EventSubscription>(
      `SELECT ${SUBSCRIPTION_COLUMNS} FROM event_subscriptions
       WHERE ${where} AND ($6::text IS NULL OR (created_at, id) < ($6::timestamptz, $7::uuid))
       ORDER BY created_at DESC, id DESC LIMIT $4 OFFSET $5`,
      [...filters, page.limit + 1, page.offset, ...timeAndIdAfter(page)],
    );
    const rows = found.slice(0, page.limit);
    const last = rows.at(-1);
    const webhooks = await this.webhooks.of(rows.map(({ id }) => id));
    return {
      subscriptions: rows.map((row) => toSubscriptionDto(row, webhooks.get(row.id))),
      pagination: paginationOf(page, {
        total,
        hasMore: found.length > page.limit,
        nextKeys: last && [last.created_at.toISOString(), last.id],
      }),
    };
  }

  /** @throws AppError `not_found`, also for another's */
  async get(actor: Actor, id: string): Promise<SubscriptionDto> {
    const [row] = await this.db.query<EventSubscription>(
      `SELECT ${SUBSCRIPTION_COLUMNS} FROM event_subscriptions WHERE id = $1 AND owner_id = $2`,
      [id, actor.id],
    );
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
    assertMaySubscribe(actor, dto.event_patterns);
    filterOf(dto.filters);
    assertFitting(dto);
    const { webhook_config: config } = dto;
    if (config) await this.webhooks.assertAllowed(config.url, 'webhook_config.url');
    return this.db.transaction(async (tx) => {
      const before = await lock(tx, actor, id);
      assertVersion(expected, before.version);
      if (dto.delivery_method !== before.delivery_method) throw bodyIssue('delivery_method', 'cannot be changed');
      const [[row]] = await tx.query<[EventSubscription[], number]>(
        `UPDATE event_subscriptions SET name = $2, event_patterns = $3, filters = $4, reader_scopes = $5, enabled = $6,
           disabled_at = CASE WHEN NOT $6 THEN disabled_at END, owner_credential = $7, updated_at = now(), version = version + 1
         WHERE id = $1 RETURNING ${SUBSCRIPTION_COLUMNS}`,
        [
          id,
          dto.name,
          [...new Set(dto.event_patterns)],
          dto.filters ?? null,
          readingScopes(actor),
          dto.enabled ?? true,
          ownerOf(actor).credentialId,
        ],
      );
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
      await tx.query('DELETE FROM event_subscriptions WHERE id = $1', [id]);
    };
    return this.deletions.once(publicId('sub', id), remove, actor.id);
  }
}

function webhookOf(
  row: EventSubscription,
  { url, retry_config, batch }: Pick<ManagedWebhook, 'url' | 'batch'> & { retry_config?: ManagedWebhook['retry'] },
): ManagedWebhook {
  const { event_patterns: events, filters, enabled: active, name: description } = row;
  return { url, batch, retry: retry_config, events, filters, active, description };
}

/** One of an owner's requests after the other, so that none slips past the limit beside another. */
async function assertRoom(tx: Tx, actor: Actor): Promise<void> {
  await tx.query(`SELECT pg_advisory_xact_lock(hashtextextended('event_subscriptions/' || $1, 0))`, [actor.id]);
  const [{ count }] = await tx.query<{ count: number }[]>(
    'SELECT count(*)::int AS count FROM event_subscriptions WHERE owner_id = $1',
    [actor.id],
  );
  if (count < MOST) return;
  const options = { code: 'SUBSCRIPTION_LIMIT_EXCEEDED', limit: MOST, details: { limit: MOST } };
  throw new AppError('rate_limited', `At most ${MOST} subscriptions of one owner; delete one first`, options);
}

async function lock(tx: Tx, actor: Actor, id: string): Promise<EventSubscription> {
  const [row] = await tx.query<EventSubscription[]>(
    `SELECT ${SUBSCRIPTION_COLUMNS} FROM event_subscriptions WHERE id = $1 AND owner_id = $2 FOR UPDATE`,
    [id, actor.id],
  );
  if (!row) throw notFound(id);
  return row;
}

function assertMaySubscribe(actor: Actor, patterns: readonly string[]): void {
  if (actor.type === 'agent') throw AppError.forbidden('Agents cannot have event subscriptions');
  assertMayRead(actor, patterns, 'event_patterns');
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
