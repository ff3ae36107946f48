import type { Pool } from 'pg';
import { advisoryLock } from './advisory-locks.js';

const DAY_MS = 86_400_000;
/** Serialises the makers of partitions, also across processes. */
const PARTITION_LOCK = advisoryLock('database.partitions');

interface Range {
  name: string;
  from: string;
  to: string;
}

/** The partitions of a table that is partitioned by time, one per UTC day or month. */
export class RangePartitions {
  /** @param triggers SQL that gives a new partition its triggers, which are not copied from the table */
  constructor(
    private readonly pool: Pool,
    private readonly table: string,
    private readonly unit: 'day' | 'month',
    private readonly triggers?: (partition: string) => string,
  ) {}

  /** Creates the partition of this time unless it exists. */
  async create(time: number): Promise<void> {
    const { table } = this;
    const { name, from, to } = this.rangeOf(time);
    const found = await this.pool.query(`SELECT 1 FROM pg_inherits WHERE inhrelid = to_regclass($1)`, [name]);
    if (found.rowCount) return;
    // Attaching, unlike CREATE TABLE ... PARTITION OF, does not lock out those who insert into other partitions.
    await this.inTransaction([
      `SELECT pg_advisory_xact_lock(${PARTITION_LOCK})`,
      `CREATE TABLE IF NOT EXISTS ${name} (LIKE ${table} INCLUDING ALL)`,
      `DO $$ BEGIN
         IF NOT EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = '${name}'::regclass) THEN
           ${this.triggers ? `${this.triggers(name)};` : ''}
           ALTER TABLE ${table} ATTACH PARTITION ${name} FOR VALUES FROM ('${from}') TO ('${to}');
         END IF;
       END $$`,
    ]);
  }

  /**
   * Drops the partitions that end at or before this time, the oldest first and at most so many.
   * @returns their names
   */
  async dropBefore(time: number, limit?: number): Promise<string[]> {
    const expired = await this.pool.query<{ name: string }>(
      `SELECT relname AS name FROM pg_class
       WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
         AND relname ~ ('^' || $1 || '_p\\d{' || $2 || '}$') AND relname < $3 ORDER BY relname LIMIT $4`,
      [this.table, this.unit === 'day' ? 8 : 6, this.rangeOf(time).name, limit ?? null],
    );
    for (const { name } of expired.rows) {
      // Waits for queries on the table for a moment only: inserts would queue up behind it. The job tries again.
      await this.inTransaction([`SET LOCAL lock_timeout = '1s'`, `DROP TABLE IF EXISTS ${name}`]);
    }
    return expired.rows.map((r) => r.name);
  }

  private rangeOf(time: number): Range {
    const date = new Date(time);
    const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
    const [from, to] =
      this.unit === 'day'
        ? [Math.floor(time / DAY_MS) * DAY_MS, (Math.floor(time / DAY_MS) + 1) * DAY_MS]
        : [Date.UTC(year, month), Date.UTC(year, month + 1)];
    const begin = new Date(from).toISOString();
    const suffix = begin.slice(0, this.unit === 'day' ? 10 : 7).replaceAll('-', '');
    return { name: `${this.table}_p${suffix}`, from: begin, to: new Date(to).toISOString() };
  }

  private async inTransaction(statements: string[]): Promise<void> {
    // One simple-protocol message is one transaction.
    await this.pool.query(statements.join(';'));
  }
}
