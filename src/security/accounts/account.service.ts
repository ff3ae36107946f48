import type { IncomingHttpHeaders } from 'node:http';
import { Injectable } from '@nestjs/common';
import type { Actor } from '../../platform/context/index.js';
import { Database } from '../../platform/database/index.js';
import { parsePublicId } from '../../platform/ids/index.js';
import { AccessTokens } from '../access/access-tokens.js';
import { presentedCredential } from '../access/presented-credential.js';
import { canonicalScope, covers } from '../access/scopes.js';
import type { TokenInfoDto, UserDto } from './auth.dto.js';
import { Credential } from '../keys/credential.entity.js';
import { User } from './user.entity.js';
import { toUserDto } from './users.js';

/** Tells a caller who it is and what it may do. */
@Injectable()
export class AccountService {
  constructor(
    private readonly db: Database,
    private readonly tokens: AccessTokens,
  ) {}

  /** The user behind the caller; an agent has no account and is described by its key. */
  async who(actor: Actor): Promise<UserDto> {
    const user = actor.userId ? await this.db.repository(User).findOneBy({ id: actor.userId }) : null;
    if (user) return toUserDto(user);
    return {
      id: actor.id,
      type: 'agent',
      username: actor.name,
      email: null,
      status: 'active',
      roles: [...actor.roles],
      profile: { full_name: null },
      preferences: {},
      metadata: {},
      created_at: null,
      last_login_at: null,
    };
  }

  /** What is true of the credential of this request now. */
  async tokenInfo(actor: Actor, headers: IncomingHttpHeaders): Promise<TokenInfoDto> {
    return {
      type: actor.type,
      credential_id: actor.credentialId ?? '',
      roles: [...actor.roles],
      scopes: scopesOf(actor),
      ...(await this.lifetimeOf(actor, headers)),
    };
  }

  private async lifetimeOf(
    actor: Actor,
    headers: IncomingHttpHeaders,
  ): Promise<Pick<TokenInfoDto, 'issued_at' | 'expires_at'>> {
    const presented = presentedCredential(headers);
    if (presented.kind === 'jwt') {
      const { issuedAt, expiresAt } = await this.tokens.verify(presented.text);
      return {
        issued_at: new Date(issuedAt * 1000).toISOString(),
        expires_at: new Date(expiresAt * 1000).toISOString(),
      };
    }
    const credentialId = actor.credentialId ?? '';
    const id = parsePublicId('key', credentialId) ?? parsePublicId('token', credentialId) ?? '';
    const { createdAt, expiresAt } = await this.db.repository(Credential).findOneByOrFail({ id });
    return { issued_at: createdAt.toISOString(), expires_at: expiresAt?.toISOString() ?? null };
  }

  /** Each asked scope, in either spelling, with whether the caller holds all of it. */
  check(actor: Actor, asked: readonly string[]): Map<string, boolean> {
    return new Map(
      asked.map((text) => {
        const scope = canonicalScope(text);
        return [text, scope !== null && [...actor.scopes].some((held) => covers(held, scope))];
      }),
    );
  }
}

/** As they are written in roles and keys: with the labels that limit them. */
function scopesOf({ scopes, targetLabels, agentLabels }: Actor): string[] {
  const limits = new Map([
    ['command:write', targetLabels],
    ['ai:write', agentLabels],
    ['agent:admin', agentLabels],
  ]);
  return [...scopes]
    .map((scope) => {
      const labels = Object.entries(limits.get(scope) ?? {}).map(([key, value]) => `${key}=${value ?? ''}`);
      return labels.length > 0 ? `${scope}@${labels.join(',')}` : scope;
    })
    .sort();
}
