import { Injectable } from '@nestjs/common';
import type { PoolClient } from 'pg';
import { TelemetrySettings } from './telemetry.settings.js';
import { Database, databaseErrorKind, isDataError, type Tx } from '../platform/database/index.js';
import { EncodeBuffers, encodeRows } from './copy-rows.js';
import { addOldToRollups } from './old-rollups.js';
import {
  begin,
  commit,
  copyEvents,
  insertBatches,
  insertDirtyMinutes,
  insertEvents,
  insertNewEvents,
  rollback,
  type Run,
} from './telemetry.queries.js';
import type { TelemetryBatch } from './telemetry-batch.entity.js';
import type { TelemetryRow } from './telemetry-event.js';

/** What became of a batch. */
export type BatchRecord = TelemetryBatch & {
  /** False when the batch cannot be looked up later (it came over an agent's link). */
  kept: boolean;
};

/** What was sent together and is stored together; the store sets the outcome of each row and the counts of the batch. */
export interface Submission {
  rows: TelemetryRow[];
  batch: BatchRecord | null;
}

/** From this many rows on, a COPY and its transaction are cheaper than one INSERT. */
const COPY_FROM_ROWS = 150;

/** Writes telemetry. Everything of one call is one transaction. */
@Injectable()
export class TelemetryStore {
  constructor(
    private readonly db: Database,
    private readonly settings: TelemetrySettings,
  ) {}

  /** Stores submissions and sets their outcomes; on an error nothing is stored and the error is the driver's. */
  async store(submissions: readonly Submission[]): Promise<void> {
    const client = await this.db.bulk.connect();
    let broken: Error | undefined;
    // A connection that dies between two statements says so here; the statement in hand is rejected as well.
    const onError = (error: Error): void => void (broken = error);
    client.on('error', onError);
    try {
      await this.storeWith(client, submissions);
    } catch (error) {
      broken ??= await rolledBack(client);
      throw error;
    } finally {
      client.off('error', onError);
      client.release(broken);
    }
  }

  /** The same inside a transaction of someone else, who commits it (a request with an `Idempotency-Key`). */
  async storeIn(tx: Tx, submissions: readonly Submission[], committed: () => void): Promise<void> {
    this.db.afterCommit(tx, committed);
    const run: Run = (_name, sql, values) => tx.query(sql, values);
    await this.insert(run, rowsOf(submissions));
    await storeBatches(run, submissions);
  }

  /** Whether the row could be stored; leaves nothing behind. */
  async probe(rows: TelemetryRow[]): Promise<boolean> {
    const client = await this.db.bulk.connect();
    try {
      await begin(client);
      await this.insert(runnerOf(client), rows);
      return true;
    } catch (error) {
      if (!isDataError(error)) throw error;
      return false;
    } finally {
      client.release(await rolledBack(client));
    }
  }

  private async storeWith(client: PoolClient, submissions: readonly Submission[]): Promise<void> {
    const rows = rowsOf(submissions);
    const run = runnerOf(client);
    if (rows.length >= COPY_FROM_ROWS) {
      try {
        await begin(client);
        await copy(client, rows);
        for (const row of rows) row.outcome = 'stored';
        await insertDirtyMinutes(run, dirtyMinutes(rows));
        await addOldToRollups(run, this.settings, rows.filter(isOld));
        await storeBatches(run, submissions);
        await commit(client);
        return;
      } catch (error) {
        // Something was sent again: the slower way below tells which.
        if (databaseErrorKind(error) !== 'unique_violation') throw error;
        await rollback(client);
      }
    }
    const isOneStatement = !rows.some(isOld) && !submissions.some((s) => s.batch?.kept);
    if (!isOneStatement) await begin(client);
    await this.insert(run, rows);
    await storeBatches(run, submissions);
    if (!isOneStatement) await commit(client);
  }

  private async insert(run: Run, rows: readonly TelemetryRow[]): Promise<void> {
    if (rows.length === 0) return;
    const events = `[${rows.map(rowJson).join(',')}]`;
    const minutes = dirtyMinutes(rows);
    if (!rows.some((row) => row.clientId || row.isOld)) {
      await insertEvents(run, events, minutes);
      // An id of ours that is there already was committed by an earlier try whose answer was lost.
      for (const row of rows) row.outcome = 'stored';
      return;
    }
    // Needed only when callers chose the ids, or when rollups depend on it.
    const stored = await insertNewEvents(run, events, minutes);
    const newRows = rows.filter((row) => stored.delete(row.eventId));
    for (const row of rows) row.outcome = row.clientId ? 'duplicate' : 'stored';
    for (const row of newRows) row.outcome = 'stored';
    await addOldToRollups(run, this.settings, newRows.filter(isOld));
  }
}

const buffers = new EncodeBuffers();

async function copy(client: PoolClient, rows: readonly TelemetryRow[]): Promise<void> {
  const encoded = encodeRows(rows, buffers);
  await copyEvents(client, encoded);
  // Only after a success: then the server has read it all. After a failure the socket may still hold it.
  buffers.give(encoded);
}

/** Counts what became of each batch's rows, and keeps the result of those that can be looked up. */
async function storeBatches(run: Run, submissions: readonly Submission[]): Promise<void> {
  const kept = submissions.flatMap(({ batch, rows }) => {
    if (!batch) return [];
    batch.duplicateCount = rows.filter((row) => row.outcome === 'duplicate').length;
    batch.acceptedCount = rows.filter((row) => row.outcome !== 'refused').length;
    return batch.kept ? [batch] : [];
  });
  if (kept.length > 0) await insertBatches(run, kept);
}

function rowsOf(submissions: readonly Submission[]): TelemetryRow[] {
  return submissions.flatMap((s) => s.rows).filter((row) => row.outcome !== 'refused');
}

function rowJson(row: TelemetryRow): string {
  return (
    `{"i":"${row.eventId}","t":${row.ts},"r":${row.receivedAt},"n":${row.series?.id ?? null},"v":${row.metric?.value ?? null},` +
    `"y":"${row.eventType}","s":${JSON.stringify(row.source)},"d":${row.data},"m":${row.metadata}}`
  );
}

function isOld(row: TelemetryRow): boolean {
  return row.isOld;
}

/** Minutes, as seconds since 1970, whose rollups must be computed anew. */
function dirtyMinutes(rows: readonly TelemetryRow[]): number[] {
  const minutes = new Set<number>();
  for (const row of rows) if (row.metric && row.series && !row.isOld) minutes.add(Math.floor(row.ts / 60_000) * 60);
  return [...minutes];
}

function runnerOf(client: PoolClient): Run {
  return async <Row>(name: string, text: string, values: unknown[]) =>
    (await client.query({ name, text, values })).rows as Row[];
}

/** Leaves the transaction; an error when the connection is of no more use. */
async function rolledBack(client: PoolClient): Promise<Error | undefined> {
  try {
    await rollback(client);
    return undefined;
  } catch (error) {
    return error as Error;
  }
}
