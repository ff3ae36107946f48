import { Injectable } from '@nestjs/common';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { paginationOf, resolvePage, timeAndIdAfter } from '../platform/http/index.js';
import { AuditEntry } from './audit-entry.entity.js';
import { countUpTo } from './audit.queries.js';
import type { AuditEntryDto, AuditListDto, AuditQueryDto } from './audit.dto.js';

const SIZES = { default: 20, max: 100 };
/** Beyond this the total is given as a lower bound, so that a page costs the same however long the trail is. */
const COUNT_LIMIT = 10_000;
const SERIAL = /^\d{1,18}$/;

/** Reads the audit trail. */
@Injectable()
export class AuditService {
  constructor(private readonly db: Database) {}

  /** Newest first. @throws AppError `validation` when `from` is not before `to` */
  async list(query: AuditQueryDto): Promise<AuditListDto> {
    const page = resolvePage(query, SIZES);
    if (query.from && query.to && Date.parse(query.from) > Date.parse(query.to)) {
      throw AppError.validation({ field: 'from', issue: 'must not be after to', location: 'query' });
    }
    const list = this.db.repository(AuditEntry).createQueryBuilder('entry');
    if (query.user_id) list.andWhere({ actorId: query.user_id });
    if (query.action) list.andWhere('starts_with(entry.action, :action)', { action: query.action });
    if (query.resource_id) list.andWhere({ resourceId: query.resource_id });
    if (query.from) list.andWhere('entry.at >= :from', { from: query.from });
    if (query.to) list.andWhere('entry.at < :to', { to: query.to });
    if (query.status_code) list.andWhere({ statusCode: query.status_code });
    const total = await countUpTo(this.db.manager, list, COUNT_LIMIT + 1);
    const [at, id] = timeAndIdAfter(page, (text) => SERIAL.test(text));
    if (at !== null) list.andWhere('(entry.at, entry.id) < (:at, :id)', { at, id });
    const found = await list
      .orderBy('entry.at', 'DESC')
      .addOrderBy('entry.id', 'DESC')
      .limit(page.limit + 1)
      .offset(page.offset)
      .getMany();
    const shown = found.slice(0, page.limit);
    const last = shown.at(-1);
    return {
      entries: shown.map(toDto),
      pagination: paginationOf(page, {
        total: Math.min(total, COUNT_LIMIT),
        exact: total <= COUNT_LIMIT,
        hasMore: found.length > page.limit,
        nextKeys: last && [last.at.toISOString(), String(last.id)],
      }),
    };
  }
}

function toDto(entry: AuditEntry): AuditEntryDto {
  return {
    timestamp: entry.at.toISOString(),
    user_id: entry.actorId,
    credential_id: entry.credentialId,
    action: entry.action,
    resource_id: entry.resourceId,
    ip_address: entry.ipAddress,
    user_agent: entry.userAgent,
    claimed_user_id: entry.claimedUserId,
    status_code: entry.statusCode,
    count: entry.count,
    request_id: entry.requestId,
  };
}
