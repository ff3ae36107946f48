import { Injectable } from '@nestjs/common';
import { IsNull, LessThan, MoreThanOrEqual, Not } from 'typeorm';
import type { Actor } from '../platform/context/index.js';
import { Database, findForUpdate, type Tx } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { type Page, pageNewestFirst, type PaginationDto } from '../platform/http/index.js';
import { parsePublicId, publicId } from '../platform/ids/index.js';
import { rangeOf } from '../telemetry/index.js';
import { Alert, type AlertNote } from './alert.entity.js';
import { AlertWriter } from './alert-writer.js';
import type { AlertListQueryDto } from './alerts.dto.js';

/** Matches are counted up to here. */
const MAX_COUNT = 10_000;
const MAX_NOTES = 100;

/** Reads alerts, and what people do with them. An agent sees those about itself alone. */
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
    const { from, to } = rangeOf(query);
    const { status, severity, rule_id, source, acknowledged } = query;
    const list = this.db.repository(Alert).createQueryBuilder('alert').where(ownOf(actor));
    if (status) list.andWhere({ status });
    if (severity) list.andWhere({ severity });
    if (rule_id !== undefined) list.andWhere({ ruleId: parsePublicId('rule', rule_id) });
    if (source !== undefined) list.andWhere({ source });
    if (from !== undefined) list.andWhere({ startedAt: MoreThanOrEqual(new Date(from)) });
    if (to !== undefined) list.andWhere({ startedAt: LessThan(new Date(to)) });
    if (acknowledged !== undefined) list.andWhere({ acknowledgedAt: acknowledged ? Not(IsNull()) : IsNull() });
    const { rows, pagination } = await pageNewestFirst(list, page, 'startedAt', MAX_COUNT);
    return { alerts: rows, pagination };
  }

  /** @throws AppError `not_found` */
  async get(actor: Actor, id: string): Promise<Alert> {
    return found(id, await this.db.repository(Alert).findOneBy({ id, ...ownOf(actor) }));
  }

  /** Somebody looks after it. A second time changes nothing but may add a note. @throws AppError `not_found` */
  async acknowledge(actor: Actor, id: string, text: string | undefined): Promise<Alert> {
    return this.db.transaction(async (tx) => {
      const alert = await lock(tx, actor, id);
      const isFirst = alert.acknowledgedAt === null;
      if (isFirst) Object.assign(alert, { acknowledgedAt: new Date(), acknowledgedBy: actor.id });
      addNote(alert, actor, 'acknowledged', isFirst ? (text ?? '') : text);
      return tx.save(alert);
    });
  }

  /** Ends it by hand; what raises it again is newer data. An alert that has ended stays as it is. */
  async resolve(actor: Actor, id: string, text: string | undefined): Promise<Alert> {
    return this.db.transaction(async (tx) => {
      const before = found(id, await tx.findOneBy(Alert, { id, ...ownOf(actor) }));
      if (before.status === 'cleared') return before;
      await this.writer.change(tx, before.ruleId, before.groupId, (draft) => {
        if (draft.alertId === id) draft.stop('manual', actor.id);
      });
      const alert = await lock(tx, actor, id);
      addNote(alert, actor, 'resolved', text);
      return tx.save(alert);
    });
  }
}

/** @throws AppError `not_found` */
async function lock(tx: Tx, actor: Actor, id: string): Promise<Alert> {
  return found(id, await findForUpdate(tx, Alert, { id, ...ownOf(actor) }));
}

function found(id: string, alert: Alert | null): Alert {
  if (!alert) throw AppError.notFound('alert', publicId('alert', id));
  return alert;
}

/** Nothing to say is no note. @throws AppError `conflict` past the limit */
function addNote(alert: Alert, actor: Actor, action: AlertNote['action'], text: string | undefined): void {
  if (text === undefined || text === '') return;
  if (alert.notes.length >= MAX_NOTES) throw AppError.conflict(`An alert has at most ${MAX_NOTES} notes`);
  alert.notes = [...alert.notes, { at: new Date().toISOString(), by: actor.id, action, text }];
}

/** An agent sees the alerts about itself alone. */
function ownOf(actor: Actor): { source?: string } {
  return actor.type === 'agent' ? { source: actor.name } : {};
}
