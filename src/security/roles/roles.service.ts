import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { ArrayContains, IsNull, Not } from 'typeorm';
import { type Actor, actsOn } from '../../platform/context/index.js';
import { Database, findForUpdate, insertIfNew, type Tx } from '../../platform/database/index.js';
import { AppError } from '../../platform/errors/index.js';
import { assertVersion, type Page, pageOfSorted } from '../../platform/http/index.js';
import { publicId } from '../../platform/ids/index.js';
import { User } from '../accounts/user.entity.js';
import { SecurityAlerts } from '../alerts/security-alerts.js';
import { BUILT_IN_ROLES, builtInRole } from '../access/built-in-roles.js';
import { Revocations } from '../access/revocations.js';
import { grantedTo } from '../keys/keys.service.js';
import { Role } from './role.entity.js';
import type { CreateRoleDto, RoleDto, RoleListDto, UpdateRoleDto } from './roles.dto.js';

/** With the number that counts its changes; null for a built-in role, which has none. */
export interface VersionedRole {
  role: RoleDto;
  version: number | null;
}

/** Built-in and custom roles. Nobody gives a role more than they have themselves. */
@Injectable()
export class RolesService {
  constructor(
    private readonly db: Database,
    private readonly revocations: Revocations,
    private readonly alerts: SecurityAlerts,
  ) {}

  /** The built-in ones, then the others by name. */
  async list(page: Page): Promise<RoleListDto> {
    const custom = await this.db.repository(Role).findBy({ deletedAt: IsNull() });
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
    const role = await this.db.repository(Role).findOneBy({ name, deletedAt: IsNull() });
    if (!role) throw AppError.notFound('Role', name);
    return { role: toDto(role), version: role.version };
  }

  /** @throws AppError `conflict` when the name is taken, `forbidden` for scopes beyond the caller's */
  create(actor: Actor, request: CreateRoleDto): Promise<RoleDto> {
    const { name, description = null } = request;
    const scopes = grantedTo(actor, request.scopes, 'scopes');
    return this.db.transaction(async (tx) => {
      const taken = (): AppError => AppError.conflict(`There is a role ${name} already`, { name });
      if (builtInRole(name)) throw taken();
      // A name that was deleted is free again.
      const old = await findForUpdate(tx, Role, { name });
      if (old && !old.deletedAt) throw taken();
      const role = old
        ? await tx.save(Object.assign(old, { description, scopes, deletedAt: null, createdAt: new Date() }))
        : await insertIfNew(tx, Role, { id: randomUUID(), name, description, scopes });
      if (!role) throw taken();
      actsOn(publicId('role', role.id));
      await this.alerts.rightsGranted(
        tx,
        publicId('role', role.id),
        `The role ${name} was made with far-reaching scopes`,
        scopes,
      );
      return toDto(role);
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
      const role = await findForUpdate(tx, Role, { name, deletedAt: IsNull() });
      if (!role) throw AppError.notFound('Role', name);
      assertVersion(expected, role.version);
      await tx.save(Object.assign(role, { description: request.description ?? null, scopes }));
      await this.announce(tx, name);
      await this.alerts.rightsGranted(
        tx,
        publicId('role', role.id),
        `The role ${name} was changed to far-reaching scopes`,
        scopes,
      );
      return { role: toDto(role), version: role.version };
    });
  }

  /** Deleting again gives the same answer. @throws AppError `not_found`, `conflict` while users have the role */
  remove(name: string): Promise<{ name: string; deletedAt: Date }> {
    refuseBuiltIn(name);
    return this.db.transaction(async (tx) => {
      const role = await findForUpdate(tx, Role, { name });
      if (!role) throw AppError.notFound('Role', name);
      if (role.deletedAt) return { name, deletedAt: role.deletedAt };
      const users = await tx.countBy(User, { roles: ArrayContains([name]), status: Not('deleted') });
      if (users > 0) throw AppError.conflict(`The role ${name} is still given to ${users} users`, { name, users });
      const deletedAt = new Date();
      await tx.save(Object.assign(role, { deletedAt }));
      return { name, deletedAt };
    });
  }

  /** Open sockets keep the scopes they began with, so they must be cut and opened again. */
  private async announce(tx: Tx, role: string): Promise<void> {
    const users = await tx.find(User, { select: { id: true }, where: { roles: ArrayContains([role]) } });
    this.revocations.announce(
      tx,
      users.map(({ id }) => ({ actorId: publicId('user', id) })),
    );
  }
}

function refuseBuiltIn(name: string): void {
  if (builtInRole(name)) throw AppError.conflict(`The role ${name} is built in and cannot be changed`, { name });
}

function toDto({ name, description, scopes }: Role): RoleDto {
  return { name, description, scopes, built_in: false };
}
