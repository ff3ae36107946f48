import { Injectable } from '@nestjs/common';
import { CommandsService } from '../commands/index.js';
import type { Actor } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { isAppError } from '../platform/errors/index.js';
import { EventBus, OnEvent, type StoredEvent } from '../platform/events/index.js';
import { parsePublicId, publicId } from '../platform/ids/index.js';
import { EventDeliveries } from '../webhooks/index.js';
import { type ActionOutcome, Alert } from './alert.entity.js';
import { recordOutcome } from './alerts.queries.js';
import {
  type AlertEventData,
  AlertRaised,
  AlertResolved,
  type AlertResolvedData,
  ThresholdExceeded,
} from './alerts.events.js';
import { fillIn, fillInTarget } from './placeholders.js';
import type { RuleAction } from './rule-definition.js';
import { AlertRule } from './alert-rule.entity.js';

/** Does what a rule wants done when it has raised an alert, once each: by the place of the action in the alert's row. */
@Injectable()
export class AlertActions {
  constructor(
    private readonly db: Database,
    private readonly commands: CommandsService,
    private readonly events: EventBus,
    private readonly webhooks: EventDeliveries,
  ) {}

  @OnEvent(AlertRaised, { handler: 'alerts.act', queue: 'commands' })
  async act(event: StoredEvent<AlertEventData>): Promise<void> {
    const { data } = event;
    const id = parsePublicId('rule', data.rule_id);
    const alertId = parsePublicId('alert', data.alert_id);
    const rule = id && (await this.db.repository(AlertRule).findOneBy({ id, enabled: true }));
    if (!rule || !alertId) return;
    for (const [n, action] of rule.definition.actions.entries()) {
      if (action.type === 'event') {
        await this.publish(alertId, data, n);
        continue;
      }
      await recordOutcome(this.db.manager, alertId, n, await this.perform(rule, action, event, n));
    }
  }

  /** Tells the webhooks of the end that were, or are about to be, told of the beginning. */
  @OnEvent(AlertResolved, { handler: 'alerts.end', queue: 'commands' })
  async end(event: StoredEvent<AlertResolvedData>): Promise<void> {
    const ruleId = parsePublicId('rule', event.data.rule_id);
    const alertId = parsePublicId('alert', event.data.alert_id);
    const rule = ruleId && (await this.db.repository(AlertRule).findOneBy({ id: ruleId }));
    const alert = alertId && (await this.db.repository(Alert).findOneBy({ id: alertId }));
    if (rule && rule.suspendedActions.includes('webhook')) return;
    const planned = rule && rule.enabled ? rule.definition.actions : [];
    const done = alert ? Object.values(alert.actions) : [];
    const webhooks = [...planned, ...done].flatMap((action) => ('webhook_id' in action ? [action.webhook_id] : []));
    for (const webhook of new Set(webhooks)) await this.tell(webhook, event);
  }

  private async perform(
    rule: AlertRule,
    action: Exclude<RuleAction, { type: 'event' }>,
    event: StoredEvent<AlertEventData>,
    n: number,
  ): Promise<ActionOutcome> {
    if (rule.suspendedActions.includes(action.type)) {
      return { type: action.type, error: 'The owner of the rule has lost the right to this; write the rule again' };
    }
    if (action.type === 'webhook') return this.tell(action.webhook_id, event);
    return this.command(rule, action, event.data, n);
  }

  private async tell(webhookId: string, event: StoredEvent<AlertEventData>): Promise<ActionOutcome> {
    const id = parsePublicId('webhook', webhookId);
    if (id && (await this.webhooks.deliverTo(id, event as unknown as StoredEvent))) {
      return { type: 'webhook', webhook_id: webhookId };
    }
    return { type: 'webhook', error: 'The webhook is gone or not active' };
  }

  private async publish(alertId: string, data: AlertEventData, n: number): Promise<void> {
    await this.db.transaction(async (tx) => {
      if (!(await recordOutcome(tx, alertId, n, { type: 'event' }))) return;
      await this.events.publish(tx, ThresholdExceeded, data.alert_id, data);
    });
  }

  /** A refusal is an outcome too; what may go well another time is thrown. */
  private async command(
    rule: AlertRule,
    action: Extract<RuleAction, { type: 'command' }>,
    alert: AlertEventData,
    n: number,
  ): Promise<ActionOutcome> {
    try {
      const accepted = await this.commands.create(actorOf(rule), {
        command_type: action.command_type,
        target: fillInTarget(action.target, alert),
        parameters: fillIn(action.parameters, alert) as Record<string, unknown>,
        ...(action.timeout_seconds === null ? {} : { timeout_seconds: action.timeout_seconds }),
        idempotency_key: `${alert.alert_id}.${n}`,
      });
      return { type: 'command', command_id: publicId('cmd', accepted.command.id) };
    } catch (error) {
      if (!isAppError(error) || error.retryable) throw error;
      return { type: 'command', error: error.message.slice(0, 500) };
    }
  }
}

/** The rule itself commands, bound to the targets its author was bound to. */
function actorOf({ id, name, targetLabels }: AlertRule): Actor {
  return {
    id: publicId('rule', id),
    type: 'system',
    name,
    credentialId: null,
    roles: [],
    scopes: new Set(['command:write']),
    ...(targetLabels ? { targetLabels } : {}),
  };
}
