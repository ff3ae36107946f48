import { Injectable } from '@nestjs/common';
import { IsNull, Not } from 'typeorm';
import { type Actor, currentContext } from '../../platform/context/index.js';
import { Database, takeLock, type Tx } from '../../platform/database/index.js';
import { AppError } from '../../platform/errors/index.js';
import { EventBus } from '../../platform/events/index.js';
import { pageNewestFirst, type PaginationDto, resolvePage } from '../../platform/http/index.js';
import { publicId } from '../../platform/ids/index.js';
import { Metrics } from '../../platform/observability/index.js';
import { SecurityAlert } from '../security.events.js';
import { powerfulScopes } from './alert-rules.js';
import { addOrInsertAlert, type NewAlert, type RaisedAlert } from './alerts.queries.js';
import type { AlertQueryDto } from './alerts.dto.js';
import { SecurityAlert as StoredAlert } from './security-alert.entity.js';

const SIZES = { default: 20, max: 100 };

/** What happened to the server's own security: raised once per type, subject and hour, told as an event. */
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
    await takeLock(tx, 'security.alerts');
  }

  /** Raises the alert, or adds to the one that was raised for the same within the hour. */
  async raise(tx: Tx, alert: NewAlert): Promise<void> {
    await this.takeTurns(tx);
    const row = await addOrInsertAlert(tx, alert);
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
  async list(query: AlertQueryDto): Promise<{ alerts: StoredAlert[]; pagination: PaginationDto }> {
    const page = resolvePage(query, SIZES);
    const { type, severity, acknowledged, from, to } = query;
    const list = this.db.repository(StoredAlert).createQueryBuilder('alert');
    if (type) list.andWhere({ type });
    if (severity) list.andWhere({ severity });
    if (acknowledged !== undefined) list.andWhere({ acknowledgedAt: acknowledged ? Not(IsNull()) : IsNull() });
    if (from) list.andWhere('alert.createdAt >= :from', { from });
    if (to) list.andWhere('alert.createdAt < :to', { to });
    const { rows, pagination } = await pageNewestFirst(list, page);
    return { alerts: rows, pagination };
  }

  /** @throws AppError `not_found` */
  async get(id: string): Promise<StoredAlert> {
    const row = await this.db.repository(StoredAlert).findOneBy({ id });
    if (!row) throw AppError.notFound('alert', publicId('alert', id));
    return row;
  }

  /** Doing it again changes nothing: who was first stays named. @throws AppError `not_found` */
  acknowledge(actor: Actor, id: string): Promise<StoredAlert> {
    return this.db.transaction(async (tx) => {
      const first = { acknowledgedAt: new Date(), acknowledgedBy: actor.id };
      await tx.update(StoredAlert, { id, acknowledgedAt: IsNull() }, first);
      return this.get(id);
    });
  }
}

function toEventData({ id, type, subject, severity, message, details, occurrences, createdAt }: RaisedAlert) {
  return {
    alert_id: publicId('alert', id),
    severity,
    type,
    message,
    subject,
    occurrences,
    timestamp: createdAt.toISOString(),
    details,
  };
}
