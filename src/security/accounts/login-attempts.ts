import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { In, MoreThan, Not } from 'typeorm';
import { Database, type Tx } from '../../platform/database/index.js';
import { AppError } from '../../platform/errors/index.js';
import { LoginAttempt } from './login-attempt.entity.js';
import { LoginNetwork } from './login-network.entity.js';
import { countFailure, type FailureCounter, secondsToWait, undoFailure } from './login.queries.js';
import { ACCOUNT_WAITS, FREE_FAILURES, KNOWN_NETWORK_WAITS, NETWORK_WAITS } from './login-waits.js';

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
    const own: FailureCounter = { account, network, waits: known ? KNOWN_NETWORK_WAITS : NETWORK_WAITS };
    const together: FailureCounter = { account, network: ANYWHERE, waits: ACCOUNT_WAITS };
    const failures = await this.count(own);
    if (!known) {
      try {
        await this.count(together);
      } catch (error) {
        await undoFailure(this.db.manager, own);
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
        await undoFailure(this.db.manager, own);
        if (!known) await undoFailure(this.db.manager, together);
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
    await tx.upsert(LoginNetwork, { userId, network, lastAt: new Date() }, ['userId', 'network']);
  }

  /** Whoever knew the old password may have logged in from the other networks. */
  async forgetOthers(tx: Tx, userId: string, network: string): Promise<void> {
    await tx.delete(LoginNetwork, { userId, network: Not(network) });
  }

  private async count(counter: FailureCounter): Promise<number> {
    const failures = await countFailure(this.db.manager, counter);
    if (failures !== undefined) return failures;
    throw new AppError('locked', 'Too many failed attempts; try again later', {
      retryAfter: await secondsToWait(this.db.manager, counter),
    });
  }
}
