import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { type Actor, currentContext } from '../platform/context/index.js';
import { TelemetrySettings } from './telemetry.settings.js';
import type { Tx } from '../platform/database/index.js';
import { AppError, type FieldIssue, MAX_ISSUES } from '../platform/errors/index.js';
import { unknownField, type WarningDto } from '../platform/http/index.js';
import { Metrics } from '../platform/observability/index.js';
import { EventIds } from './event-id.js';
import { batchWarnings } from './metric-warnings.js';
import { Partitions } from './partitions.js';
import { locateData } from './raw-data.js';
import { dailySince } from './resolutions.js';
import { SeriesCatalog } from './series-catalog.js';
import { type EventIssue, type EventRules, readEvent, type Receipt, type TelemetryRow } from './telemetry-event.js';
import { type BatchRecord, type Submission, TelemetryStore } from './telemetry-store.js';
import { TelemetryWriter } from './telemetry-writer.js';

/** Most events of one batch. */
const MAX_BATCH_EVENTS = 1000;

/** A batch that was taken, and what was probably not meant as it is. */
export type SubmittedBatch = BatchRecord & { warnings: WarningDto[] };

/** Takes telemetry in: checks, completes and stores it, and answers only when it is committed. */
@Injectable()
export class TelemetryIngest {
  private readonly events;
  private readonly flushedListeners: ((rows: readonly TelemetryRow[]) => void)[] = [];

  constructor(
    private readonly writer: TelemetryWriter,
    private readonly store: TelemetryStore,
    private readonly catalog: SeriesCatalog,
    private readonly partitions: Partitions,
    private readonly settings: TelemetrySettings,
    metrics: Metrics,
  ) {
    this.events = metrics.counter('nexus_telemetry_events_total', 'Telemetry events received', ['outcome']);
    writer.onCommitted((rows) => this.committed(rows));
  }

  /**
   * Stores one event; the row tells whether it was there already.
   * @throws AppError `validation`, `unavailable`
   */
  async submitOne(actor: Actor, raw: unknown): Promise<TelemetryRow> {
    const rules = this.rulesFor(actor);
    const row = readEvent(raw, 0, rules, this.receiptOfOne(rules.now));
    if (Array.isArray(row)) {
      this.events.inc({ outcome: 'rejected' });
      throw AppError.validation(row.map(inBody));
    }
    await this.write({ rows: [row], batch: null });
    if (row.outcome === 'refused') {
      throw AppError.validation(
        inBody({ field: '', issue: 'cannot be stored', expected: 'values that PostgreSQL can store' }),
      );
    }
    return row;
  }

  /**
   * Stores what is good of a batch and says what is not. `keep: false` leaves no batch to look up later; `raw`
   * are the bytes that `body` was parsed from.
   * @throws AppError `validation` when it is no batch at all, `unavailable`
   */
  async submitBatch(
    actor: Actor,
    body: unknown,
    options: { keep?: boolean; raw?: Buffer } = {},
  ): Promise<SubmittedBatch> {
    const items = itemsOf(body);
    const rules = this.rulesFor(actor);
    const rows: TelemetryRow[] = [];
    const errors: BatchRecord['errors'] = [];
    const spans = options.raw ? locateData(options.raw, items.length) : null;
    const receipt: Receipt = {
      receivedAt: rules.now,
      dailySince: dailySince(this.settings, rules.now),
      ids: new EventIds(items.length, rules.now),
      raw: options.raw && spans ? { body: options.raw, spans } : null,
    };
    for (let index = 0; index < items.length; index++) {
      const row = readEvent(items[index], index, rules, receipt);
      if (Array.isArray(row)) errors.push({ index, ...row[0] });
      else rows.push(row);
    }
    const batch: BatchRecord = {
      id: randomUUID(),
      createdAt: new Date(rules.now),
      actorId: actor.id,
      acceptedCount: rows.length,
      duplicateCount: 0,
      rejectedCount: errors.length,
      errors,
      kept: options.keep ?? true,
    };
    this.events.inc({ outcome: 'rejected' }, errors.length);
    await this.write({ rows, batch });
    return { ...batch, warnings: batchWarnings(rows, items) };
  }

  /** An event as it would be stored now; nothing is. @throws AppError `validation` */
  preview(actor: Actor, raw: unknown): TelemetryRow {
    const rules = this.rulesFor(actor);
    const row = readEvent(raw, 0, rules, this.receiptOfOne(rules.now));
    if (Array.isArray(row)) throw AppError.validation(row.map(inBody));
    return row;
  }

  /**
   * `listener` gets what this process has stored, once it is committed and without what was there before; it must be quick and
   * must not throw.
   */
  onFlushed(listener: (rows: readonly TelemetryRow[]) => void): void {
    this.flushedListeners.push(listener);
  }

  private write(submission: Submission): Promise<void> {
    const resolving = this.catalog.resolve(submission.rows);
    return resolving ? resolving.then(() => this.writeResolved(submission)) : this.writeResolved(submission);
  }

  private writeResolved(submission: Submission): Promise<void> {
    const tx = currentContext()?.transaction;
    return tx ? this.writeIn(tx, submission) : this.writer.write(submission);
  }

  /** Part of a request's own transaction: its stored answer and its events are there together or not at all. */
  private async writeIn(tx: Tx, submission: Submission): Promise<void> {
    const { rows } = submission;
    await this.partitions.ensureFor(rows);
    await this.store.storeIn(tx, [submission], () => this.committed(rows));
  }

  private committed(rows: readonly TelemetryRow[]): void {
    const stored = rows.filter((row) => row.outcome === 'stored');
    if (stored.length > 0) for (const listener of this.flushedListeners) listener(stored);
    this.catalog.seen(rows);
    const refused = rows.filter((row) => row.outcome === 'refused').length;
    this.events.inc({ outcome: 'stored' }, stored.length);
    this.events.inc({ outcome: 'duplicate' }, rows.length - stored.length - refused);
    this.events.inc({ outcome: 'rejected' }, refused);
  }

  private rulesFor(actor: Actor): EventRules {
    const now = Date.now();
    return {
      now,
      newest: now + this.settings.maxFutureSeconds * 1000,
      defaultSource: (actor.credentialName ?? actor.name).slice(0, 100),
      onlySource: actor.type === 'agent' ? actor.name : null,
    };
  }

  private receiptOfOne(now: number): Receipt {
    return { receivedAt: now, dailySince: dailySince(this.settings, now), ids: new EventIds(1, now), raw: null };
  }
}

function itemsOf(body: unknown): unknown[] {
  const { events, ...others } = (body ?? {}) as { events?: unknown };
  const issues: FieldIssue[] = Object.keys(others)
    .slice(0, MAX_ISSUES + 1)
    .map((field) => inBody({ field: field.slice(0, 100), ...unknownField(field, ['events']) }));
  if (!Array.isArray(events)) {
    issues.push(
      inBody({
        field: 'events',
        issue: events === undefined ? 'is required' : 'must be an array',
        expected: 'an array',
      }),
    );
  } else if (events.length < 1 || events.length > MAX_BATCH_EVENTS) {
    issues.push(inBody({ field: 'events', issue: `must hold 1 to ${MAX_BATCH_EVENTS} events` }));
  }
  if (issues.length > 0) throw AppError.validation(issues);
  return events as unknown[];
}

function inBody(issue: EventIssue): FieldIssue {
  return { ...issue, location: 'body' };
}
