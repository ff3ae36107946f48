import type { EntityManager } from 'typeorm';
import type { LoginAttempt } from './login-attempt.entity.js';
import { FAILURES_KEPT_DAYS, type Waits } from './login-waits.js';
import type { User } from './user.entity.js';

/** The failures of an account from one network, and the seconds to wait after so many of them. */
export type FailureCounter = Pick<LoginAttempt, 'account' | 'network'> & { waits: Waits };

/**
 * Counts a failure, unless the account must wait. SQL: tests the wait and counts in one statement, so that parallel attempts cannot
 * slip through. @returns how many there are; undefined while it must wait
 */
export async function countFailure(
  db: EntityManager,
  { account, network, waits }: FailureCounter,
): Promise<number | undefined> {
  const [counted] = await db.query<Pick<LoginAttempt, 'failures'>[]>(
    `INSERT INTO login_attempts AS a (account, network, failures) VALUES ($1, $2, 1)
     ON CONFLICT (account, network) DO UPDATE SET last_at = now(),
       failures = CASE WHEN a.last_at < now() - interval '${FAILURES_KEPT_DAYS} days' THEN 1 ELSE a.failures + 1 END
     WHERE a.last_at + ${waitAfter('a.failures')} <= now()
     RETURNING failures`,
    [account, network, waits],
  );
  return counted?.failures;
}

/** SQL: by the clock that the failures were counted by. */
export async function secondsToWait(db: EntityManager, { account, network, waits }: FailureCounter): Promise<number> {
  const [locked] = await db.query<{ seconds: number }[]>(
    `SELECT ceil(extract(epoch FROM last_at + ${waitAfter('failures')} - now()))::int AS seconds
     FROM login_attempts WHERE account = $1 AND network = $2`,
    [account, network, waits],
  );
  return Math.max(1, locked?.seconds ?? 1);
}

/** As if the attempt had not been made: the wait before it was over and does not begin again. SQL: counts down in one statement. */
export async function undoFailure(db: EntityManager, { account, network, waits }: FailureCounter): Promise<void> {
  await db.query(
    `UPDATE login_attempts SET failures = failures - 1, last_at = now() - ${waitAfter('failures - 1')}
     WHERE account = $1 AND network = $2 AND failures > 0`,
    [account, network, waits],
  );
}

/** SQL of the time to wait after so many failures; the third parameter holds the seconds. */
function waitAfter(failures: string): string {
  return `make_interval(secs => coalesce(($3::int[])[least(${failures}, cardinality($3::int[]))], 0))`;
}

/** SQL: a login is no change of the user, whose version and time of change stay. @param rehashed null: the hash stays too */
export async function noteLogin(db: EntityManager, userId: string, rehashed: User['passwordHash']): Promise<void> {
  await db.query(`UPDATE users SET last_login_at = now(), password_hash = coalesce($2, password_hash) WHERE id = $1`, [
    userId,
    rehashed,
  ]);
}
