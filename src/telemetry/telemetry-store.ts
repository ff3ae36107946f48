import { finished } from 'node:stream/promises';
import { Injectable } from '@nestjs/common';
import type { PoolClient } from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { TelemetrySettings } from './telemetry.settings.js';
import { Database, type Tx } from '../platform/database/index.js';
import { COPY_COLUMNS, EncodeBuffers, encodeRows } from './copy-rows.js';
import { addToRollups } from './old-rollups.js';
import type { EventIssue, TelemetryRow } from './telemetry-event.js';

/** A batch request's row: what became of its items. */
export interface BatchRecord {
  id: string;
  createdAt: number;
  actorId: string;
  accepted: number;
  duplicates: number;
  rejected: number;
  errors: ({ index: number } & EventIssue)[];
  /** False when the batch cannot be looked up later (it came over an agent's link). */
  kept: boolean;
}

/** What was sent together and is stored together; the store sets the outcome of each row and the counts of the batch. */
export interface Submission {
  rows: TelemetryRow[];
  batch: BatchRecord | null;
}

/** From this many rows on, a COPY and its transaction are cheaper than one INSERT. */
const COPY_FROM_ROWS = 150;
const UNIQUE_VIOLATION = '23505';

const NEW_ROWS = `
  INSERT INTO telemetry_events (${COPY_COLUMNS})
  SELECT i, to_timestamp(t / 1000.0), to_timestamp(r / 1000.0), n, v, y, s, d, m
  FROM jsonb_to_recordset($1::jsonb)
    AS row(i uuid, t bigint, r bigint, n bigint, v double precision, y text, s text, d jsonb, m jsonb)
  ON CONFLICT DO NOTHING`;

const DIRTY_MINUTES = `
  INSERT INTO telemetry_dirty (resolution, bucket) SELECT 60, to_timestamp(minute) FROM unnest($2::bigint[]) AS minute`;

const INSERT_ROWS = `WITH dirty AS (${DIRTY_MINUTES}) ${NEW_ROWS}`;

/** Also returns which rows were new. Needed only when callers chose the ids, or when rollups depend on it. */
const INSERT_AND_TELL = `
  WITH stored AS (${NEW_ROWS} RETURNING event_id), dirty AS (${DIRTY_MINUTES}) SELECT event_id FROM stored`;

const INSERT_DIRTY = `
  INSERT INTO telemetry_dirty (resolution, bucket) SELECT 60, to_timestamp(minute) FROM unnest($1::bigint[]) AS minute`;

const INSERT_BATCHES = `
  INSERT INTO telemetry_batches (id, created_at, actor_id, accepted_count, duplicate_count, rejected_count, errors)
  SELECT i, to_timestamp(t / 1000.0), a, n, d, r, e
  FROM jsonb_to_recordset($1::jsonb) AS batch(i uuid, t bigint, a text, n int, d int, r int, e jsonb)`;

type Run = (name: string, text: string, values: unknown[]) => Promise<{ event_id: string }[]>;

/** The statements that write telemetry. Everything of one call is one transaction. */
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
    const run: Run = (_name, text, values) => tx.query(text, values);
    await this.insert(run, rowsOf(submissions));
    await insertBatches(run, submissions);
  }

  /** Whether the row could be stored; leaves nothing behind. */
  async probe(rows: TelemetryRow[]): Promise<boolean> {
    const client = await this.db.bulk.connect();
    try {
      await client.query('BEGIN');
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
        await client.query('BEGIN');
        await copy(client, rows);
        for (const row of rows) row.outcome = 'stored';
        await run('telemetry-dirty', INSERT_DIRTY, [dirtyMinutes(rows)]);
        await addToRollups(run, this.settings, rows.filter(isOld));
        await insertBatches(run, submissions);
        await client.query('COMMIT');
        return;
      } catch (error) {
        // Something was sent again: the slower way below tells which.
        if ((error as { code?: string }).code !== UNIQUE_VIOLATION) throw error;
        await client.query('ROLLBACK');
      }
    }
    const isOneStatement = !rows.some(isOld) && !submissions.some((s) => s.batch?.kept);
    if (!isOneStatement) await client.query('BEGIN');
    await this.insert(run, rows);
    await insertBatches(run, submissions);
    if (!isOneStatement) await client.query('COMMIT');
  }

  private async insert(run: Run, rows: readonly TelemetryRow[]): Promise<void> {
    if (rows.length === 0) return;
    const values = [`[${rows.map(rowJson).join(',')}]`, dirtyMinutes(rows)];
    if (!rows.some((row) => row.clientId || row.isOld)) {
      await run('telemetry-insert', INSERT_ROWS, values);
      // An id of ours that is there already was committed by an earlier try whose answer was lost.
      for (const row of rows) row.outcome = 'stored';
      return;
    }
    const stored = new Set((await run('telemetry-insert-and-tell', INSERT_AND_TELL, values)).map((r) => r.event_id));
    const newRows = rows.filter((row) => stored.delete(row.eventId));
    for (const row of rows) row.outcome = row.clientId ? 'duplicate' : 'stored';
    for (const row of newRows) row.outcome = 'stored';
    await addToRollups(run, this.settings, newRows.filter(isOld));
  }
}

/** The database refused a value: trying again cannot help, leaving the row out can. */
export function isDataError(error: unknown): boolean {
  const code = (error as { code?: string }).code ?? '';
  return /^(22|23)[0-9A-Z]{3}$/.test(code);
}

const buffers = new EncodeBuffers();

async function copy(client: PoolClient, rows: readonly TelemetryRow[]): Promise<void> {
  const stream = client.query(copyFrom(`COPY telemetry_events (${COPY_COLUMNS}) FROM STDIN (FORMAT binary)`));
  const encoded = encodeRows(rows, buffers);
  stream.end(encoded);
  await finished(stream);
  // Only after a success: then the server has read it all. After a failure the socket may still hold it.
  buffers.give(encoded);
}

/** Counts what became of each batch's rows, and keeps the result of those that can be looked up. */
async function insertBatches(run: Run, submissions: readonly Submission[]): Promise<void> {
  const records = submissions.flatMap(({ batch, rows }) => {
    if (!batch) return [];
    batch.duplicates = rows.filter((row) => row.outcome === 'duplicate').length;
    batch.accepted = rows.filter((row) => row.outcome !== 'refused').length;
    const { id: i, createdAt: t, actorId: a, accepted: n, duplicates: d, rejected: r, errors: e } = batch;
    return batch.kept ? [{ i, t, a, n, d, r, e }] : [];
  });
  if (records.length > 0) await run('telemetry-batches', INSERT_BATCHES, [JSON.stringify(records)]);
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
  return async (name, text, values) => (await client.query<{ event_id: string }>({ name, text, values })).rows;
}

/** Leaves the transaction; an error when the connection is of no more use. */
async function rolledBack(client: PoolClient): Promise<Error | undefined> {
  try {
    await client.query('ROLLBACK');
    return undefined;
  } catch (error) {
    return error as Error;
  }
}
