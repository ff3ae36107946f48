import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { type BackgroundTask, BackgroundTasks } from '../platform/background/index.js';
import { type Actor, currentContext } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { type Page, type PaginationDto, paginationOf, publicId, timeAndIdAfter } from '../platform/http/index.js';
import { mayHear, type Wants } from './active-webhooks.js';
import { Deliveries } from './deliveries.js';
import { bodyOf, messageId } from './event-body.js';
import type { DeliveryDto, DeliveryQueryDto, RecoveryDto } from './webhooks.dto.js';
import { RecoverWebhook } from './webhook-recovery.js';
import { WebhookPing } from './webhooks.events.js';

interface DeliveryRow {
  id: string;
  webhook_id: string;
  event_id: string;
  event_type: string;
  status: DeliveryDto['status'];
  replay_id: string | null;
  next_attempt_at: Date | null;
  created_at: Date;
  finished_at: Date | null;
  log: DeliveryDto['attempts'];
}

const COLUMNS = `d.id, d.webhook_id, d.event_id, d.event_type, d.status, d.replay_id, d.next_attempt_at, d.created_at, d.finished_at,
  (SELECT coalesce(json_agg(json_build_object('attempt', a.n, 'at', a.at, 'status_code', a.status_code,
     'latency_ms', a.latency_ms, 'error_code', a.error_code, 'error', a.error,
     'response_snippet', a.response_snippet, 'delivery_info', a.delivery_info) ORDER BY a.n), '[]')
   FROM webhook_attempts a WHERE a.delivery_id = d.id) AS log`;

/** What was sent, and sending it again. */
@Injectable()
export class WebhookDeliveries {
  constructor(
    private readonly db: Database,
    private readonly deliveries: Deliveries,
    private readonly tasks: BackgroundTasks,
  ) {}

  /** The newest first. @throws AppError `not_found` when there is no such webhook */
  async list(
    webhookId: string,
    filter: Pick<DeliveryQueryDto, 'status' | 'event_type'>,
    page: Page,
  ): Promise<{ deliveries: DeliveryDto[]; pagination: PaginationDto }> {
    await this.activeOf(webhookId);
    const where = `d.webhook_id = $1 AND ($2::text IS NULL OR d.status = $2) AND ($3::text IS NULL OR d.event_type = $3)`;
    const filters = [webhookId, filter.status ?? null, filter.event_type ?? null];
    const found = await this.db.query<DeliveryRow>(
      `SELECT ${COLUMNS} FROM webhook_deliveries d
       WHERE ${where} AND ($6::timestamptz IS NULL OR (d.created_at, d.id) < ($6, $7::uuid))
       ORDER BY d.created_at DESC, d.id DESC LIMIT $4 OFFSET $5`,
      [...filters, page.limit + 1, page.offset, ...timeAndIdAfter(page)],
    );
    const [{ total }] = await this.db.query<{ total: number }>(
      `SELECT count(*)::int AS total FROM webhook_deliveries d WHERE ${where}`,
      filters,
    );
    const rows = found.slice(0, page.limit);
    const last = rows.at(-1);
    const more = { total, hasMore: found.length > page.limit, nextKeys: last && [last.created_at, last.id] };
    return { deliveries: rows.map(toDeliveryDto), pagination: paginationOf(page, more) };
  }

  /**
   * Sends a delivery again within a second or so, with the same id and event and all its retries.
   * @throws AppError `conflict` when the webhook is not active, or may not be told of the event any more
   */
  async redeliver(id: string): Promise<DeliveryDto> {
    return this.db.transaction(async (tx) => {
      const [found] = await tx.query<(Omit<Wants, 'events'> & { active: boolean; event_type: string })[]>(
        `SELECT w.active, w.private_events AS "privateEvents", w.reader_scopes AS "readerScopes", d.event_type FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id WHERE d.id = $1 FOR UPDATE OF d`,
        [id],
      );
      if (!found) throw AppError.notFound('delivery', publicId('dlv', id));
      if (!found.active) throw notActive();
      if (!mayHear(found, found.event_type)) {
        throw AppError.conflict(
          'The webhook goes by the rights of who set it up, and those do not cover this event any more',
        );
      }
      // While an attempt is under way its lease stays: two at once would tell nothing more.
      await tx.query(
        `UPDATE webhook_deliveries SET status = 'pending', failures = 0, finished_at = NULL, replay_id = NULL,
           next_attempt_at = CASE WHEN sending_since IS NULL THEN now() ELSE next_attempt_at END
         WHERE id = $1`,
        [id],
      );
      const [row] = await tx.query<DeliveryRow[]>(`SELECT ${COLUMNS} FROM webhook_deliveries d WHERE d.id = $1`, [id]);
      return toDeliveryDto(row);
    });
  }

