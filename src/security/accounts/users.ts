import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import type { Actor } from '../../platform/context/index.js';
import type { Tx } from '../../platform/database/index.js';
import { AppError } from '../../platform/errors/index.js';
import { EventBus } from '../../platform/events/index.js';
import { publicId } from '../../platform/http/index.js';
import { UserCreated } from '../security.events.js';
import type { UserDto } from './auth.dto.js';

export interface User {
  id: string;
  username: string;
  email: string | null;
  full_name: string | null;
  password_hash: string | null;
  status: 'active' | 'suspended' | 'deleted';
  roles: string[];
  preferences: Record<string, unknown>;
  metadata: Record<string, unknown>;
  last_login_at: Date | null;
  created_at: Date;
  updated_at: Date;
}

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
    const [row] = await tx.query<User[]>(
      `INSERT INTO users (id, username, email, full_name, password_hash, roles)
       VALUES ($1, $2, $3, $4, $5, $6) RETURNING *`,
      [randomUUID(), user.username, user.email ?? null, user.fullName ?? null, user.passwordHash ?? null, user.roles],
    );
    const id = publicId('user', row.id);
    await this.events.publish(tx, UserCreated, id, { user_id: id, username: row.username, roles: row.roles });
    return row;
  }
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
    profile: { full_name: user.full_name },
    preferences: user.preferences,
    metadata: user.metadata,
    created_at: user.created_at.toISOString(),
    last_login_at: user.last_login_at?.toISOString() ?? null,
  };
}
