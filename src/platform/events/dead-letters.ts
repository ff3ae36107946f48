import { Injectable, type OnModuleInit } from '@nestjs/common';
import { runDetached } from '../context/index.js';
import { Database, findForUpdate, type Tx } from '../database/index.js';
import { AppError } from '../errors/index.js';
import { type Page, pageNewestFirst, type PageOfRows } from '../http/index.js';
import { HealthRegistry, Logger, Metrics } from '../observability/index.js';
import { DeadLetterOffice } from './dead-letter-office.js';
import { DeadLetter } from './dead-letter.entity.js';
import { anyFailedWithin, countByHandler, retryFailed } from './dead-letters.queries.js';
import { EventHandlers } from './event-handlers.js';

/** Dead letters younger than this are news: health is degraded. Older ones only wait for somebody. */
const FRESH_MINUTES = 15;
const MOST_AT_ONCE = 10_000;
const COUNTED = 10_000;

const SUMMARY = [
  'id',
  'handler',
  'eventId',
  'eventType',
  'status',
  'error',
  'attempts',
  'retries',
  'firstFailedAt',
  'failedAt',
].map((name) => `letter.${name}`);

/** A dead letter without its event. */
export type DeadLetterSummary = Omit<DeadLetter, 'event' | 'dispatchedAt'>;

/** Sees dead letters, tries them again and throws them away. */
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
      const rows = await countByHandler(db).catch(() => undefined);
      if (!rows) return;
      this.reset();
      for (const { handler, n } of rows) this.set({ handler }, n);
    });
    this.health.register('event_handlers', async () => {
      if (await anyFailedWithin(db, FRESH_MINUTES)) throw new Error('Handlers have given up on events');
      return undefined;
    });
  }

  /** The newest first; counted up to ten thousand. */
  list(
    filter: { handler?: string; eventType?: string; status?: DeadLetter['status'] },
    page: Page,
  ): Promise<PageOfRows<DeadLetterSummary>> {
    const list = this.db.repository(DeadLetter).createQueryBuilder('letter').select(SUMMARY);
    for (const [name, value] of Object.entries(filter)) if (value !== undefined) list.andWhere({ [name]: value });
    return pageNewestFirst(list, page, 'failedAt', COUNTED);
  }

  /** With the event itself. @returns null when there is none */
  find(id: string): Promise<DeadLetter | null> {
    return this.db.repository(DeadLetter).findOneBy({ id });
  }

  /**
   * Gives the event to its handler again, with all its attempts.
   * @returns null when there is none
   * @throws AppError `conflict` when it is on its way already, or this version has no such handler
   */
  async retry(tx: Tx, id: string): Promise<DeadLetter | null> {
    const letter = await findForUpdate(tx, DeadLetter, { id });
    if (!letter) return null;
    if (letter.status === 'retrying') throw AppError.conflict('The event is on its way to its handler already');
    if (!this.handlers.get(letter.handler)) {
      throw AppError.conflict('This version has no such handler', { handler: letter.handler });
    }
    const changes = { status: 'retrying', retries: letter.retries + 1, dispatchedAt: null } as const;
    await tx.update(DeadLetter, { id }, changes);
    this.dispatchAfter(tx);
    return { ...letter, ...changes };
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
    const retrying = await retryFailed(tx, handler, MOST_AT_ONCE);
    const remaining = await tx.countBy(DeadLetter, { handler, status: 'failed' });
    this.dispatchAfter(tx);
    return { retrying, remaining };
  }

  /** The handler never gets the event. @returns null when there is none */
  async discard(tx: Tx, id: string): Promise<DeadLetter | null> {
    const letter = await findForUpdate(tx, DeadLetter, { id });
    if (letter) await tx.delete(DeadLetter, { id });
    return letter;
  }

  private dispatchAfter(tx: Tx): void {
    this.db.afterCommit(tx, () => {
      runDetached(() => this.office.dispatch()).catch((error: unknown) =>
        this.logger.warn({ err: String(error) }, 'Dead letters wait for the next sweep'),
      );
    });
  }
}
