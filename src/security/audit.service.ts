import { Injectable } from '@nestjs/common';
import { Database } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { paginationOf, resolvePage, timeAndIdAfter } from '../platform/http/index.js';
import type { AuditEntryDto, AuditListDto, AuditQueryDto } from './audit.dto.js';

const SIZES = { default: 20, max: 100 };
/** Beyond this the total is given as a lower bound, so that a page costs the same however long the trail is. */
const COUNT_LIMIT = 10_000;
const SERIAL = /^\d{1,18}$/;

interface EntryRow {
  id: string;
  at: Date;
  actor_id: string;
  credential_id: string | null;
  action: string;
  resource_id: string | null;
  status_code: number;
  count: number;
  ip_address: string | null;
  user_agent: string | null;
  claimed_user_id: string | null;
  request_id: string | null;
}

/** Reads the audit trail (row SEC-07). */
@Injectable()
export class AuditService {
  constructor(private readonly db: Database) {}

  /** Newest first. @throws AppError `validation` when `from` is not before `to` */
  async list(query: AuditQueryDto): Promise<AuditListDto> {
    const page = resolvePage(query, SIZES);
    if (query.from && query.to && Date.parse(query.from) > Date.parse(query.to)) {
      throw AppError.validation({ field: 'from', issue: 'must not be after to', location: 'query' });
    }
    const params: unknown[] = [];
    const where: string[] = [];
    const add = (condition: string, value: unknown): void => {
      params.push(value);
      where.push(condition.replace('?', `$${params.length}`));
    };
    if (query.user_id) add('actor_id = ?', query.user_id);
    if (query.action) add('starts_with(action, ?)', query.action);
    if (query.resource_id) add('resource_id = ?', query.resource_id);
    if (query.from) add('at >= ?', query.from);
    if (query.to) add('at < ?', query.to);
    if (query.status_code) add('status_code = ?', query.status_code);
    const filter = where.length > 0 ? `WHERE ${where.join(' AND ')}` : '';
    const counted = await this.db.query<{ total: number }>(
      `SELECT count(*)::int AS total FROM (SELECT 1 FROM audit_entries ${filter} LIMIT ${COUNT_LIMIT + 1}) found`,
      params,
    );
    if (page.after) {
      params.push(...timeAndIdAfter(page, (id) => SERIAL.test(id)));
      where.push(`(at, id) < ($${params.length - 1}::timestamptz, $${params.length}::bigint)`);
    }
    const rows = await this.db.query<EntryRow>(
      `SELECT * FROM audit_entries ${where.length > 0 ? `WHERE ${where.join(' AND ')}` : ''}
       ORDER BY at DESC, id DESC LIMIT ${page.limit + 1} OFFSET ${page.offset}`,
      params,
    );
    const shown = rows.slice(0, page.limit);
    const last = shown.at(-1);
    const total = counted[0].total;
    return {
      entries: shown.map(toDto),
      pagination: paginationOf(page, {
        total: Math.min(total, COUNT_LIMIT),
        exact: total <= COUNT_LIMIT,
        hasMore: rows.length > page.limit,
        nextKeys: last && [last.at.toISOString(), last.id],
      }),
    };
  }
}

function toDto(row: EntryRow): AuditEntryDto {
  return {
    timestamp: row.at.toISOString(),
    user_id: row.actor_id,
    credential_id: row.credential_id,
    action: row.action,
    resource_id: row.resource_id,
    ip_address: row.ip_address,
    user_agent: row.user_agent,
    claimed_user_id: row.claimed_user_id,
    status_code: row.status_code,
    count: row.count,
    request_id: row.request_id,
  };
}
