import { Injectable } from '@nestjs/common';
import { IsNull } from 'typeorm';
import { type Cache, Caches } from '../platform/cache/index.js';
import { actsOn } from '../platform/context/index.js';
import { Database, findForUpdate, insertIfNew, type Tx } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { assertVersion, type Page, pageByName, type PaginationDto } from '../platform/http/index.js';
import { CommandType } from './command-type.entity.js';
import type { CommandTypeDto, CreateCommandTypeDto, PutCommandTypeDto } from './command-types.dto.js';
import { checkSchema } from './parameter-schemas.js';

/** What has to be known of a type for each command. */
export type CommandRule = Pick<CommandType, 'parameters' | 'executor' | 'defaultTimeoutSeconds' | 'enabled'>;

/** A process may know an entry as it was so many milliseconds ago when it was not told of a change. */
const MAX_AGE_MS = 1000;
const MAX_KNOWN = 1000;

/** The catalogue of command types. */
@Injectable()
export class CommandTypes {
  private readonly rules: Cache<CommandRule | null>;

  constructor(
    private readonly db: Database,
    caches: Caches,
  ) {
    this.rules = caches.make('command-types', { ttlMs: MAX_AGE_MS, max: MAX_KNOWN });
  }

  /** By name. */
  list(page: Page): Promise<{ rows: CommandType[]; pagination: PaginationDto }> {
    const list = this.db.repository(CommandType).createQueryBuilder('type').where({ deletedAt: IsNull() });
    return pageByName(list, page, 'type');
  }

  find(type: string): Promise<CommandType | null> {
    return this.db.repository(CommandType).findOneBy({ type, deletedAt: IsNull() });
  }

  /** Like {@link find}, from memory; null when the type is unknown. */
  rule(type: string): Promise<CommandRule | null> {
    const load = async (): Promise<CommandRule | null> => {
      const found = await this.find(type);
      if (!found) return null;
      const { parameters, executor, defaultTimeoutSeconds, enabled } = found;
      return { parameters, executor, defaultTimeoutSeconds, enabled };
    };
    return this.rules.get(type, load, [type]);
  }

  /** Those that may be used, to suggest one; a bounded number of them. */
  async names(): Promise<string[]> {
    const found = await this.db.repository(CommandType).find({
      select: { type: true },
      where: { deletedAt: IsNull(), enabled: true },
      order: { type: 'ASC' },
      take: MAX_KNOWN,
    });
    return found.map(({ type }) => type);
  }

  async get(type: string): Promise<CommandType> {
    const found = await this.find(type);
    if (!found) throw AppError.notFound('command type', type.slice(0, 100));
    return found;
  }

  /** @throws AppError `conflict` when the type exists */
  create(dto: CreateCommandTypeDto): Promise<CommandType> {
    const { type, ...rest } = dto;
    return this.db.transaction(async (tx) => {
      const exists = (): AppError => AppError.conflict(`The command type ${type} exists`, { type });
      const old = await findForUpdate(tx, CommandType, { type });
      if (old && !old.deletedAt) throw exists();
      const values = { ...valuesOf(rest), builtIn: false, deletedAt: null };
      const created = old
        ? await tx.save(Object.assign(old, values, { createdAt: new Date() }))
        : await insertIfNew(tx, CommandType, { type, ...values });
      if (!created) throw exists();
      actsOn(type);
      this.changed(tx, type);
      return created;
    });
  }

  /** @throws AppError `not_found`, or `precondition` when it is not at the expected version */
  replace(type: string, dto: PutCommandTypeDto, expected: number | undefined): Promise<CommandType> {
    return this.db.transaction(async (tx) => {
      const found = await findForUpdate(tx, CommandType, { type, deletedAt: IsNull() });
      if (!found) throw AppError.notFound('command type', type.slice(0, 100));
      assertVersion(expected, found.version);
      const replaced = await tx.save(Object.assign(found, valuesOf(dto)));
      this.changed(tx, type);
      return replaced;
    });
  }

  /** Deleting twice gives the same answer. @throws AppError `conflict` for a type that comes with the server */
  remove(type: string): Promise<{ type: string; deletedAt: Date }> {
    return this.db.transaction(async (tx) => {
      const found = await findForUpdate(tx, CommandType, { type });
      if (!found) throw AppError.notFound('command type', type.slice(0, 100));
      if (found.builtIn) throw AppError.conflict(`${type} comes with the server and cannot be deleted; disable it`);
      if (found.deletedAt) return { type, deletedAt: found.deletedAt };
      const deletedAt = new Date();
      await tx.save(Object.assign(found, { deletedAt }));
      this.changed(tx, type);
      return { type, deletedAt };
    });
  }

  private changed(tx: Tx, type: string): void {
    this.db.afterCommit(tx, () => void this.rules.drop([type]));
  }
}

/** What a caller may say of a type; what is left out has its default. */
function valuesOf(dto: PutCommandTypeDto): Partial<CommandType> {
  const parameters = dto.parameters ?? { type: 'object' };
  checkSchema(parameters);
  return {
    description: dto.description ?? '',
    parameters,
    executor: dto.executor ?? 'agent',
    defaultTimeoutSeconds: dto.default_timeout_seconds ?? 300,
    risk: dto.risk ?? 'medium',
    idempotent: dto.idempotent ?? false,
    enabled: dto.enabled ?? true,
  };
}

export function toCommandTypeDto(type: CommandType): CommandTypeDto {
  return {
    type: type.type,
    description: type.description,
    parameters: type.parameters,
    executor: type.executor,
    default_timeout_seconds: type.defaultTimeoutSeconds,
    risk: type.risk,
    idempotent: type.idempotent,
    enabled: type.enabled,
    built_in: type.builtIn,
    created_at: type.createdAt.toISOString(),
    updated_at: type.updatedAt.toISOString(),
  };
}
