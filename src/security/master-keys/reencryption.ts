import { Injectable } from '@nestjs/common';
import { DiscoveryService } from '@nestjs/core';
import { HandleTask, type TaskContext } from '../../platform/background/index.js';
import { EncryptedColumns, type EncryptedTable, SecretBox, SecretBoxError } from '../../platform/crypto/index.js';
import { Database } from '../../platform/database/index.js';
import { AppError } from '../../platform/errors/index.js';
import { MasterKeyProbe } from './master-key-probe.js';
import { type EncryptedRow, lockOldRows, olderKeys, updateEncrypted } from './master-keys.queries.js';
import { type ReencryptionInput, type ReencryptionState, ReencryptSecrets } from './reencryption.task.js';

/** Rows encrypted in one transaction; whoever wants to change one of them waits for it. */
const BATCH = 100;

type Context = TaskContext<ReencryptionInput, ReencryptionState>;

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
    const older = await olderKeys(this.db.manager, tables, this.prefix);
    const { forgotten, inUse } = await this.probe.forget([keyId, ...older]);
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
    const before = context.state?.reencrypted ?? 0;
    return this.db.transaction(async (tx) => {
      const rows = await lockOldRows(tx, table, { prefix: this.prefix, after, limit: BATCH });
      if (rows.length === 0) return null;
      let reencrypted = before;
      for (const row of rows) {
        const values = this.reencryptRow(context, table, row);
        if (!values) continue;
        await updateEncrypted(tx, table, row.row_key, values);
        reencrypted++;
      }
      await context.checkpoint({ reencrypted }, tx);
      context.report({ reencrypted });
      return rows[rows.length - 1].row_key;
    });
  }

  /** The new values of the columns; null for a row that cannot be read with the keys of this process. */
  private reencryptRow(context: Context, table: EncryptedTable, row: EncryptedRow): (string | null)[] | null {
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

  private get prefix(): string {
    return `v1.${this.box.currentKeyId}.`;
  }
}
