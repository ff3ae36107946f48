import { Injectable } from '@nestjs/common';
import { type Cache, Caches } from '../platform/cache/index.js';
import { actsOn } from '../platform/context/index.js';
import { Database, type Tx } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { assertVersion, nameAfter, type Page, pageOf, type PaginationDto } from '../platform/http/index.js';
import type { CommandTypeDto, CreateCommandTypeDto, PutCommandTypeDto } from './command-types.dto.js';
import { checkSchema } from './parameter-schemas.js';

/** One entry of the catalogue. */
export interface CommandType {
  type: string;
  description: string;
  /** JSON Schema of the parameters. */
  parameters: Record<string, unknown>;
  executor: 'agent' | 'server' | 'any';
  default_timeout_seconds: number;
  risk: 'low' | 'medium' | 'high';
  idempotent: boolean;
  enabled: boolean;
  built_in: boolean;
  created_at: Date;
  updated_at: Date;
  deleted_at: Date | null;
  /** Counts its changes: the `ETag`. */
  version: number;
}

/** What has to be known of a type for each command. */
export type CommandRule = Pick<CommandType, 'parameters' | 'executor' | 'default_timeout_seconds' | 'enabled'>;

/** A process may know an entry as it was so many milliseconds ago when it was not told of a change. */
const MAX_AGE_MS = 1000;
const MOST_KNOWN = 1000;

const COLUMNS = `type, description, parameters, executor, default_timeout_seconds, risk, idempotent, enabled, built_in,
  created_at, updated_at, deleted_at, version`;

/** The catalogue of command types (row CMD-08). */
@Injectable()
export class CommandTypes {
  private readonly rules: Cache<CommandRule | null>;

  constructor(
    private readonly db: Database,
    caches: Caches,
  ) {
    this.rules = caches.make('command-types', { ttlMs: MAX_AGE_MS, max: MOST_KNOWN });
  }

  /** By name. */
  async list(page: Page): Promise<{ rows: CommandType[]; pagination: PaginationDto }> {
    const [found, [{ total }]] = await Promise.all([
      this.db.query<CommandType>(
        `SELECT ${COLUMNS} FROM command_types WHERE deleted_at IS NULL AND ($3::text IS NULL OR type > $3)
         ORDER BY type LIMIT $1 OFFSET $2`,
        [page.limit + 1, page.offset, nameAfter(page)],
      ),
      this.db.query<{ total: number }>(`SELECT count(*)::int AS total FROM command_types WHERE deleted_at IS NULL`),
    ]);
    return pageOf(page, found, total, (last) => [last.type]);
  }

  async find(type: string): Promise<CommandType | null> {
    const [found] = await this.db.query<CommandType>(
      `SELECT ${COLUMNS} FROM command_types WHERE type = $1 AND deleted_at IS NULL`,
      [type],
    );
    return found ?? null;
  }

  /** Like {@link find}, from memory; null when the type is unknown. */
  rule(type: string): Promise<CommandRule | null> {
    const load = async (): Promise<CommandRule | null> => {
      const found = await this.find(type);
      if (!found) return null;
      const { parameters, executor, default_timeout_seconds, enabled } = found;
      return { parameters, executor, default_timeout_seconds, enabled };
    };
    return this.rules.get(type, load, [type]);
  }

  /** Those that may be used, to suggest one; a bounded number of them. */
  async names(): Promise<string[]> {
    const found = await this.db.query<{ type: string }>(
      `SELECT type FROM command_types WHERE deleted_at IS NULL AND enabled ORDER BY type LIMIT ${MOST_KNOWN}`,
    );
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
      const [created] = await write(
        tx,
        `INSERT INTO command_types
           (description, parameters, executor, default_timeout_seconds, risk, idempotent, enabled, built_in, type)
         VALUES ($2, $3, $4, $5, $6, $7, $8, false, $1)
         ON CONFLICT (type) DO UPDATE SET description = $2, parameters = $3, executor = $4, default_timeout_seconds = $5,
           risk = $6, idempotent = $7, enabled = $8, created_at = now(), updated_at = now(), deleted_at = NULL,
           version = command_types.version + 1
         WHERE command_types.deleted_at IS NOT NULL
         RETURNING ${COLUMNS}`,
        type,
        rest,
      );
      if (!created) throw AppError.conflict(`The command type ${type} exists`, { type });
      actsOn(type);
      this.changed(tx, type);
      return created;
    });
  }

  /** @throws AppError `not_found`, or `precondition` when it is not at the expected version */
  replace(type: string, dto: PutCommandTypeDto, expected: number | undefined): Promise<CommandType> {
    return this.db.transaction(async (tx) => {
      const [found] = await tx.query<({ version: number } | undefined)[]>(
        'SELECT version FROM command_types WHERE type = $1 AND deleted_at IS NULL FOR UPDATE',
        [type],
      );
      if (!found) throw AppError.notFound('command type', type.slice(0, 100));
      assertVersion(expected, found.version);
      const [replaced] = await write(
        tx,
        `WITH done AS (
           UPDATE command_types SET description = $2, parameters = $3, executor = $4, default_timeout_seconds = $5,
             risk = $6, idempotent = $7, enabled = $8, updated_at = now(), version = version + 1
           WHERE type = $1 AND deleted_at IS NULL RETURNING ${COLUMNS})
         SELECT * FROM done`,
        type,
        dto,
      );
      this.changed(tx, type);
      return replaced;
    });
  }

  /** Deleting twice gives the same answer. @throws AppError `conflict` for a type that comes with the server */
  remove(type: string): Promise<{ type: string; deletedAt: Date }> {
    return this.db.transaction(async (tx) => {
      const [found] = await tx.query<CommandType[]>(`SELECT ${COLUMNS} FROM command_types WHERE type = $1 FOR UPDATE`, [
        type,
      ]);
      if (!found) throw AppError.notFound('command type', type.slice(0, 100));
      if (found.built_in) throw AppError.conflict(`${type} comes with the server and cannot be deleted; disable it`);
      if (found.deleted_at) return { type, deletedAt: found.deleted_at };
      const deletedAt = new Date();
      await tx.query(`UPDATE command_types SET deleted_at = $2, version = version + 1 WHERE type = $1`, [
        type,
        deletedAt,
      ]);
      this.changed(tx, type);
      return { type, deletedAt };
    });
  }

  private changed(tx: Tx, type: string): void {
    this.db.afterCommit(tx, () => void this.rules.drop([type]));
  }
}

function write(tx: Tx, sql: string, type: string, dto: PutCommandTypeDto): Promise<CommandType[]> {
  const parameters = dto.parameters ?? { type: 'object' };
  checkSchema(parameters);
  return tx.query<CommandType[]>(sql, [
    type,
    dto.description ?? '',
    JSON.stringify(parameters),
    dto.executor ?? 'agent',
    dto.default_timeout_seconds ?? 300,
    dto.risk ?? 'medium',
    dto.idempotent ?? false,
    dto.enabled ?? true,
  ]);
}

export function toCommandTypeDto(row: CommandType): CommandTypeDto {
  const { deleted_at: _, version: __, created_at, updated_at, ...rest } = row;
  return { ...rest, created_at: created_at.toISOString(), updated_at: updated_at.toISOString() };
}
