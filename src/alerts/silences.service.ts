import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { type Actor, actsOn } from '../platform/context/index.js';
import { advisoryLock, Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import {
  Deletions,
  type Page,
  paginationOf,
  type PaginationDto,
  publicId,
  timeAndIdAfter,
} from '../platform/http/index.js';
import { parseTimestamp } from '../telemetry/index.js';
import { assertNoAgent } from './rules.service.js';
import type { Matchers } from './silences.js';
import type { CreateSilenceDto, SilenceDto, SilenceListQueryDto } from './silences.dto.js';

/** Silences that have not ended, at most: each new alert is held against all in force. */
const MOST = 1000;
const LONGEST_DAYS = 366;
const MAX_TAGS = 20;
const MAX_TAG_CHARACTERS = 200;
const SILENCES_LOCK = advisoryLock('alerts.silences');

/** A row of `alert_silences`. */
export interface Silence {
  id: string;
  comment: string;
  matchers: Matchers;
  starts_at: Date;
  ends_at: Date;
  created_by: string;
  created_at: Date;
  status: SilenceDto['status'];
}

const COLUMNS = `id, comment, matchers, starts_at, ends_at, created_by, created_at,
  CASE WHEN ends_at <= now() THEN 'expired' WHEN starts_at > now() THEN 'pending' ELSE 'active' END AS status`;

/** Times in which alerts are recorded but nobody is told (row TEL-08). */
@Injectable()
export class SilencesService {
  constructor(
    private readonly db: Database,
    private readonly deletions: Deletions,
  ) {}

  /** @throws AppError `validation`; `conflict` past the limit */
  create(actor: Actor, dto: CreateSilenceDto): Promise<Silence> {
    const refuse = (field: string, issue: string): never => {
      throw AppError.validation({ field, issue, location: 'body' });
    };
    const timeOf = (field: 'starts_at' | 'ends_at'): Date => {
      const ms = parseTimestamp(dto[field]);
      return Number.isNaN(ms) ? refuse(field, 'must be an ISO 8601 date and time with a time zone') : new Date(ms);
    };
    // Null is the same as nothing.
    const starts = (dto.starts_at ?? null) === null ? new Date() : timeOf('starts_at');
    const ends = timeOf('ends_at');
    if (ends <= starts) refuse('ends_at', 'must be after starts_at');
    if (ends <= new Date()) refuse('ends_at', 'must be in the future');
    if (ends.getTime() - Date.now() > LONGEST_DAYS * 86_400_000) {
      refuse('ends_at', `must be within ${LONGEST_DAYS} days`);
    }
    const matchers = matchersOf(dto.matchers, refuse);
    return this.db.transaction(async (tx) => {
      await tx.query('SELECT pg_advisory_xact_lock($1)', [SILENCES_LOCK]);
      const [{ count }] = await tx.query<{ count: number }[]>(
        'SELECT count(*)::int AS count FROM alert_silences WHERE ends_at > now()',
      );
      if (count >= MOST) throw AppError.conflict(`There are ${MOST} silences, the most there may be`, { limit: MOST });
      const [created] = await tx.query<Silence[]>(
        `INSERT INTO alert_silences (id, comment, matchers, starts_at, ends_at, created_by)
         VALUES ($1, $2, $3, $4, $5, $6) RETURNING ${COLUMNS}`,
        [randomUUID(), dto.comment ?? '', JSON.stringify(matchers), starts, ends, actor.id],
      );
      actsOn(publicId('silence', created.id));
      return created;
    });
  }

  /** The newest first. */
  async list(
    actor: Actor,
    query: SilenceListQueryDto,
    page: Page,
  ): Promise<{ silences: Silence[]; pagination: PaginationDto }> {
    assertNoAgent(actor);
    const from = `FROM (SELECT ${COLUMNS} FROM alert_silences) s WHERE ($1::text IS NULL OR status = $1)`;
    const status = query.status ?? null;
    const found = await this.db.query<Silence>(
      `SELECT * ${from} AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
       ORDER BY created_at DESC, id DESC LIMIT $4 OFFSET $5`,
      [status, ...timeAndIdAfter(page), page.limit + 1, page.offset],
    );
    const [{ total }] = await this.db.query<{ total: number }>(`SELECT count(*)::int AS total ${from}`, [status]);
    const silences = found.slice(0, page.limit);
    const last = silences.at(-1);
    return {
      silences,
      pagination: paginationOf(page, {
        total,
        hasMore: found.length > page.limit,
        nextKeys: last && [last.created_at.toISOString(), last.id],
      }),
    };
  }

  /** @throws AppError `not_found` */
  async get(actor: Actor, id: string): Promise<Silence> {
    assertNoAgent(actor);
    const [silence] = await this.db.query<Silence>(`SELECT ${COLUMNS} FROM alert_silences WHERE id = $1`, [id]);
    if (!silence) throw AppError.notFound('silence', publicId('silence', id));
    return silence;
  }

  /** Ends it now: who was silenced by it alone is told of within seconds. @throws AppError `not_found` */
  remove(id: string): Promise<void> {
    return this.deletions.once(publicId('silence', id), async (tx) => {
      const [rows] = await tx.query<[unknown[], number]>('DELETE FROM alert_silences WHERE id = $1 RETURNING id', [id]);
      if (rows.length === 0) throw AppError.notFound('silence', publicId('silence', id));
    });
  }
}

function matchersOf(dto: CreateSilenceDto['matchers'], refuse: (field: string, issue: string) => never): Matchers {
  const given = Object.entries(dto).filter(([, value]) => value !== undefined && value !== null);
  const { tags } = dto;
  if (given.length === 0 || (given.length === 1 && tags && Object.keys(tags).length === 0)) {
    refuse('matchers', 'must name at least one of rule_ids, severities, sources and tags');
  }
  const pairs = Object.entries(tags ?? {});
  const good = ([name, value]: [string, unknown]): boolean =>
    name.length <= MAX_TAG_CHARACTERS && typeof value === 'string' && value.length <= MAX_TAG_CHARACTERS;
  if (pairs.length > MAX_TAGS || !pairs.every(good)) {
    refuse('matchers.tags', `must be up to ${MAX_TAGS} texts of at most ${MAX_TAG_CHARACTERS} characters`);
  }
  return Object.fromEntries(given);
}
