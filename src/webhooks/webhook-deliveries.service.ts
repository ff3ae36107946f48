import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { In } from 'typeorm';
import { type BackgroundTask, BackgroundTasks } from '../platform/background/index.js';
import { type Actor, currentContext } from '../platform/context/index.js';
import { Database, findForUpdate } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { type Page, pageNewestFirst, type PaginationDto } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { ActiveWebhooks } from './active-webhooks.js';
import { addDeliveries } from './deliveries.queries.js';
import { bodyOf, messageId } from './event-body.js';
import type { DeliveryDto, DeliveryQueryDto, RecoveryDto } from './webhooks.dto.js';
import { WebhookAttempt } from './webhook-attempt.entity.js';
import { STARTED_OVER } from './queued-deliveries.js';
import { WebhookDelivery } from './webhook-delivery.entity.js';
import { RecoverWebhook } from './webhook-recovery.js';
import { Webhook } from './webhook.entity.js';
import { WebhookPing } from './webhooks.events.js';

/** All columns but the body, which may be large. */
const SHOWN = {
  ...{ id: true, webhookId: true, eventId: true, eventType: true, status: true, replayId: true },
  ...{ nextAttemptAt: true, createdAt: true, finishedAt: true },
} as const;
type ShownDelivery = Pick<WebhookDelivery, keyof typeof SHOWN>;

/** Lists deliveries and sends them again. */
@Injectable()
export class WebhookDeliveries {
  constructor(
    private readonly db: Database,
    private readonly tasks: BackgroundTasks,
    private readonly active: ActiveWebhooks,
  ) {}

  /** Lists the deliveries of a webhook, the newest first. @throws AppError `not_found` when there is no such webhook */
  async list(
    webhookId: string,
    filter: Pick<DeliveryQueryDto, 'status' | 'event_type'>,
    page: Page,
  ): Promise<{ deliveries: DeliveryDto[]; pagination: PaginationDto }> {
    await this.activeOf(webhookId);
    const list = this.db.repository(WebhookDelivery).createQueryBuilder('delivery');
    list.select(Object.keys(SHOWN).map((column) => `delivery.${column}`)).where({ webhookId });
    if (filter.status) list.andWhere({ status: filter.status });
    if (filter.event_type) list.andWhere({ eventType: filter.event_type });
    const { rows, pagination } = await pageNewestFirst(list, page);
    return { deliveries: await this.withAttempts(rows), pagination };
  }

  /**
   * Sends a delivery again within about a second, with the same id and event and all its retries.
   * @throws AppError `conflict` when the webhook is not active or may no longer receive the event
   */
  async redeliver(id: string): Promise<DeliveryDto> {
    return this.db.transaction(async (tx) => {
      const delivery = await findForUpdate(tx, WebhookDelivery, { id });
      if (!delivery) throw AppError.notFound('delivery', publicId('dlv', id));
      const webhook = await tx.findOneByOrFail(Webhook, { id: delivery.webhookId });
      if (!webhook.active) throw notActive();
      if (!this.active.mayRead(webhook, delivery.eventType)) {
        throw AppError.conflict(
          'The webhook goes by the rights of who set it up, and those do not cover this event any more',
        );
      }
      // A running attempt keeps its lease, since a second one at the same time would show nothing more.
      const nextAttemptAt = delivery.sendingSince ? delivery.nextAttemptAt : STARTED_OVER.nextAttemptAt;
      await tx.update(WebhookDelivery, { id }, { ...STARTED_OVER, nextAttemptAt, replayId: null });
      return this.show(id);
    });
  }

  /** Sends a `webhook.ping` to test the receiver. @throws AppError `conflict` when the webhook is not active */
  async ping(webhookId: string): Promise<DeliveryDto> {
    if (!(await this.activeOf(webhookId))) throw notActive();
    const data = { webhook_id: publicId('webhook', webhookId), message: 'This is a test.' };
    const event = { id: randomUUID(), type: WebhookPing.type, data, occurredAt: new Date().toISOString() };
    const [added] = await addDeliveries(this.db.manager, [{ ...bodyOf(event), webhookIds: [webhookId] }]);
    if (!added) throw notActive();
    return this.show(added.id);
  }

  /**
   * Delivers in the background all events since then that failed or were missed.
   * @throws AppError `conflict` when the webhook is not active, `rate_limited` when too many recoveries are running
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

  /** The progress of a recovery of the webhook. @throws AppError `not_found` */
  async recovery(webhookId: string, id: string): Promise<RecoveryDto> {
    const task = await this.tasks.find(RecoverWebhook, id);
    if (task?.input.webhookId !== webhookId) throw AppError.notFound('recovery', publicId('job', id));
    return toRecoveryDto(task);
  }

  private async activeOf(id: string): Promise<boolean> {
    const webhook = await this.db.repository(Webhook).findOneBy({ id });
    if (!webhook) throw AppError.notFound('webhook', publicId('webhook', id));
    return webhook.active;
  }

  private async show(id: string): Promise<DeliveryDto> {
    const delivery = await this.db.repository(WebhookDelivery).findOneOrFail({ select: SHOWN, where: { id } });
    const [shown] = await this.withAttempts([delivery]);
    return shown;
  }

  private async withAttempts(deliveries: readonly ShownDelivery[]): Promise<DeliveryDto[]> {
    const deliveryId = In(deliveries.map(({ id }) => id));
    const attempts = await this.db.repository(WebhookAttempt).find({ where: { deliveryId }, order: { n: 'ASC' } });
    return deliveries.map((delivery) =>
      toDeliveryDto(
        delivery,
        attempts.filter((attempt) => attempt.deliveryId === delivery.id),
      ),
    );
  }
}

function notActive(): AppError {
  return AppError.conflict('The webhook is not active: nothing is sent to it');
}

function toDeliveryDto(delivery: ShownDelivery, attempts: readonly WebhookAttempt[]): DeliveryDto {
  return {
    delivery_id: publicId('dlv', delivery.id),
    webhook_id: publicId('webhook', delivery.webhookId),
    event_id: messageId(delivery.eventType, delivery.eventId),
    event_type: delivery.eventType,
    status: delivery.status,
    replay_id: delivery.replayId && publicId('replay', delivery.replayId),
    next_attempt_at: delivery.nextAttemptAt?.toISOString() ?? null,
    created_at: delivery.createdAt.toISOString(),
    finished_at: delivery.finishedAt?.toISOString() ?? null,
    attempts: attempts.map((attempt) => ({
      attempt: attempt.n,
      at: attempt.at.toISOString(),
      status_code: attempt.statusCode,
      latency_ms: attempt.latencyMs,
      error_code: attempt.errorCode,
      error: attempt.error,
      response_snippet: attempt.responseSnippet,
      delivery_info: attempt.deliveryInfo,
    })),
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
    created_at: task.createdAt.toISOString(),
    completed_at: task.finishedAt?.toISOString() ?? null,
  };
}
