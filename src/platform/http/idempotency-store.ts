import { Injectable } from '@nestjs/common';
import { EncryptedColumns, SecretBox } from '../crypto/index.js';
import type { Tx } from '../database/index.js';
import { AppError } from '../errors/index.js';
import { IdempotencyKey } from './idempotency-key.entity.js';
import { claimKey } from './idempotency.queries.js';

/** Two requests are the same when principal, route and key are. */
export interface RequestKey {
  principal: string;
  route: string;
  key: string;
}

export interface StoredAnswer {
  status: number;
  headers: Record<string, string>;
  body: unknown;
}

/** The table of stored answers. Bodies are encrypted, because some contain a key that is shown only once. */
@Injectable()
@EncryptedColumns({
  table: 'idempotency_keys',
  key: ['principal', 'route', 'key'],
  columns: ['body'],
  context: ({ principal, route, key }) => contextOf({ principal, route, key }),
})
export class IdempotencyStore {
  constructor(private readonly box: SecretBox) {}

  /**
   * Locks the key in this transaction. Waits for another transaction that holds it, up to `lock_timeout`.
   * @returns the stored answer when the request was executed before, else null
   * @throws AppError `conflict` when the key was used for another request
   */
  async claim(tx: Tx, request: RequestKey, hash: Buffer): Promise<StoredAnswer | null> {
    const { principal, route, key } = request;
    if (await claimKey(tx, request, hash)) return null;
    const row = await tx.findOneByOrFail(IdempotencyKey, { principal, route, key });
    if (!row.requestHash.equals(hash)) {
      throw AppError.conflict('This Idempotency-Key was used for another request', { idempotency_key: key });
    }
    const body: unknown = row.body === null ? undefined : JSON.parse(this.box.decrypt(row.body, contextOf(request)));
    return { status: row.status!, headers: row.headers!, body };
  }

  async store(tx: Tx, request: RequestKey, answer: StoredAnswer): Promise<void> {
    const body = answer.body === undefined ? null : this.box.encrypt(JSON.stringify(answer.body), contextOf(request));
    const { status, headers } = answer;
    await tx.update(IdempotencyKey, request, { status, headers, body });
  }
}

function contextOf({ principal, route, key }: RequestKey): string {
  return `idempotency_keys ${principal} ${route} ${key}`;
}
