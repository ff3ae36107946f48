import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { MoreThan } from 'typeorm';
import { type Actor, actsOn } from '../platform/context/index.js';
import { assertRoom, Database, insertRow } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { Deletions, type Page, pageNewestFirst, type PaginationDto } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { parseTimestamp } from '../telemetry/index.js';
import { AlertSilence } from './alert-silence.entity.js';
import { assertNoAgent } from './rules.service.js';
import type { Matchers } from './silence-matchers.js';
import type { CreateSilenceDto, SilenceListQueryDto } from './silences.dto.js';

/** Silences that have not ended, at most: each new alert is held against all in force. */
const MOST = 1000;
const LONGEST_DAYS = 366;
const MAX_TAGS = 20;
const MAX_TAG_CHARACTERS = 200;

/** Silences of each status at the time `:now`; the same rule as {@link statusOf}. */
const WITH_STATUS = {
  expired: 'silence.endsAt <= :now',
  pending: 'silence.startsAt > :now AND silence.endsAt > :now',
  active: 'silence.startsAt <= :now AND silence.endsAt > :now',
};

export function statusOf({ startsAt, endsAt }: AlertSilence, now = new Date()): keyof typeof WITH_STATUS {
  if (endsAt <= now) return 'expired';
  return startsAt > now ? 'pending' : 'active';
}

/** Times in which alerts are recorded but nobody is notified. */
@Injectable()
export class SilencesService {
  constructor(
    private readonly db: Database,
    private readonly deletions: Deletions,
  ) {}

  /** @throws AppError `validation`; `conflict` past the limit */
  create(actor: Actor, dto: CreateSilenceDto): Promise<AlertSilence> {
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
      const count = (): Promise<number> => tx.countBy(AlertSilence, { endsAt: MoreThan(new Date()) });
      await assertRoom(tx, { lock: 'alerts.silences', noun: 'silences', max: MOST, count });
      const silence = await insertRow(tx, AlertSilence, {
        id: randomUUID(),
        comment: dto.comment ?? '',
        matchers,
        startsAt: starts,
        endsAt: ends,
        createdBy: actor.id,
      });
      actsOn(publicId('silence', silence.id));
      return silence;
    });
  }

  /** The newest first. */
  async list(
    actor: Actor,
    query: SilenceListQueryDto,
    page: Page,
  ): Promise<{ silences: AlertSilence[]; pagination: PaginationDto }> {
    assertNoAgent(actor);
    const list = this.db.repository(AlertSilence).createQueryBuilder('silence');
    if (query.status) list.where(WITH_STATUS[query.status], { now: new Date() });
    const { rows, pagination } = await pageNewestFirst(list, page);
    return { silences: rows, pagination };
  }

  /** @throws AppError `not_found` */
  async get(actor: Actor, id: string): Promise<AlertSilence> {
    assertNoAgent(actor);
    const silence = await this.db.repository(AlertSilence).findOneBy({ id });
    if (!silence) throw AppError.notFound('silence', publicId('silence', id));
    return silence;
  }

  /** Ends it now: who was silenced by it alone is told of within seconds. @throws AppError `not_found` */
  remove(id: string): Promise<void> {
    return this.deletions.once(publicId('silence', id), async (tx) => {
      const { affected } = await tx.delete(AlertSilence, { id });
      if (!affected) throw AppError.notFound('silence', publicId('silence', id));
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
