import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { Database } from '../../platform/database/index.js';
import { AppError } from '../../platform/errors/index.js';

/** Failures of one address on one account before it must wait (SEC-14). */
const PER_ADDRESS = 5;
/** Consecutive failures of all addresses on one account before every unknown address must wait (G11). */
const PER_ACCOUNT = 100;
const WAIT = `interval '15 minutes'`;
/** The row that counts for all addresses together. */
const ANYWHERE = '';

export interface Attempt {
  /** More failures that are free of a wait. */
  readonly remaining: number;
  /** The password was right: the account starts from zero. */
  succeeded(): Promise<void>;
  /** The password could not be checked: the attempt does not count. */
  undone(): Promise<void>;
}

/**
 * Slows down the guessing of passwords. An attempt is counted before the password is looked at, so that parallel ones
 * cannot slip through; unknown names are counted like known ones. Nothing here may be part of a transaction that the refusal
 * rolls back: the routes that check a password are not idempotent ones.
 */
@Injectable()
export class LoginAttempts {
  constructor(private readonly db: Database) {}

  /**
   * @param trusted the address has a live session of this account: a stranger elsewhere cannot lock it out
   * @throws AppError `locked` with the seconds to wait
   */
  async begin(username: string, ip: string, trusted: boolean): Promise<Attempt> {
    // People type passwords into the name field; so names are kept as hashes only.
    const account = createHash('sha256').update(username.normalize('NFKC').toLowerCase()).digest();
    const failures = await this.count(account, ip, PER_ADDRESS, WAIT);
    if (!trusted) {
      try {
        await this.count(account, ANYWHERE, PER_ACCOUNT, `interval '30 days'`);
      } catch (error) {
        await this.undo(account, [ip]);
        throw error;
      }
    }
    return {
      remaining: PER_ADDRESS - failures,
      succeeded: async () => {
        await this.db.query(`DELETE FROM login_attempts WHERE account = $1 AND ip = ANY ($2)`, [
          account,
          [ip, ANYWHERE],
        ]);
      },
      undone: () => this.undo(account, trusted ? [ip] : [ip, ANYWHERE]),
    };
  }

  /** Forgets what no longer counts. */
  async purge(): Promise<void> {
    await this.db.query(
      `DELETE FROM login_attempts WHERE last_at < now() - CASE ip WHEN $1 THEN interval '30 days' ELSE interval '1 day' END`,
      [ANYWHERE],
    );
  }

  private async count(account: Buffer, ip: string, limit: number, forgetAfter: string): Promise<number> {
    const [counted] = await this.db.query<{ failures: number } | undefined>(
      `INSERT INTO login_attempts AS a (account, ip, failures) VALUES ($1, $2, 1)
       ON CONFLICT (account, ip) DO UPDATE SET last_at = now(),
         failures = CASE WHEN a.failures >= $3 OR a.last_at < now() - ${forgetAfter} THEN 1 ELSE a.failures + 1 END
       WHERE a.failures < $3 OR a.last_at < now() - ${WAIT}
       RETURNING failures`,
      [account, ip, limit],
    );
    if (counted) return counted.failures;
    const [locked] = await this.db.query<{ seconds: number } | undefined>(
      `SELECT ceil(extract(epoch FROM last_at + ${WAIT} - now()))::int AS seconds FROM login_attempts WHERE account = $1 AND ip = $2`,
      [account, ip],
    );
    throw new AppError('locked', 'Too many failed attempts; try again later', {
      retryAfter: Math.max(1, locked?.seconds ?? 1),
    });
  }

  private async undo(account: Buffer, ips: string[]): Promise<void> {
    await this.db.query(
      `UPDATE login_attempts SET failures = failures - 1 WHERE account = $1 AND ip = ANY ($2) AND failures > 0`,
      [account, ips],
    );
  }
}
