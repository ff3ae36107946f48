import { Injectable, type OnApplicationBootstrap, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type { RequestContext } from '../platform/context/index.js';
import { Database, isDataError, type Tx } from '../platform/database/index.js';
import { type FinishedRequest, RequestObservers } from '../platform/http/index.js';
import { Logger, Metrics } from '../platform/observability/index.js';
import { addToMinutes, insertEntries, moveMinutesToEntries, type NewAuditEntry } from './audit.queries.js';
import { AuditMinutes } from './audit-minutes.js';
import { clean, cut } from './audit-text.js';

const FLUSH_MS = 500;
/** Entries held while the database is away; what comes once there is no room is dropped and counted. */
const MAX_PENDING = 20_000;
const BATCH = 1000;
const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS']);
const PUBLIC_ID = /\b[a-z]+_[0-9a-f]{8}-[0-9a-f-]{27}\b/g;

/**
 * Writes down every API request. A mutating request has its entry in the transaction of its effect; reads and refusals of
 * principals follow in batches. Requests of strangers, refusals by a rate limit and routes with the policy `minute` are
 * counted by the minute: whoever floods the server must not fill its database or push others out of memory.
 */
@Injectable()
export class AuditTrail implements OnModuleInit, OnApplicationBootstrap, OnApplicationShutdown {
  private pending: NewAuditEntry[] = [];
  /** Entries of `pending` that are on their way to the database. */
  private underWay = 0;
  private readonly minutes = new AuditMinutes();
  private timer: NodeJS.Timeout | undefined;
  private flushing: Promise<void> | undefined;
  private batchSize = BATCH;
  private readonly dropped;

  constructor(
    private readonly db: Database,
    private readonly observers: RequestObservers,
    private readonly logger: Logger,
    metrics: Metrics,
  ) {
    this.dropped = metrics.counter(
      'nexus_audit_entries_dropped_total',
      'Requests lost to the audit trail while the database was away',
    );
  }

  onModuleInit(): void {
    this.db.onBeforeCommit((tx, context) => this.inTransaction(tx, context));
    this.observers.add((request) => this.finished(request));
  }

  onApplicationBootstrap(): void {
    this.timer = setInterval(() => void this.flush(), FLUSH_MS);
  }

  private async inTransaction(tx: Tx, context: RequestContext): Promise<void> {
    const { method } = context;
    if (context.audited || context.auditByMinute || method === undefined || SAFE_METHODS.has(method)) return;
    await insertEntries(tx, [entryOf(context, context.expectedStatus ?? 200)]);
    context.audited = true;
  }

  private finished({ context, status, audit }: FinishedRequest): void {
    // Committed but answered otherwise than foreseen: the truth about the answer is an entry of its own.
    if (context.audited && (status < 400 || status === context.expectedStatus)) return;
    if (audit === 'minute' || (!context.audited && (!context.actor || status === 429))) {
      if (!this.minutes.add(context, status)) this.dropped.inc();
    } else if (this.pending.length + this.underWay < MAX_PENDING) {
      this.pending.push(entryOf(context, status));
    } else {
      this.dropped.inc();
    }
  }

  /** Writes what is pending; what could not be written stays pending. */
  flush(): Promise<void> {
    this.flushing ??= this.flushOnce().finally(() => {
      this.flushing = undefined;
    });
    return this.flushing;
  }

  private async flushOnce(): Promise<void> {
    try {
      while (this.pending.length > 0) {
        const batch = this.pending.splice(0, this.batchSize);
        this.underWay = batch.length;
        try {
          await insertEntries(this.db.bulk, batch);
          this.batchSize = Math.min(BATCH, this.batchSize * 2);
        } catch (error) {
          this.setAside(batch, error);
        } finally {
          this.underWay = 0;
        }
      }
      if (this.minutes.size > 0) {
        const counts = this.minutes.take();
        try {
          await addToMinutes(this.db.bulk, counts);
        } catch (error) {
          this.dropped.inc(this.minutes.putBack(counts));
          throw error;
        }
      }
    } catch (error) {
      this.logger.warn({ err: String(error), pending: this.pending.length }, 'Audit entries wait for the database');
    }
  }

  /** Keeps what could not be written; an entry that the database refuses for what it says is found by halves and dropped. */
  private setAside(batch: NewAuditEntry[], error: unknown): void {
    const refused = isDataError(error);
    if (refused && batch.length === 1) {
      this.dropped.inc();
      this.logger.error(
        { err: String(error), entry_request_id: batch[0].requestId },
        'The database refused an audit entry',
      );
      return;
    }
    this.pending = [...batch, ...this.pending];
    if (!refused) throw error;
    this.batchSize = Math.ceil(batch.length / 2);
  }

  /** Moves minutes that are over into the append-only entries. */
  async sealMinutes(): Promise<void> {
    await moveMinutesToEntries(this.db.manager);
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.flushing;
    await this.flush();
  }
}

function entryOf(context: RequestContext, status: number): NewAuditEntry {
  const path = context.path ?? '';
  const actor = context.actor ?? context.auditedAs;
  return {
    at: new Date(),
    actorId: actor?.id ?? 'anonymous',
    credentialId: actor?.credentialId ?? null,
    action: clean(`${context.method} ${path}`).slice(0, 500),
    resourceId: context.resourceId ?? path.match(PUBLIC_ID)?.at(-1) ?? null,
    statusCode: status,
    ipAddress: context.ip ?? null,
    userAgent: cut(context.userAgent ?? null),
    claimedUserId: context.claimedUserId ?? null,
    requestId: context.requestId,
  };
}
