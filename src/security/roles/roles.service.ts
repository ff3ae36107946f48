import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { type Actor, actsOn } from '../../platform/context/index.js';
import { Database, type Tx } from '../../platform/database/index.js';
import { AppError } from '../../platform/errors/index.js';
import { assertVersion, type Page, pageOfSorted, publicId } from '../../platform/http/index.js';
import { SecurityAlerts } from '../alerts/security-alerts.js';
import { BUILT_IN_ROLES, builtInRole } from '../access/built-in-roles.js';
import { Revocations } from '../access/revocations.js';
import { grantedTo } from '../keys/keys.service.js';
import type { CreateRoleDto, RoleDto, RoleListDto, UpdateRoleDto } from './roles.dto.js';

interface RoleRow {
  id: string;
  name: string;
  description: string | null;
  scopes: string[];
  version: number;
  deleted_at: Date | null;
}

/** With the number that counts its changes; null for a built-in role, which has none. */
export interface VersionedRole {
  role: RoleDto;
  version: number | null;
}

/** Built-in and custom roles (SEC-10, SEC-11). Nobody gives a role more than they have themselves. */
@Injectable()
export class RolesService {
  constructor(
    private readonly db: Database,
    private readonly revocations: Revocations,
    private readonly alerts: SecurityAlerts,
  ) {}

  /** The built-in ones, then the others by name. */
  async list(page: Page): Promise<RoleListDto> {
    const custom = await this.db.query<RoleRow>(`SELECT * FROM roles WHERE deleted_at IS NULL`);
    const all = [
      ...BUILT_IN_ROLES.map((role, n) => ({
        key: String(n),
        role: { ...role, scopes: [...role.scopes], built_in: true },
      })),
      // Names begin with a letter, which comes after any digit.
      ...custom.map((row) => ({ key: row.name, role: toDto(row) })).sort((a, b) => (a.key < b.key ? -1 : 1)),
    ];
    const { rows, pagination } = pageOfSorted(page, all, ({ key }) => key);
    return { roles: rows.map(({ role }) => role), pagination };
  }

  /** @throws AppError `not_found` */
  async get(name: string): Promise<VersionedRole> {
    const builtIn = builtInRole(name);
    if (builtIn) return { role: { ...builtIn, scopes: [...builtIn.scopes], built_in: true }, version: null };
    const [row] = await this.db.query<RoleRow>(`SELECT * FROM roles WHERE name = $1 AND deleted_at IS NULL`, [name]);
    if (!row) throw AppError.notFound('Role', name);
    return { role: toDto(row), version: row.version };
  }

  /** @throws AppError `conflict` when the name is taken, `forbidden` for scopes beyond the caller's */
  create(actor: Actor, request: CreateRoleDto): Promise<RoleDto> {
    const { name, description = null } = request;
    const scopes = grantedTo(actor, request.scopes, 'scopes');
    return this.db.transaction(async (tx) => {
      // A name that was deleted is free again.
      const [row] = await tx.query<(RoleRow | undefined)[]>(
        `INSERT INTO roles AS r (id, name, description, scopes) VALUES ($1, $2, $3, $4)
         ON CONFLICT (name) DO UPDATE SET description = $3, scopes = $4, deleted_at = NULL, version = r.version + 1,
           created_at = now(), updated_at = now()
         WHERE r.deleted_at IS NOT NULL RETURNING *`,
        [randomUUID(), name, description, scopes],
      );
      if (!row || builtInRole(name)) throw AppError.conflict(`There is a role ${name} already`, { name });
      actsOn(publicId('role', row.id));
      await this.alerts.rightsGranted(
        tx,
        publicId('role', row.id),
        `The role ${name} was made with far-reaching scopes`,
        scopes,
      );
      return toDto(row);
    });
  }

  /**
   * Takes effect at once for everyone who has the role.
   * @param expected version that the caller has read (If-Match)
   * @throws AppError `not_found`, `conflict` for a built-in role, `precondition` when it has another version
   */
  replace(actor: Actor, name: string, request: UpdateRoleDto, expected: number | undefined): Promise<VersionedRole> {
    refuseBuiltIn(name);
    const scopes = grantedTo(actor, request.scopes, 'scopes');
    return this.db.transaction(async (tx) => {
      const [old] = await tx.query<(RoleRow | undefined)[]>(
        `SELECT version FROM roles WHERE name = $1 AND deleted_at IS NULL FOR UPDATE`,
        [name],
      );
      if (!old) throw AppError.notFound('Role', name);
      assertVersion(expected, old.version);
      const [[row]] = await tx.query<[RoleRow[], number]>(
        `UPDATE roles SET description = $2, scopes = $3, updated_at = now(), version = version + 1
         WHERE name = $1 RETURNING *`,
        [name, request.description ?? null, scopes],
      );
      await this.announce(tx, name);
      await this.alerts.rightsGranted(
        tx,
        publicId('role', row.id),
        `The role ${name} was changed to far-reaching scopes`,
        scopes,
      );
      return { role: toDto(row), version: row.version };
    });
  }

  /** Deleting again gives the same answer (GEN-13). @throws AppError `not_found`, `conflict` while users have the role */
  remove(name: string): Promise<{ name: string; deletedAt: Date }> {
    refuseBuiltIn(name);
    return this.db.transaction(async (tx) => {
      const [row] = await tx.query<(RoleRow | undefined)[]>(`SELECT * FROM roles WHERE name = $1 FOR UPDATE`, [name]);
      if (!row) throw AppError.notFound('Role', name);
      if (row.deleted_at) return { name, deletedAt: row.deleted_at };
      const [{ users }] = await tx.query<{ users: number }[]>(
        `SELECT count(*)::int AS users FROM users WHERE $1 = ANY (roles) AND status <> 'deleted'`,
        [name],
      );
      if (users > 0) throw AppError.conflict(`The role ${name} is still given to ${users} users`, { name, users });
      const [[deleted]] = await tx.query<[{ deleted_at: Date }[], number]>(
        `UPDATE roles SET deleted_at = now() WHERE name = $1 RETURNING deleted_at`,
        [name],
      );
      return { name, deletedAt: deleted.deleted_at };
    });
  }

  /** Open sockets keep the scopes they began with, so they must be cut and opened again. */
  private async announce(tx: Tx, role: string): Promise<void> {
    const users = await tx.query<{ id: string }[]>(`SELECT id FROM users WHERE $1 = ANY (roles)`, [role]);
    this.revocations.announce(
      tx,
      users.map(({ id }) => ({ actorId: publicId('user', id) })),
    );
  }
}

function refuseBuiltIn(name: string): void {
  if (builtInRole(name)) throw AppError.conflict(`The role ${name} is built in and cannot be changed`, { name });
}

function toDto({ name, description, scopes }: RoleRow): RoleDto {
  return { name, description, scopes, built_in: false };
}
