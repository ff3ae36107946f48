import { Injectable, type OnApplicationBootstrap, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type { RequestContext } from '../platform/context/index.js';
import { Database, prepared, type Tx } from '../platform/database/index.js';
import { type FinishedRequest, RequestObservers } from '../platform/http/index.js';
import { Logger, Metrics } from '../platform/observability/index.js';

interface Entry {
  at: string;
  actorId: string;
  credentialId: string | null;
  action: string;
  resourceId: string | null;
  status: number;
  ip: string | null;
  userAgent: string | null;
  claimedUserId: string | null;
  requestId: string;
}

interface MinuteCount {
  /** Its start, epoch milliseconds. */
  minute: number;
  actorId: string;
  credentialId: string;
  action: string;
  status: number;
  count: number;
  ip: string | null;
  userAgent: string | null;
}

const FLUSH_MS = 500;
/** Entries held while the database is away; past it the oldest are dropped and counted. */
const MAX_PENDING = 20_000;
const BATCH = 1000;
const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS']);
const PUBLIC_ID = /\b[a-z]+_[0-9a-f]{8}-[0-9a-f-]{27}\b/g;

/**
 * Writes down every API request (row SEC-08). A mutating request has its entry in the transaction of its effect; reads
 * and refusals follow in batches; routes with the policy `minute` are counted per principal, route, status and minute.
 */
@Injectable()
export class AuditTrail implements OnModuleInit, OnApplicationBootstrap, OnApplicationShutdown {
  private pending: Entry[] = [];
  private minutes = new Map<string, MinuteCount>();
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
      'Audit entries of reads and refusals lost while the database was away',
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
    await tx.query(INSERT_ENTRIES, columnsOf([entryOf(context, context.expectedStatus ?? 200)]));
    context.audited = true;
  }

  private finished({ context, status, audit }: FinishedRequest): void {
    if (audit === 'minute') return this.countMinute(context, status);
    // Committed but answered otherwise than foreseen: the truth about the answer is an entry of its own.
    if (context.audited && (status < 400 || status === context.expectedStatus)) return;
    this.pending.push(entryOf(context, status));
    if (this.pending.length > MAX_PENDING + BATCH) this.keep(this.pending);
  }

  /** Holds the newest of `entries` until the database takes them. */
  private keep(entries: Entry[]): void {
    const over = Math.max(0, entries.length - MAX_PENDING);
    this.dropped.inc(over);
    this.pending = entries.slice(over);
  }

  private countMinute(context: RequestContext, status: number): void {
    const minute = Math.floor(Date.now() / 60_000) * 60_000;
    const actorId = context.actor?.id ?? 'anonymous';
    const credentialId = context.actor?.credentialId ?? '';
    const action = `${context.method} ${context.route ?? context.path}`;
    const key = `${minute} ${actorId} ${credentialId} ${action} ${status}`;
    const existing = this.minutes.get(key);
    if (existing) {
      existing.count++;
    } else if (this.minutes.size < MAX_PENDING) {
      const { ip = null, userAgent = null } = context;
      this.minutes.set(key, { minute, actorId, credentialId, action, status, count: 1, ip, userAgent: cut(userAgent) });
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
        // Taken out at once: what is dropped for want of room in the meantime is not one of these.
        const batch = this.pending.splice(0, this.batchSize);
        try {
          await this.db.bulk.query(INSERT_ENTRIES, columnsOf(batch));
          this.batchSize = Math.min(BATCH, this.batchSize * 2);
        } catch (error) {
          this.setAside(batch, error);
        }
      }
      if (this.minutes.size > 0) {
        const counts = this.minutes;
        this.minutes = new Map();
        try {
          await this.db.bulk.query(ADD_TO_MINUTES, minuteColumnsOf(inOneOrder(counts)));
        } catch (error) {
          this.putBack(counts);
          throw error;
        }
      }
    } catch (error) {
      this.logger.warn({ err: String(error), pending: this.pending.length }, 'Audit entries wait for the database');
    }
  }

  /** Keeps what could not be written; an entry that the database refuses for what it says is found by halves and dropped. */
  private setAside(batch: Entry[], error: unknown): void {
    const refused = /^2[23]/.test((error as { code?: string }).code ?? '');
    if (refused && batch.length === 1) {
      this.dropped.inc();
      this.logger.error(
        { err: String(error), entry_request_id: batch[0].requestId },
        'The database refused an audit entry',
      );
      return;
    }
    this.keep([...batch, ...this.pending]);
    if (!refused) throw error;
    this.batchSize = Math.ceil(batch.length / 2);
  }

  private putBack(counts: Map<string, MinuteCount>): void {
    for (const [key, count] of counts) {
      const newer = this.minutes.get(key);
      if (newer) newer.count += count.count;
      else this.minutes.set(key, count);
    }
  }

  /** Moves minutes that are over into the append-only entries; safe to run twice or in two processes. */
  async sealMinutes(): Promise<void> {
    await this.db.query(`
      WITH over AS (DELETE FROM audit_minutes WHERE minute < now() - interval '70 seconds' RETURNING *)
      INSERT INTO audit_entries (at, actor_id, credential_id, action, status_code, count, ip_address, user_agent)
      SELECT minute, actor_id, nullif(credential_id, ''), action, status_code, count, ip_address, user_agent FROM over`);
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.flushing;
    await this.flush();
  }
}