  /** Sends a `webhook.ping` to see whether the receiver takes it. @throws AppError `conflict` when it is not active */
  async ping(webhookId: string): Promise<DeliveryDto> {
    if (!(await this.activeOf(webhookId))) throw notActive();
    const data = { webhook_id: publicId('webhook', webhookId), message: 'This is a test.' };
    const event = { id: randomUUID(), type: WebhookPing.type, data, occurredAt: new Date().toISOString() };
    const [added] = await this.deliveries.add([{ ...bodyOf(event), webhookIds: [webhookId] }]);
    if (!added) throw notActive();
    const [row] = await this.db.query<DeliveryRow>(`SELECT ${COLUMNS} FROM webhook_deliveries d WHERE d.id = $1`, [
      added.id,
    ]);
    return toDeliveryDto(row);
  }

  /**
   * Delivers in the background what failed or was missed since then.
   * @throws AppError `conflict` when the webhook is not active, `rate_limited` when too many are being recovered
   */
  async recover(actor: Actor, webhookId: string, since: string): Promise<RecoveryDto> {
    const from = new Date(since);
    if (Number.isNaN(from.getTime())) {
      const issue = 'must be a time such as 2025-01-15T10:30:00Z';
      throw AppError.validation({ field: 'since', issue, location: 'query' });
    }
    if (from.getTime() > Date.now()) {
      throw AppError.validation({ field: 'since', issue: 'must not be in the future', location: 'query' });
    }
    if (!(await this.activeOf(webhookId))) throw notActive();
    const input = { webhookId, since: from.toISOString(), to: new Date().toISOString() };
    return this.db.transaction(async (tx) => {
      const task = await this.tasks.start(tx, RecoverWebhook, input, actor);
      const context = currentContext();
      if (context) context.resourceId = publicId('webhook', webhookId);
      return toRecoveryDto(task);
    });
  }

  /** How far a recovery of the webhook has come. @throws AppError `not_found` */
  async recovery(webhookId: string, id: string): Promise<RecoveryDto> {
    const task = await this.tasks.find(RecoverWebhook, id);
    if (task?.input.webhookId !== webhookId) throw AppError.notFound('recovery', publicId('job', id));
    return toRecoveryDto(task);
  }

  private async activeOf(id: string): Promise<boolean> {
    const [webhook] = await this.db.query<{ active: boolean }>('SELECT active FROM webhooks WHERE id = $1', [id]);
    if (!webhook) throw AppError.notFound('webhook', publicId('webhook', id));
    return webhook.active;
  }
}

function notActive(): AppError {
  return AppError.conflict('The webhook is not active: nothing is sent to it');
}

function toDeliveryDto(row: DeliveryRow): DeliveryDto {
  return {
    delivery_id: publicId('dlv', row.id),
    webhook_id: publicId('webhook', row.webhook_id),
    event_id: messageId(row.event_type, row.event_id),
    event_type: row.event_type,
    status: row.status,
    replay_id: row.replay_id && publicId('replay', row.replay_id),
    next_attempt_at: row.next_attempt_at?.toISOString() ?? null,
    created_at: row.created_at.toISOString(),
    finished_at: row.finished_at?.toISOString() ?? null,
    attempts: row.log.map((attempt) => ({ ...attempt, at: new Date(attempt.at).toISOString() })),
  };
}

function toRecoveryDto(task: BackgroundTask<{ webhookId: string; since: string }>): RecoveryDto {
  const { recovered } = task.details;
  return {
    recovery_id: publicId('job', task.id),
    webhook_id: publicId('webhook', task.input.webhookId),
    since: task.input.since,
    status: task.status,
    progress: task.progress,
    recovered: typeof recovered === 'number' ? recovered : 0,
    error: task.error?.message ?? null,
    created_at: task.created_at.toISOString(),
    completed_at: task.finished_at?.toISOString() ?? null,
  };
}
