import { Injectable } from '@nestjs/common';
import { DiscoveryService } from '@nestjs/core';
import { HandleTask, type TaskContext } from '../../platform/background/index.js';
import { EncryptedColumns, type EncryptedTable, SecretBox, SecretBoxError } from '../../platform/crypto/index.js';
import { Database } from '../../platform/database/index.js';
import { AppError } from '../../platform/errors/index.js';
import { MasterKeyProbe } from './master-key-probe.js';
import { type ReencryptionInput, type ReencryptionState, ReencryptSecrets } from './reencryption.task.js';

/** Rows encrypted in one transaction; whoever wants to change one of them waits for it. */
const BATCH = 100;

type Context = TaskContext<ReencryptionInput, ReencryptionState>;
type Row = Record<string, string | null> & { row_key: string[] };

/** Encrypts every encrypted column with the first master key, then forgets the keys that nothing is encrypted with any more. */
@Injectable()
export class Reencryption {
  constructor(
    private readonly db: Database,
    private readonly box: SecretBox,
    private readonly probe: MasterKeyProbe,
    private readonly discovery: DiscoveryService,
  ) {}

  @HandleTask(ReencryptSecrets)
  async run(context: Context): Promise<object> {
    const { keyId } = context.input;
    const { currentKeyId } = this.box;
    if (currentKeyId !== keyId) {
      throw AppError.conflict(`This worker encrypts with "${currentKeyId}": give every process "${keyId}" first`);
    }
    const tables = this.tables();
    await context.step('reencrypt');
    for (const [done, table] of tables.entries()) {
      context.progress(done, tables.length);
      for (let after: string[] | null = []; after;) after = await this.reencryptSome(context, table, after);
    }
    await context.step('forget');
    const { forgotten, inUse } = await this.probe.forget([keyId, ...(await this.olderKeys(tables))]);
    const result = {
      reencrypted: context.state?.reencrypted ?? 0,
      forgotten_keys: forgotten,
      keys_in_use: inUse,
    };
    context.report(result);
    return result;
  }

  private tables(): EncryptedTable[] {
    return this.discovery
      .getProviders({ metadataKey: EncryptedColumns.KEY })
      .map((provider) => this.discovery.getMetadataByDecorator(EncryptedColumns, provider))
      .filter((table) => table !== undefined);
  }

  /** @param after key of the last row of the batch before; empty at the beginning. @returns that of this batch; null after the last one */
  private reencryptSome(context: Context, table: EncryptedTable, after: string[]): Promise<string[] | null> {
    context.signal.throwIfAborted();
    const { key, columns } = table;
    const old = columns.map((column) => `NOT starts_with(${column}, $1)`).join(' OR ');
    const later = after.length > 0 ? `AND (${key.join()}) > (${key.map((_, n) => `$${n + 2}`).join()})` : '';
    const before = context.state?.reencrypted ?? 0;
    return this.db.transaction(async (tx) => {
      // Not FOR UPDATE: rows that refer to these can be inserted meanwhile.
      const rows = await tx.query<Row[]>(
        `SELECT ARRAY[${key.map((column) => `${column}::text`).join()}] AS row_key, ${columns.join()} FROM ${table.table}
         WHERE (${old}) ${later} ORDER BY ${key.join()} LIMIT ${BATCH} FOR NO KEY UPDATE`,
        [this.prefix, ...after],
      );
      if (rows.length === 0) return null;
      let reencrypted = before;
      for (const row of rows) {
        const values = this.reencryptRow(context, table, row);
        if (!values) continue;
        await tx.query(
          `UPDATE ${table.table} SET ${columns.map((column, n) => `${column} = $${n + 1}`).join()}
           WHERE (${key.join()}) = (${key.map((_, n) => `$${columns.length + n + 1}`).join()})`,
          [...values, ...row.row_key],
        );
        reencrypted++;
      }
      await context.checkpoint({ reencrypted }, tx);
      context.report({ reencrypted });
      return rows[rows.length - 1].row_key;
    });
  }

  /** The new values of the columns; null for a row that cannot be read with the keys of this process. */
  private reencryptRow(context: Context, table: EncryptedTable, row: Row): (string | null)[] | null {
    const bound = table.context(Object.fromEntries(table.key.map((column, n) => [column, row.row_key[n]])));
    try {
      return table.columns.map((column) => {
        const value = row[column];
        const isOld = value !== null && this.box.needsRotation(value);
        return isOld ? this.box.encrypt(this.box.decrypt(value, bound), bound) : value;
      });
    } catch (error) {
      if (!(error instanceof SecretBoxError)) throw error;
      context.log(`${table.table} ${row.row_key.join(' ')} stays as it is: ${error.message}`, 'warn');
      return null;
    }
  }

  /** Keys other than the first one that some value is still encrypted with. */
  private async olderKeys(tables: readonly EncryptedTable[]): Promise<string[]> {
    const parts = tables.flatMap(({ table, columns }) =>
      columns.map((c) => `SELECT split_part(${c}, '.', 2) AS id FROM ${table} WHERE NOT starts_with(${c}, $1)`),
    );
    const rows = await this.db.query<{ id: string }>(parts.join(' UNION '), [this.prefix]);
    return rows.map(({ id }) => id);
  }

  private get prefix(): string {
    return `v1.${this.box.currentKeyId}.`;
  }
}
