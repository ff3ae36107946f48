import { Injectable } from '@nestjs/common';
import { type Actor, currentContext } from '../../platform/context/index.js';
import { checkPasswordStrength, PasswordHasher } from '../../platform/crypto/index.js';
import { Database } from '../../platform/database/index.js';
import { AppError, isAppError } from '../../platform/errors/index.js';
import { EventBus } from '../../platform/events/index.js';
import { networkOf } from '../../platform/http/index.js';
import { parsePublicId, publicId } from '../../platform/ids/index.js';
import { AlertSignals } from '../alerts/alert-signals.js';
import { UserLoggedIn, UserLoggedOut } from '../security.events.js';
import { noteLogin } from './login.queries.js';
import { type Attempt, LoginAttempts } from './login-attempts.js';
import type { Session } from './session.entity.js';
import { Sessions, type Tokens } from './sessions.js';
import { User } from './user.entity.js';

export interface Login {
  user: User;
  session: Session;
  tokens: Tokens;
}

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
    const users = this.db.repository(User).createQueryBuilder('user');
    const found = await users
      .where('lower(user.username) = lower(:username)', { username })
      .andWhere({ status: 'active' })
      .getOne();
    await this.checkPassword(username, found, password);
    // The password was right, so there is a user with one.
    const { id, passwordHash } = found!;
    const fresh = this.hasher.needsRehash(passwordHash!) ? await this.hasher.hash(password) : null;
    return this.db.transaction(async (tx) => {
      await noteLogin(tx, id, fresh);
      const user = await tx.findOneByOrFail(User, { id });
      await this.attempts.remember(tx, user.id, network);
      const opened = await this.sessions.open(tx, user, remember);
      const [user_id, session_id] = [publicId('user', user.id), publicId('sess', opened.session.id)];
      await this.events.publish(tx, UserLoggedIn, user_id, { user_id, session_id, ip_address: opened.session.ip });
      return { user, ...opened };
    });
  }

  private async checkPassword(username: string, user: User | null, password: string): Promise<void> {
    const account = user && publicId('user', user.id);
    let matches: boolean;
    let attempt: Attempt;
    try {
      attempt = await this.attempts.begin(username, networkOf(currentContext()?.ip), user?.id ?? null);
    } catch (error) {
      if (isAppError(error) && error.kind === 'locked') this.signals.loginFailed(account);
      throw error;
    }
    try {
      matches = await this.hasher.verify(user?.passwordHash ?? null, password, { stranger: !attempt.known });
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
   * Every session but the caller's ends.
   * @throws AppError `unauthenticated` for a wrong current password, `validation` for a new one that is the same, and with the
   *   code WEAK_PASSWORD for one that is too weak
   */
  async changePassword(actor: Actor, userId: string, current: string, wanted: string): Promise<void> {
    const user = await this.db.repository(User).findOneByOrFail({ id: userId });
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
    await this.checkPassword(user.username, user, current);
    const hash = await this.hasher.hash(wanted);
    await this.db.transaction(async (tx) => {
      const asChecked = { id: userId, passwordHash: user.passwordHash! };
      const { affected } = await tx.update(User, asChecked, { passwordHash: hash });
      if (affected === 0) throw AppError.conflict('The password was changed by another request');
      await this.attempts.forgetOthers(tx, userId, networkOf(currentContext()?.ip));
      await this.sessions.end(tx, userId, 'all', parsePublicId('sess', actor.credentialId ?? '') ?? undefined);
    });
  }
}
