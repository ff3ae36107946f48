import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { In, MoreThan, Not } from 'typeorm';
import { Database, type Tx } from '../../platform/database/index.js';
import { AppError } from '../../platform/errors/index.js';
import { LoginAttempt } from './login-attempt.entity.js';
import { LoginNetwork } from './login-network.entity.js';
import { ACCOUNT_WAITS, FREE_FAILURES, KNOWN_NETWORK_WAITS, NETWORK_WAITS, type Waits } from './login-waits.js';

/** Failures after which nothing came for so long are forgotten. */
export const FAILURES_KEPT_DAYS = 30;
/** A network that was last logged in from so long ago is unknown again. */
export const NETWORKS_KEPT_DAYS = 180;
/** Looked up for a name that nobody has, so that it takes the same work. */
const NOBODY = '00000000-0000-0000-0000-000000000000';
/** The row that counts for all unknown networks together. */
export const ANYWHERE = '';

export interface Attempt {
  /** The account has logged in from this network before. */
  readonly known: boolean;
  /** More failures that are free of a wait. */
  readonly remaining: number;
  /** The password was right: the account starts from zero. */
  succeeded(): Promise<void>;
  /** The password could not be checked: the attempt does not count. */
  undone(): Promise<void>;
}

interface Counter {
  network: string;
  waits: Waits;
}

/**
 * Slows down the guessing of passwords: each network by itself, and those from which the account has never logged in also
 * together, so that many addresses help a guesser little and never keep the owner out of a network of theirs. An attempt
 * is counted before the password is looked at, so that parallel ones cannot slip through; unknown names are counted like
 * known ones. Nothing here may be part of a transaction that the refusal rolls back: the routes that check a password are
 * not idempotent ones.
 */
@Injectable()
export class LoginAttempts {
  constructor(private readonly db: Database) {}

  /**
   * @param userId the account of that name; null when there is none
   * @throws AppError `locked` with the seconds to wait
   */
  async begin(username: string, network: string, userId: string | null): Promise<Attempt> {
    const known = await this.knows(userId ?? NOBODY, network);
    // People type passwords into the name field; so names are kept as hashes only.
    const account = createHash('sha256').update(username.normalize('NFKC').toLowerCase()).digest();
    const own: Counter = { network, waits: known ? KNOWN_NETWORK_WAITS : NETWORK_WAITS };
    const together: Counter = { network: ANYWHERE, waits: ACCOUNT_WAITS };
    const failures = await this.count(account, own);
    if (!known) {
      try {
        await this.count(account, together);
      } catch (error) {
        await this.undo(account, own);
        throw error;
      }
    }
    return {
      known,
      remaining: Math.max(0, FREE_FAILURES - failures),
      succeeded: async () => {
        await this.db.repository(LoginAttempt).delete({ account, network: In([network, ANYWHERE]) });
      },
      undone: async () => {
        await this.undo(account, own);
        if (!known) await this.undo(account, together);
      },
    };
  }

  /** Whether the account has logged in from this network before. */
  private knows(userId: string, network: string): Promise<boolean> {
    const lastAt = MoreThan(new Date(Date.now() - NETWORKS_KEPT_DAYS * 86_400_000));
    return this.db.repository(LoginNetwork).existsBy({ userId, network, lastAt });
  }

  /** Remembers that the account has logged in from this network. */
  async remember(tx: Tx, userId: string, network: string): Promise<void> {
    await tx.query(
      `INSERT INTO login_networks (user_id, network) VALUES ($1, $2)
       ON CONFLICT (user_id, network) DO UPDATE SET last_at = now()`,
      [userId, network],
    );
  }

  /** Whoever knew the old password may have logged in from the other networks. */
  async forgetOthers(tx: Tx, userId: string, network: string): Promise<void> {
    await tx.delete(LoginNetwork, { userId, network: Not(network) });
  }

  private async count(account: Buffer, { network, waits }: Counter): Promise<number> {
    const [counted] = await this.db.query<{ failures: number } | undefined>(
      `INSERT INTO login_attempts AS a (account, network, failures) VALUES ($1, $2, 1)
       ON CONFLICT (account, network) DO UPDATE SET last_at = now(),
         failures = CASE WHEN a.last_at < now() - interval '${FAILURES_KEPT_DAYS} days' THEN 1 ELSE a.failures + 1 END
       WHERE a.last_at + ${waitAfter('a.failures', '$3')} <= now()
       RETURNING failures`,
      [account, network, waits],
    );
    if (counted) return counted.failures;
    const [locked] = await this.db.query<{ seconds: number } | undefined>(
      `SELECT ceil(extract(epoch FROM last_at + ${waitAfter('failures', '$3')} - now()))::int AS seconds
       FROM login_attempts WHERE account = $1 AND network = $2`,
      [account, network, waits],
    );
    throw new AppError('locked', 'Too many failed attempts; try again later', {
      retryAfter: Math.max(1, locked?.seconds ?? 1),
    });
  }

  /** As if the attempt had not been made: the wait before it was over and does not begin again. */
  private async undo(account: Buffer, { network, waits }: Counter): Promise<void> {
    await this.db.query(
      `UPDATE login_attempts SET failures = failures - 1, last_at = now() - ${waitAfter('failures - 1', '$3')}
       WHERE account = $1 AND network = $2 AND failures > 0`,
      [account, network, waits],
    );
  }
}

/** SQL of the time to wait after so many failures; `waits` names the parameter with the seconds. */
function waitAfter(failures: string, waits: string): string {
  return `make_interval(secs => coalesce((${waits}::int[])[least(${failures}, cardinality(${waits}::int[]))], 0))`;
}
