import { Injectable } from '@nestjs/common';
import { type Actor, actorHas } from '../../platform/context/index.js';
import { Database } from '../../platform/database/index.js';
import { AppError } from '../../platform/errors/index.js';
import { type Page, pageOf, parsePublicId, publicId } from '../../platform/http/index.js';
import type { SessionDto, SessionListDto } from './auth.dto.js';
import { type Session, Sessions } from './sessions.js';
import { userIdOf } from './users.js';

/** Users looking after their own sessions (AUTH-20). */
@Injectable()
export class SessionsService {
  constructor(
    private readonly db: Database,
    private readonly sessions: Sessions,
  ) {}

  async list(actor: Actor, page: Page): Promise<SessionListDto> {
    const { found, total } = await this.sessions.live(this.owner(actor), page);
    const { rows, pagination } = pageOf(page, found, total, (last) => [last.created_at, last.id]);
    return { sessions: rows.map((session) => toDto(session, actor)), pagination };
  }

  endOthers(actor: Actor): Promise<number> {
    const current = parsePublicId('sess', actor.credentialId ?? '') ?? undefined;
    const userId = this.owner(actor);
    return this.db.transaction(async (tx) => (await this.sessions.end(tx, userId, 'all', current)).length);
  }

  /** Ending one that has ended already is a success (GEN-13). @throws AppError `not_found` for one of another user */
  async end(actor: Actor, id: string): Promise<void> {
    const userId = this.owner(actor);
    await this.db.transaction(async (tx) => {
      if (!(await this.sessions.exists(tx, userId, id))) throw AppError.notFound('Session', publicId('sess', id));
      await this.sessions.end(tx, userId, [id]);
    });
  }

  /** A key with few scopes is no way to the logins of its owner, which have all of them. */
  private owner(actor: Actor): string {
    const userId = userIdOf(actor);
    if (actor.type !== 'user' && !actorHas(actor, 'user:admin')) {
      throw AppError.forbidden('A key needs the scope user:admin for this', { required_scopes: ['user:admin'] });
    }
    return userId;
  }
}

function toDto(session: Session, actor: Actor): SessionDto {
  const id = publicId('sess', session.id);
  return {
    id,
    device: session.user_agent,
    ip: session.ip,
    created_at: session.created_at.toISOString(),
    last_activity: session.last_seen_at.toISOString(),
    expires_at: session.expires_at.toISOString(),
    is_current: id === actor.credentialId,
  };
}
