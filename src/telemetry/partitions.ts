import { Injectable } from '@nestjs/common';
import { Settings } from '../platform/config/index.js';
import { Database } from '../platform/database/index.js';

const DAY_MS = 86_400_000;
/** Made ahead of time, so that midnight needs no schema change in the path of an insert. */
const DAYS_AHEAD = 3;
const DAYS_BACK = 1;
/** Serialises the makers of partitions, also across processes. */
const PARTITION_LOCK = 7_241_990_054;

/** The daily partitions of `telemetry_events`, one per UTC day. */
@Injectable()
export class Partitions {
  private readonly known = new Set<number>();

  constructor(
    private readonly db: Database,
    private readonly settings: Settings,
  ) {}

  /** Oldest `timestamp` that is taken at `now`, ms. Its whole UTC day is still stored, so rollups of it can be rebuilt. */
  oldestAccepted(now: number): number {
    return now - this.settings.telemetryRetentionDays * DAY_MS;
  }

  /** Makes the partitions for these times where they are missing. */
  async ensure(times: Iterable<number>): Promise<void> {
    const missing = new Set<number>();
    for (const time of times) {
      const day = Math.floor(time / DAY_MS);
      if (!this.known.has(day)) missing.add(day);
    }
    for (const day of missing) {
      await this.create(day);
      this.known.add(day);
    }
  }

  /** Makes those of the days around `now`. */
  async ensureAround(now: number): Promise<void> {
    this.known.clear();
    const days = Array.from({ length: DAYS_BACK + 1 + DAYS_AHEAD }, (_, i) => now + (i - DAYS_BACK) * DAY_MS);
    await this.ensure(days);
  }

  /** Another process may have dropped what this one remembers. */
  forget(): void {
    this.known.clear();
  }

  /**
   * Drops partitions whose whole day is older than the retention.
   * @returns their names
   */
  async dropExpired(now: number): Promise<string[]> {
    const limit = tableName(Math.floor(this.oldestAccepted(now) / DAY_MS));
    const expired = await this.db.bulk.query<{ name: string }>(
      `SELECT relname AS name FROM pg_class
       WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
         AND relname ~ '^telemetry_events_p\\d{8}$' AND relname < $1 ORDER BY relname`,
      [limit],
    );
    for (const { name } of expired.rows) {
      // Waits for queries on the table for a moment only: inserts would queue up behind it. The job tries again.
      await this.inTransaction([`SET LOCAL lock_timeout = '1s'`, `DROP TABLE IF EXISTS ${name}`]);
    }
    this.known.clear();
    return expired.rows.map((r) => r.name);
  }

  private async create(day: number): Promise<void> {
    const name = tableName(day);
    const [from, to] = [day, day + 1].map((d) => new Date(d * DAY_MS).toISOString());
    const found = await this.db.bulk.query(`SELECT 1 FROM pg_inherits WHERE inhrelid = to_regclass($1)`, [name]);
    if (found.rowCount) return;
    // Attaching, unlike CREATE TABLE ... PARTITION OF, does not lock out those who insert into other days.
    await this.inTransaction([
      `SELECT pg_advisory_xact_lock(${PARTITION_LOCK})`,
      `CREATE TABLE IF NOT EXISTS ${name} (LIKE telemetry_events INCLUDING ALL)`,
      `DO $$ BEGIN
         IF NOT EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = '${name}'::regclass) THEN
           ALTER TABLE telemetry_events ATTACH PARTITION ${name} FOR VALUES FROM ('${from}') TO ('${to}');
         END IF;
       END $$`,
    ]);
  }

  private async inTransaction(statements: string[]): Promise<void> {
    // One simple-protocol message is one transaction.
    await this.db.bulk.query(statements.join(';'));
  }
}

function tableName(day: number): string {
  return `telemetry_events_p${new Date(day * DAY_MS).toISOString().slice(0, 10).replaceAll('-', '')}`;
}
