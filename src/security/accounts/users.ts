import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { type Actor, actorHas } from '../../platform/context/index.js';
import { insertRow, type Tx } from '../../platform/database/index.js';
import { AppError } from '../../platform/errors/index.js';
import { EventBus } from '../../platform/events/index.js';
import { publicId } from '../../platform/ids/index.js';
import { UserCreated } from '../security.events.js';
import type { UserDto } from './auth.dto.js';
import { User } from './user.entity.js';

export interface NewUser {
  username: string;
  email?: string;
  fullName?: string;
  /** Without one the user cannot log in, but keys can act for it. */
  passwordHash?: string;
  roles: string[];
}

/** The accounts of people. */
@Injectable()
export class Users {
  constructor(private readonly events: EventBus) {}

  /** @throws a unique violation (409) when the name or the address is taken, whatever its case */
  async create(tx: Tx, user: NewUser): Promise<User> {
    const row = await insertRow(tx, User, { id: randomUUID(), ...user });
    const id = publicId('user', row.id);
    await this.events.publish(tx, UserCreated, id, { user_id: id, username: row.username, roles: row.roles });
    return row;
  }
}

/**
 * The acting user, for what concerns the user's logins: a key with few scopes is no way to them, as they have all of the user's.
 * @throws AppError `forbidden`
 */
export function loginOwnerOf(actor: Actor): string {
  const userId = userIdOf(actor);
  if (actor.type !== 'user' && !actorHas(actor, 'user:admin')) {
    throw AppError.forbidden('A key needs the scope user:admin for this', { required_scopes: ['user:admin'] });
  }
  return userId;
}

/** The acting user of a route that agents, which have no account, cannot use. @throws AppError `forbidden` */
export function userIdOf(actor: Actor): string {
  if (!actor.userId) throw AppError.forbidden('This is for users');
  return actor.userId;
}

export function toUserDto(user: User): UserDto {
  return {
    id: publicId('user', user.id),
    type: 'user',
    username: user.username,
    email: user.email,
    status: user.status,
    roles: user.roles,
    profile: { full_name: user.fullName },
    preferences: user.preferences,
    metadata: user.metadata,
    created_at: user.createdAt.toISOString(),
    last_login_at: user.lastLoginAt?.toISOString() ?? null,
  };
}
