import { Injectable } from '@nestjs/common';
import { CommandsService } from '../commands/index.js';
import type { Actor } from '../platform/context/index.js';
import { Database, type Tx } from '../platform/database/index.js';
import { isAppError } from '../platform/errors/index.js';
import { EventBus, OnEvent, type StoredEvent } from '../platform/events/index.js';
import { parsePublicId, publicId } from '../platform/http/index.js';
import { EventDeliveries } from '../webhooks/index.js';
import type { ActionOutcome } from './alert.js';
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
    const rule = id && (await this.db.repository(AlertRule).findOneBy({ id, enabled: true }));
    if (!rule) return;
    for (const [n, action] of rule.definition.actions.entries()) {
      if (action.type === 'event') {
        await this.publish(data, n);
        continue;
      }
      await this.record(this.db.manager, data.alert_id, n, await this.perform(rule, action, event, n));
    }
  }

  /** Tells the webhooks of the end that were, or are about to be, told of the beginning. */
  @OnEvent(AlertResolved, { handler: 'alerts.end', queue: 'commands' })
  async end(event: StoredEvent<AlertResolvedData>): Promise<void> {
    const rows = await this.db.query<{ webhook_id: string }>(
      `SELECT action->>'webhook_id' AS webhook_id FROM alert_rules, jsonb_array_elements(definition->'actions') AS action
       WHERE id = $1 AND enabled AND action->>'type' = 'webhook' AND NOT 'webhook' = ANY (suspended_actions)
       UNION
       SELECT action.value->>'webhook_id' FROM alerts, jsonb_each(actions) AS action
       WHERE id = $2 AND action.value->>'webhook_id' IS NOT NULL
         AND NOT EXISTS (SELECT 1 FROM alert_rules r WHERE r.id = rule_id AND 'webhook' = ANY (r.suspended_actions))`,
      [parsePublicId('rule', event.data.rule_id), parsePublicId('alert', event.data.alert_id)],
    );
    for (const { webhook_id } of rows) await this.tell(webhook_id, event);
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

  private async publish(data: AlertEventData, n: number): Promise<void> {
    await this.db.transaction(async (tx) => {
      if (!(await this.record(tx, data.alert_id, n, { type: 'event' }))) return;
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

  /** The first outcome stays. @returns whether this was it */
  private async record(tx: Tx, alertId: string, n: number, outcome: ActionOutcome): Promise<boolean> {
    const [rows] = await tx.query<[unknown[], number]>(
      `UPDATE alerts SET actions = actions || jsonb_build_object($2::text, $3::jsonb)
       WHERE id = $1 AND NOT jsonb_exists(actions, $2) RETURNING id`,
      [parsePublicId('alert', alertId), String(n), JSON.stringify(outcome)],
    );
    return rows.length > 0;
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