const INSERT_ENTRIES = prepared(
  'audit.entries',
  `INSERT INTO audit_entries (at, actor_id, credential_id, action, resource_id, status_code, ip_address, user_agent, claimed_user_id, request_id)
  SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::smallint[], $7::text[], $8::text[], $9::text[], $10::text[])`,
);

const ADD_TO_MINUTES = `
  INSERT INTO audit_minutes AS m (minute, actor_id, credential_id, action, status_code, count, ip_address, user_agent)
  SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::int[], $7::text[], $8::text[])
  ON CONFLICT (minute, actor_id, credential_id, action, status_code) DO UPDATE SET count = m.count + excluded.count`;

/** Two processes that add to the same minutes must not wait for each other in a circle. */
function inOneOrder(counts: Map<string, MinuteCount>): MinuteCount[] {
  return [...counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, count]) => count);
}

function entryOf(context: RequestContext, status: number): Entry {
  const path = context.path ?? '';
  return {
    at: new Date().toISOString(),
    actorId: context.actor?.id ?? 'anonymous',
    credentialId: context.actor?.credentialId ?? null,
    action: clean(`${context.method} ${path}`).slice(0, 500),
    resourceId: context.resourceId ?? path.match(PUBLIC_ID)?.at(-1) ?? null,
    status,
    ip: context.ip ?? null,
    userAgent: cut(context.userAgent ?? null),
    claimedUserId: context.claimedUserId ?? null,
    requestId: context.requestId,
  };
}

function cut(text: string | null): string | null {
  return text === null ? null : clean(text).slice(0, 300);
}

/** PostgreSQL text holds no NUL. */
function clean(text: string): string {
  return text.replaceAll('\0', '');
}

function columnsOf(entries: Entry[]): unknown[][] {
  const column = <K extends keyof Entry>(key: K): Entry[K][] => entries.map((e) => e[key]);
  return [
    column('at'),
    column('actorId'),
    column('credentialId'),
    column('action'),
    column('resourceId'),
    column('status'),
    column('ip'),
    column('userAgent'),
    column('claimedUserId'),
    column('requestId'),
  ];
}

function minuteColumnsOf(counts: MinuteCount[]): unknown[][] {
  const column = <K extends keyof MinuteCount>(key: K): MinuteCount[K][] => counts.map((c) => c[key]);
  return [
    counts.map((c) => new Date(c.minute).toISOString()),
    column('actorId'),
    column('credentialId'),
    column('action'),
    column('status'),
    column('count'),
    column('ip'),
    column('userAgent'),
  ];
}
