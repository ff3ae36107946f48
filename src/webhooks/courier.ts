import { type BeforeApplicationShutdown, Injectable } from '@nestjs/common';
import { WebhookSettings } from './webhooks.settings.js';
import { runDetached } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { Logger, Metrics } from '../platform/observability/index.js';
import {
  type AttemptOutcome,
  claimDeliveries,
  type ClaimedDelivery,
  type DueDelivery,
  finishAttempts,
} from './deliveries.queries.js';
import { DeliveryAttempt, EVENT_EXPIRED } from './delivery-attempt.js';
import { Lanes } from './lanes.js';
import { WebhookHealth } from './webhook-health.js';

const TOTAL_AT_ONCE = 256;
const MOST_AT_ONCE = 1024;
const SUSPECTS_AT_ONCE = 64;
const CLAIM_BATCH = 128;
const FINISH_BATCH = 256;
/** With this many attempts not logged yet, the database is too slow to send more. */
const MAX_UNLOGGED = 1024;
/** A request that takes longer makes its webhook a suspect at that moment, not only when the request ends. */
const SLOW_MS = 2000;
/** Pause before another try after an error of the database. */
const TROUBLE_MS = 1000;
const DRAIN_MS = 5000;

/**
 * Sends deliveries without a job for each. Their rows record what has to be sent, so that deliveries offered here may be lost from
 * memory, and hanging requests occupy no worker. Rows are claimed and attempts logged in batches that grow with the load.
 */
@Injectable()
export class Courier implements BeforeApplicationShutdown {
  private readonly lanes: Lanes;
  private readonly finished: AttemptOutcome[] = [];
  private claiming = false;
  private logging = false;
  private stopped = false;
  private readonly attempts;

  constructor(
    private readonly db: Database,
    private readonly attempt: DeliveryAttempt,
    private readonly health: WebhookHealth,
    private readonly logger: Logger,
    settings: WebhookSettings,
    metrics: Metrics,
  ) {
    this.lanes = new Lanes({
      total: TOTAL_AT_ONCE,
      most: MOST_AT_ONCE,
      perWebhook: settings.concurrency,
      suspects: SUSPECTS_AT_ONCE,
    });
    this.attempts = metrics.counter('nexus_webhook_attempts_total', 'Attempts to deliver to a webhook', ['result']);
  }

  /** Sends these deliveries soon, unless they are no longer due then. */
  offer(due: readonly DueDelivery[]): void {
    if (this.stopped) return;
    for (const one of due) this.lanes.offer(one);
    void runDetached(() => this.sendWaiting());
  }

  /** UUIDs of webhooks for which no more deliveries can be accepted at the moment. */
  unready(): string[] {
    return this.lanes.unready();
  }

  /** Waits for running requests. Those that do not end in time count as cut off and are sent again. */
  async beforeApplicationShutdown(): Promise<void> {
    this.stopped = true;
    const end = Date.now() + DRAIN_MS;
    while ((this.lanes.busy || this.logging || this.claiming) && Date.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  private async sendWaiting(): Promise<void> {
    if (this.claiming) return;
    this.claiming = true;
    try {
      while (!this.stopped && this.finished.length < MAX_UNLOGGED) {
        const ids = this.lanes.take(CLAIM_BATCH);
        if (ids.length === 0) return;
        await this.claim(ids);
      }
    } finally {
      this.claiming = false;
    }
  }

  private async claim(ids: string[]): Promise<void> {
    const left = new Set(ids);
    try {
      for (const delivery of await claimDeliveries(this.db.manager, ids)) {
        left.delete(delivery.id);
        void this.send(delivery);
      }
    } catch (error) {
      this.logger.warn({ err: String(error) }, 'Deliveries could not be claimed; the next sweep tries again');
    } finally {
      for (const id of left) this.lanes.release(id);
    }
  }

  private async send(delivery: ClaimedDelivery): Promise<void> {
    const late = setTimeout(() => {
      this.lanes.late(delivery.id);
      void this.sendWaiting();
    }, SLOW_MS);
    const outcome = await this.attempt.run(delivery);
    clearTimeout(late);
    this.attempts.inc({ result: outcome.result });
    this.finished.push(outcome);
    const { result, statusCode, latencyMs, pauseMs } = outcome;
    if (outcome.errorCode === 'CIRCUIT_OPEN') this.lanes.release(delivery.id, 'left_alone', pauseMs);
    else if (result === 'unsent' || outcome.errorCode === EVENT_EXPIRED) this.lanes.release(delivery.id);
    else {
      this.lanes.release(delivery.id, statusCode !== null && (latencyMs ?? 0) < SLOW_MS ? 'good' : 'suspect');
    }
    void this.log();
    void this.sendWaiting();
  }

  private async log(): Promise<void> {
    if (this.logging) return;
    this.logging = true;
    try {
      while (this.finished.length > 0) {
        const batch = this.finished.slice(0, FINISH_BATCH);
        try {
          const unnoted = await finishAttempts(this.db.manager, batch);
          this.finished.splice(0, batch.length);
          await this.health.report(batch, unnoted);
        } catch (error) {
          this.logger.warn({ err: String(error) }, 'Attempts could not be logged and will be tried again');
          if (this.stopped) return;
          await new Promise((resolve) => setTimeout(resolve, TROUBLE_MS));
        }
      }
    } finally {
      this.logging = false;
    }
    // Sending may have paused because too many attempts were not logged.
    void this.sendWaiting();
  }
}
