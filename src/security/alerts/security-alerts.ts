import { Injectable } from '@nestjs/common';
import { type Actor, currentContext } from '../../platform/context/index.js';
import { advisoryLock, Database, type Tx } from '../../platform/database/index.js';
import { AppError } from '../../platform/errors/index.js';
import { EventBus } from '../../platform/events/index.js';
import { type PaginationDto, paginationOf, publicId, resolvePage, timeAndIdAfter } from '../../platform/http/index.js';
import { Metrics } from '../../platform/observability/index.js';
import { SecurityAlert } from '../security.events.js';
import { powerfulScopes } from './alert-rules.js';
import type { AlertQueryDto } from './alerts.dto.js';
import type { AlertRow } from './security-alert.js';

/** Details hold no secrets: they go to webhooks and streams. */
export type NewAlert = Pick<AlertRow, 'type' | 'subject' | 'severity' | 'message' | 'details' | 'occurrences'> & {
  /** Of `occurrences`, those that an alert raised before does not know yet. */
  fresh: number;
};

/** The same goes on as one alert for so long after it was raised. */
const WINDOW = `interval '1 hour'`;
/** Subjects of one type within the window; the others share one more alert, so that many senders cannot fill the table. */
const MOST_SUBJECTS = 100;
const EVERYONE_ELSE = 'many';
const LOCK = advisoryLock('security.alerts');
const KEEP = `interval '90 days'`;
const PURGE = 1000;
const SIZES = { default: 20, max: 100 };

/** What happened to the server's own security (row SEC-13): raised once per type, subject and hour, told as an event. */
@Injectable()
export class SecurityAlerts {
  private readonly raised;

  constructor(
    private readonly db: Database,
    private readonly events: EventBus,
    metrics: Metrics,
  ) {
    this.raised = metrics.counter('nexus_security_alerts_total', 'Security alerts raised', ['type', 'severity']);
  }

  /** One raiser at a time in all processes, until `tx` ends: so that a burst seen by several is one alert. */
  async takeTurns(tx: Tx): Promise<void> {
    await tx.query('SELECT pg_advisory_xact_lock($1)', [LOCK]);
  }

  /** Raises the alert, or adds to the one that was raised for the same within the hour. */
  async raise(tx: Tx, alert: NewAlert): Promise<void> {
    await this.takeTurns(tx);
    const [row] = await tx.query<AlertRow[]>(
      `WITH recent AS MATERIALIZED (
         SELECT id, subject FROM security_alerts WHERE type = $1 AND created_at > now() - ${WINDOW}
       ), target AS (
         SELECT CASE WHEN $2 IN (SELECT subject FROM recent) OR (SELECT count(*) FROM recent) < ${MOST_SUBJECTS}
           THEN $2 ELSE '${EVERYONE_ELSE}' END AS subject
       ), known AS (
         UPDATE security_alerts a SET occurrences = a.occurrences + $6, last_seen_at = now()
         FROM recent r JOIN target USING (subject) WHERE a.id = r.id RETURNING a.id
       )
       INSERT INTO security_alerts (type, subject, severity, message, details, occurrences)
       SELECT $1, target.subject, $3, $4, $5, $7 FROM target WHERE NOT EXISTS (SELECT FROM known) RETURNING *`,
      [alert.type, alert.subject, alert.severity, alert.message, alert.details, alert.fresh, alert.occurrences],
    );
    if (!row) return;
    const data = toEventData(row);
    await this.events.publish(tx, SecurityAlert, data.alert_id, data);
    this.db.afterCommit(tx, () => this.raised.inc({ type: row.type, severity: row.severity }));
  }

  /** To be called when somebody gets rights that let them change who may do what; does nothing for lesser ones. */
  async rightsGranted(tx: Tx, subject: string, what: string, scopes: readonly string[]): Promise<void> {
    const powerful = powerfulScopes(scopes);
    if (powerful.length === 0) return;
    const context = currentContext();
    // The request acts on that, not on the alert.
    if (context) context.resourceId ??= subject;
    const { actor, ip } = context ?? {};
    await this.raise(tx, {
      type: 'privilege_change',
      subject,
      severity: 'high',
      message: what,
      details: { scopes: powerful, by: actor?.id ?? 'system', ip_address: ip ?? null },
      occurrences: 1,
      fresh: 1,
    });
  }

  /** The newest first. */
  async list(query: AlertQueryDto): Promise<{ alerts: AlertRow[]; pagination: PaginationDto }> {
    const page = resolvePage(query, SIZES);
    const where = `($1::text IS NULL OR type = $1) AND ($2::text IS NULL OR severity = $2)
      AND ($3::boolean IS NULL OR (acknowledged_at IS NOT NULL) = $3)
      AND ($4::timestamptz IS NULL OR created_at >= $4) AND ($5::timestamptz IS NULL OR created_at < $5)`;
    const filters = [query.type, query.severity, query.acknowledged, query.from, query.to].map(
      (value) => value ?? null,
    );
    const found = await this.db.query<AlertRow>(
      `SELECT * FROM security_alerts WHERE ${where}
         AND ($8::timestamptz IS NULL OR (created_at, id) < ($8, $9::uuid))
       ORDER BY created_at DESC, id DESC LIMIT $6 OFFSET $7`,
      [...filters, page.limit + 1, page.offset, ...timeAndIdAfter(page)],
    );
    const [{ total }] = await this.db.query<{ total: number }>(
      `SELECT count(*)::int AS total FROM security_alerts WHERE ${where}`,
      filters,
    );
    const alerts = found.slice(0, page.limit);
    const last = alerts.at(-1);
    const more = { total, hasMore: found.length > page.limit, nextKeys: last && [last.created_at, last.id] };
    return { alerts, pagination: paginationOf(page, more) };
  }

  /** @throws AppError `not_found` */
  async get(id: string): Promise<AlertRow> {
    const [row] = await this.db.query<AlertRow | undefined>('SELECT * FROM security_alerts WHERE id = $1', [id]);
    if (!row) throw AppError.notFound('alert', publicId('alert', id));
    return row;
  }

  /** Doing it again changes nothing: who was first stays named. @throws AppError `not_found` */
  acknowledge(actor: Actor, id: string): Promise<AlertRow> {
    return this.db.transaction(async (tx) => {
      await tx.query(
        `UPDATE security_alerts SET acknowledged_at = now(), acknowledged_by = $2
         WHERE id = $1 AND acknowledged_at IS NULL`,
        [id, actor.id],
      );
      return this.get(id);
    });
  }

  async purge(): Promise<void> {
    for (let count = PURGE; count === PURGE;) {
      const [, deleted] = await this.db.query<unknown>(
        `DELETE FROM security_alerts WHERE id IN (
           SELECT id FROM security_alerts WHERE created_at < now() - ${KEEP} LIMIT ${PURGE})`,
      );
      count = Number(deleted);
    }
  }
}

function toEventData({ id, type, subject, severity, message, details, occurrences, created_at }: AlertRow) {
  return {
    alert_id: publicId('alert', id),
    severity,
    type,
    message,
    subject,
    occurrences,
    timestamp: created_at.toISOString(),
    details,
  };
}
