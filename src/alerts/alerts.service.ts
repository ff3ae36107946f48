import { Injectable } from '@nestjs/common';
import type { Actor } from '../platform/context/index.js';
import { Database, type Tx } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import {
  type Page,
  paginationOf,
  type PaginationDto,
  parsePublicId,
  publicId,
  timeAndIdAfter,
} from '../platform/http/index.js';
import { rangeOf } from '../telemetry/index.js';
import { type Alert, ALERT_COLUMNS, type AlertNote } from './alert.js';
import { AlertWriter } from './alert-writer.js';
import type { AlertListQueryDto } from './alerts.dto.js';

/** Matches are counted up to here. */
const COUNTED = 10_000;
const MAX_NOTES = 100;

/** Reads alerts, and what people do with them (row TEL-08). An agent sees those about itself alone (rule 12). */
@Injectable()
export class AlertsService {
  constructor(
    private readonly db: Database,
    private readonly writer: AlertWriter,
  ) {}

  /** The newest first. */
  async list(
    actor: Actor,
    query: AlertListQueryDto,
    page: Page,
  ): Promise<{ alerts: Alert[]; pagination: PaginationDto }> {
    const { where, params } = conditions(actor, query);
    const [{ total }] = await this.db.query<{ total: number }>(
      `SELECT count(*)::int AS total FROM (SELECT 1 FROM alerts WHERE ${where} LIMIT ${COUNTED + 1}) AS matching`,
      params,
    );
    const n = params.length;
    const found = await this.db.query<Alert>(
      `SELECT ${ALERT_COLUMNS} FROM alerts
       WHERE ${where} AND ($${n + 1}::timestamptz IS NULL OR (started_at, id) < ($${n + 1}, $${n + 2}::uuid))
       ORDER BY started_at DESC, id DESC LIMIT $${n + 3} OFFSET $${n + 4}`,
      [...params, ...timeAndIdAfter(page), page.limit + 1, page.offset],
    );
    const alerts = found.slice(0, page.limit);
    const last = alerts.at(-1);
    return {
      alerts,
      pagination: paginationOf(page, {
        total: Math.min(total, COUNTED),
        exact: total <= COUNTED,
        hasMore: found.length > page.limit,
        nextKeys: last && [last.started_at.toISOString(), last.id],
      }),
    };
  }

  /** @throws AppError `not_found` */
  get(actor: Actor, id: string): Promise<Alert> {
    return find(this.db.manager, actor, id);
  }

  /** Somebody looks after it. A second time changes nothing but may add a note. @throws AppError `not_found` */
  async acknowledge(actor: Actor, id: string, text: string | undefined): Promise<Alert> {
    return this.db.transaction(async (tx) => {
      const { acknowledged_at } = await find(tx, actor, id, 'FOR UPDATE');
      if (acknowledged_at === null) {
        await tx.query(`UPDATE alerts SET acknowledged_at = now(), acknowledged_by = $2 WHERE id = $1`, [id, actor.id]);
      }
      await addNote(tx, actor, id, 'acknowledged', acknowledged_at === null ? (text ?? '') : text);
      return find(tx, actor, id);
    });
  }

  /** Ends it by hand; what raises it again is newer data. An alert that has ended stays as it is. */
  async resolve(actor: Actor, id: string, text: string | undefined): Promise<Alert> {
    return this.db.transaction(async (tx) => {
      const { rule_id, group_id, status } = await find(tx, actor, id);
      if (status === 'cleared') return find(tx, actor, id);
      await this.writer.change(tx, rule_id, group_id, (draft) => {
        if (draft.alertId === id) draft.stop('manual', actor.id);
      });
      await addNote(tx, actor, id, 'resolved', text);
      return find(tx, actor, id);
    });
  }
}

async function find(tx: Tx, actor: Actor, id: string, lock = ''): Promise<Alert> {
  const [alert] = await tx.query<Alert[]>(
    `SELECT ${ALERT_COLUMNS} FROM alerts WHERE id = $1 AND ($2::text IS NULL OR source = $2) ${lock}`,
    [id, ownSource(actor)],
  );
  if (!alert) throw AppError.notFound('alert', publicId('alert', id));
  return alert;
}

/** Nothing to say is no note. @throws AppError `conflict` past the limit */
async function addNote(
  tx: Tx,
  actor: Actor,
  id: string,
  action: AlertNote['action'],
  text: string | undefined,
): Promise<void> {
  if (text === undefined || text === '') return;
  const note: AlertNote = { at: new Date().toISOString(), by: actor.id, action, text };
  const [rows] = await tx.query<[unknown[], number]>(
    `UPDATE alerts SET notes = notes || $2::jsonb
     WHERE id = $1 AND jsonb_array_length(notes) < ${MAX_NOTES} RETURNING id`,
    [id, JSON.stringify([note])],
  );
  if (rows.length === 0) throw AppError.conflict(`An alert has at most ${MAX_NOTES} notes`);
}

function conditions(actor: Actor, query: AlertListQueryDto): { where: string; params: unknown[] } {
  const { from, to } = rangeOf(query);
  const { acknowledged } = query;
  const clauses = ['true'];
  const params: unknown[] = [];
  const add = (value: unknown, clause: (place: string) => string): void => {
    if (value === undefined || value === null) return;
    params.push(value);
    clauses.push(clause(`$${params.length}`));
  };
  add(ownSource(actor), (p) => `source = ${p}`);
  add(query.status, (p) => `status = ${p}`);
  add(query.severity, (p) => `severity = ${p}`);
  add(query.rule_id && parsePublicId('rule', query.rule_id), (p) => `rule_id = ${p}`);
  add(query.source, (p) => `source = ${p}`);
  add(from === undefined ? from : new Date(from), (p) => `started_at >= ${p}`);
  add(to === undefined ? to : new Date(to), (p) => `started_at < ${p}`);
  if (acknowledged !== undefined) clauses.push(`acknowledged_at IS ${acknowledged ? 'NOT ' : ''}NULL`);
  return { where: clauses.join(' AND '), params };
}

function ownSource(actor: Actor): string | null {
  return actor.type === 'agent' ? actor.name : null;
}
