import { Injectable } from '@nestjs/common';
import { type Actor, currentContext } from '../../platform/context/index.js';
import { checkPasswordStrength, PasswordHasher } from '../../platform/crypto/index.js';
import { Database } from '../../platform/database/index.js';
import { AppError, isAppError } from '../../platform/errors/index.js';
import { EventBus } from '../../platform/events/index.js';
import { networkOf, parsePublicId, publicId } from '../../platform/http/index.js';
import { AlertSignals } from '../alerts/alert-signals.js';
import { UserLoggedIn, UserLoggedOut } from '../security.events.js';
import { type Attempt, LoginAttempts } from './login-attempts.js';
import { type Session, Sessions, type Tokens } from './sessions.js';
import type { User } from './users.js';

export interface Login {
  user: User;
  session: Session;
  tokens: Tokens;
}

/** @property known whether the account has logged in from the network of the request before */
type Candidate = User & { known: boolean };

/** Passwords: logging in with one, and changing it. */
@Injectable()
export class LoginService {
  constructor(
    private readonly db: Database,
    private readonly hasher: PasswordHasher,
    private readonly attempts: LoginAttempts,
    private readonly sessions: Sessions,
    private readonly events: EventBus,
    private readonly signals: AlertSignals,
  ) {}

  /**
   * A name that does not exist, one without a password, a suspended one and a wrong password are answered alike, after
   * the same work.
   * @throws AppError `unauthenticated` INVALID_CREDENTIALS, `locked` after too many failures
   */
  async login(username: string, password: string, remember: boolean): Promise<Login> {
    const network = networkOf(currentContext()?.ip);
    const [found] = await this.db.query<Candidate>(
      `SELECT u.*, ${LoginAttempts.knows('u.id', '$2')} AS known
       FROM users u WHERE lower(u.username) = lower($1) AND u.status = 'active'`,
      [username, network],
    );
    await this.checkPassword(username, found ?? null, password);
    const fresh = this.hasher.needsRehash(found.password_hash as string) ? await this.hasher.hash(password) : null;
    return this.db.transaction(async (tx) => {
      const [[user]] = await tx.query<[User[], number]>(
        `UPDATE users SET last_login_at = now(), password_hash = coalesce($2, password_hash) WHERE id = $1 RETURNING *`,
        [found.id, fresh],
      );
      await this.attempts.remember(tx, user.id, network);
      const opened = await this.sessions.open(tx, user, remember);
      const [user_id, session_id] = [publicId('user', user.id), publicId('sess', opened.session.id)];
      await this.events.publish(tx, UserLoggedIn, user_id, { user_id, session_id, ip_address: opened.session.ip });
      return { user, ...opened };
    });
  }

  private async checkPassword(username: string, user: Candidate | null, password: string): Promise<void> {
    const account = user && publicId('user', user.id);
    let matches: boolean;
    let attempt: Attempt;
    try {
      attempt = await this.attempts.begin(username, networkOf(currentContext()?.ip), user?.known ?? false);
    } catch (error) {
      if (isAppError(error) && error.kind === 'locked') this.signals.loginFailed(account);
      throw error;
    }
    try {
      matches = await this.hasher.verify(user?.password_hash ?? null, password);
    } catch (error) {
      await attempt.undone();
      throw error;
    }
    if (!matches) {
      this.signals.loginFailed(account);
      throw new AppError('unauthenticated', 'The username or password is wrong', {
        type: 'INVALID_CREDENTIALS',
        details: { attempts_remaining: attempt.remaining },
      });
    }
    await attempt.succeeded();
  }

  /** Ends the session of the caller; a caller with a key has none, and keeps the key. */
  async logout(actor: Actor): Promise<void> {
    const session = parsePublicId('sess', actor.credentialId ?? '');
    if (!session || !actor.userId) return;
    const { userId } = actor;
    await this.db.transaction(async (tx) => {
      const ended = await this.sessions.end(tx, userId, [session]);
      if (ended.length === 0) return;
      await this.events.publish(tx, UserLoggedOut, actor.id, {
        user_id: actor.id,
        session_id: publicId('sess', session),
      });
    });
  }

  /**
   * Every session but the caller's ends (AUTH-07).
   * @throws AppError `unauthenticated` for a wrong current password, `validation` for a new one that is the same, and with the
   *   code WEAK_PASSWORD for one that is too weak
   */
  async changePassword(actor: Actor, userId: string, current: string, wanted: string): Promise<void> {
    const [user] = await this.db.query<User>(`SELECT * FROM users WHERE id = $1`, [userId]);
    if (wanted === current) {
      throw AppError.validation({
        field: 'new_password',
        issue: 'must differ from the current password',
        location: 'body',
      });
    }
    const weakness = checkPasswordStrength(wanted, { username: user.username, email: user.email ?? undefined });
    if (weakness) {
      throw new AppError('validation', 'The new password is too weak', {
        code: 'WEAK_PASSWORD',
        details: [{ field: 'new_password', issue: weakness, location: 'body' }],
      });
    }
    await this.checkPassword(user.username, { ...user, known: true }, current);
    const hash = await this.hasher.hash(wanted);
    await this.db.transaction(async (tx) => {
      const [changed] = await tx.query<[unknown[], number]>(
        `UPDATE users SET password_hash = $2, updated_at = now(), version = version + 1
         WHERE id = $1 AND password_hash = $3 RETURNING id`,
        [userId, hash, user.password_hash],
      );
      if (changed.length === 0) throw AppError.conflict('The password was changed by another request');
      await this.attempts.forgetOthers(tx, userId, networkOf(currentContext()?.ip));
      await this.sessions.end(tx, userId, 'all', parsePublicId('sess', actor.credentialId ?? '') ?? undefined);
    });
  }
}
