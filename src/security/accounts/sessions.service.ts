import { Injectable } from '@nestjs/common';
import type { Actor } from '../../platform/context/index.js';
import { Database } from '../../platform/database/index.js';
import { AppError } from '../../platform/errors/index.js';
import { type Page } from '../../platform/http/index.js';
import { parsePublicId, publicId } from '../../platform/ids/index.js';
import type { SessionDto, SessionListDto } from './auth.dto.js';
import type { Session } from './session.entity.js';
import { Sessions } from './sessions.js';
import { loginOwnerOf } from './users.js';

/** Users looking after their own sessions. */
@Injectable()
export class SessionsService {
  constructor(
    private readonly db: Database,
    private readonly sessions: Sessions,
  ) {}

  async list(actor: Actor, page: Page): Promise<SessionListDto> {
    const { rows, pagination } = await this.sessions.live(loginOwnerOf(actor), page);
    return { sessions: rows.map((session) => toDto(session, actor)), pagination };
  }

  endOthers(actor: Actor): Promise<number> {
    const current = parsePublicId('sess', actor.credentialId ?? '') ?? undefined;
    const userId = loginOwnerOf(actor);
    return this.db.transaction(async (tx) => (await this.sessions.end(tx, userId, 'all', current)).length);
  }

  /** Ending one that has ended already is a success. @throws AppError `not_found` for one of another user */
  async end(actor: Actor, id: string): Promise<void> {
    const userId = loginOwnerOf(actor);
    await this.db.transaction(async (tx) => {
      if (!(await this.sessions.exists(tx, userId, id))) throw AppError.notFound('Session', publicId('sess', id));
      await this.sessions.end(tx, userId, [id]);
    });
  }
}

function toDto(session: Session, actor: Actor): SessionDto {
  const id = publicId('sess', session.id);
  return {
    id,
    device: session.userAgent,
    ip: session.ip,
    created_at: session.createdAt.toISOString(),
    last_activity: session.lastSeenAt.toISOString(),
    expires_at: session.expiresAt.toISOString(),
    is_current: id === actor.credentialId,
  };
}
