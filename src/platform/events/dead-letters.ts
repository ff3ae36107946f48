import { Injectable, type OnModuleInit } from '@nestjs/common';
import { runDetached } from '../context/index.js';
import { Database, type Tx } from '../database/index.js';
import { AppError } from '../errors/index.js';
import { HealthRegistry, Logger, Metrics } from '../observability/index.js';
import { DeadLetterOffice } from './dead-letter-office.js';
import type { StoredEvent } from './event-definition.js';
import { EventHandlers } from './event-handlers.js';

/** Dead letters younger than this are news: health is degraded. Older ones only wait for somebody. */
const FRESH_MINUTES = 15;
const MOST_AT_ONCE = 10_000;
const COUNTED = 10_000;

/** An event that a handler could not take in all its attempts. */
export interface DeadLetter {
  id: string;
  handler: string;
  event_id: string;
  event_type: string;
  /** `retrying`: it is on its way to the handler again. */
  status: 'failed' | 'retrying';
  error: string;
  /** In all, those of retries included. */
  attempts: number;
  retries: number;
  first_failed_at: Date;
  failed_at: Date;
}

const COLUMNS = 'id, handler, event_id, event_type, status, error, attempts, retries, first_failed_at, failed_at';

/** Sees dead letters, tries them again and throws them away (row EVT-12). */
@Injectable()
export class DeadLetters implements OnModuleInit {
  constructor(
    private readonly db: Database,
    private readonly office: DeadLetterOffice,
    private readonly handlers: EventHandlers,
    private readonly logger: Logger,
    private readonly health: HealthRegistry,
    private readonly metrics: Metrics,
  ) {}

  onModuleInit(): void {
    const { db } = this;
    const help = 'Events that a handler could not take in all its attempts';
    this.metrics.sharedGauge('nexus_event_dead_letters', help, ['handler'], async function () {
      const rows = await db
        .query<{ handler: string; n: number }>(
          'SELECT handler, count(*)::int AS n FROM event_dead_letters GROUP BY handler',
        )
        .catch(() => undefined);
      if (!rows) return;
      this.reset();
      for (const { handler, n } of rows) this.set({ handler }, n);
    });
    this.health.register('event_handlers', async () => {
      const [found] = await db.query<object>(
        `SELECT 1 FROM event_dead_letters
         WHERE failed_at > now() - interval '${FRESH_MINUTES} minutes' AND status = 'failed' LIMIT 1`,
      );
      if (found) throw new Error('Handlers have given up on events');
      return undefined;
    });
  }

  /** The newest first; counted up to ten thousand. `after` are the `failed_at` and `id` of the last one seen. */
  async list(
    filter: { handler?: string; eventType?: string; status?: DeadLetter['status'] },
    page: { limit: number; offset: number; after?: [at: unknown, id: unknown] },
  ): Promise<{ letters: DeadLetter[]; total: number; exact: boolean }> {
    const where = `($1::text IS NULL OR handler = $1) AND ($2::text IS NULL OR event_type = $2)
      AND ($3::text IS NULL OR status = $3)`;
    const filters = [filter.handler ?? null, filter.eventType ?? null, filter.status ?? null];
    const letters = await this.db.query<DeadLetter>(
      `SELECT ${COLUMNS} FROM event_dead_letters
       WHERE ${where} AND ($6::timestamptz IS NULL OR (failed_at, id) < ($6, $7::uuid))
       ORDER BY failed_at DESC, id DESC LIMIT $4 OFFSET $5`,
      [...filters, page.limit, page.offset, ...(page.after ?? [null, null])],
    );
    const [{ total }] = await this.db.query<{ total: number }>(
      `SELECT count(*)::int AS total FROM (SELECT 1 FROM event_dead_letters WHERE ${where} LIMIT ${COUNTED + 1}) AS found`,
      filters,
    );
    return { letters, total: Math.min(total, COUNTED), exact: total <= COUNTED };
  }

  /** With the event itself. @returns null when there is none */
  async find(id: string): Promise<(DeadLetter & { event: StoredEvent }) | null> {
    const [row] = await this.db.query<DeadLetter & { event: StoredEvent }>(
      `SELECT ${COLUMNS}, event FROM event_dead_letters WHERE id = $1`,
      [id],
    );
    return row ?? null;
  }

  /**
   * Gives the event to its handler again, with all its attempts.
   * @returns null when there is none
   * @throws AppError `conflict` when it is on its way already, or this version has no such handler
   */
  async retry(tx: Tx, id: string): Promise<DeadLetter | null> {
    const [letter] = await tx.query<DeadLetter[]>(
      `SELECT ${COLUMNS} FROM event_dead_letters WHERE id = $1 FOR UPDATE`,
      [id],
    );
    if (!letter) return null;
    if (letter.status === 'retrying') throw AppError.conflict('The event is on its way to its handler already');
    if (!this.handlers.get(letter.handler)) {
      throw AppError.conflict('This version has no such handler', { handler: letter.handler });
    }
    const [[retried]] = await tx.query<[DeadLetter[], number]>(
      `UPDATE event_dead_letters SET status = 'retrying', retries = retries + 1, dispatched_at = NULL WHERE id = $1
       RETURNING ${COLUMNS}`,
      [id],
    );
    this.dispatchAfter(tx);
    return retried;
  }

  /**
   * {@link retry} for what failed of one handler, the oldest first, ten thousand at most.
   * @returns how many are on their way now, and how many are left
   * @throws AppError `validation` when there is no such handler
   */
  async retryAll(tx: Tx, handler: string): Promise<{ retrying: number; remaining: number }> {
    if (!this.handlers.get(handler)) {
      throw AppError.validation({ field: 'handler', issue: `is not one of ${this.handlers.names().join(', ')}` });
    }
    const [, retrying] = await tx.query<[unknown, number]>(
      `UPDATE event_dead_letters SET status = 'retrying', retries = retries + 1, dispatched_at = NULL WHERE id IN (
         SELECT id FROM event_dead_letters WHERE handler = $1 AND status = 'failed'
         ORDER BY failed_at, id LIMIT ${MOST_AT_ONCE} FOR UPDATE)`,
      [handler],
    );
    const [{ remaining }] = await tx.query<{ remaining: number }[]>(
      `SELECT count(*)::int AS remaining FROM event_dead_letters WHERE handler = $1 AND status = 'failed'`,
      [handler],
    );
    this.dispatchAfter(tx);
    return { retrying, remaining };
  }

  /** The handler never gets the event. @returns null when there is none */
  async discard(tx: Tx, id: string): Promise<DeadLetter | null> {
    const [[row]] = await tx.query<[DeadLetter[], number]>(
      `DELETE FROM event_dead_letters WHERE id = $1 RETURNING ${COLUMNS}`,
      [id],
    );
    return row ?? null;
  }

  private dispatchAfter(tx: Tx): void {
    this.db.afterCommit(tx, () => {
      runDetached(() => this.office.dispatch()).catch((error: unknown) =>
        this.logger.warn({ err: String(error) }, 'Dead letters wait for the next sweep'),
      );
    });
  }
}
