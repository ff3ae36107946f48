import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { Settings } from '../platform/config/index.js';
import { type Actor, actorHas, actsOn } from '../platform/context/index.js';
import { assertRoom, Database, type Tx } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import {
  assertVersion,
  Deletions,
  type Page,
  paginationOf,
  type PaginationDto,
  parsePublicId,
  publicId,
  timeAndIdAfter,
} from '../platform/http/index.js';
import { ownerOf } from '../platform/ownership/index.js';
import { EventDeliveries } from '../webhooks/index.js';
import type { ClearReason } from './alert.js';
import { AlertRule } from './alert-rule.entity.js';
import { AlertWriter } from './alert-writer.js';
import { type Rule, RULE_COLUMNS, type RuleDefinition } from './rule-definition.js';
import { definitionOf } from './rule-draft.js';
import { SCOPES_OF_ACTIONS } from './rule-rights.js';
import type { GroupDraft } from './group-draft.js';
import { RuleSet } from './rule-set.js';
import type { PutRuleDto, RuleListQueryDto } from './rules.dto.js';
import { wildcards } from './wildcards.js';

/** The rules and their life (row TEL-07). What a change does to open alerts happens in its transaction. */
@Injectable()
export class RulesService {
  constructor(
    private readonly db: Database,
    private readonly writer: AlertWriter,
    private readonly rules: RuleSet,
    private readonly settings: Settings,
    private readonly webhooks: EventDeliveries,
    private readonly deletions: Deletions,
  ) {}

  /** @throws AppError `validation`; `forbidden` for a command without the right to command; `conflict` past the limit */
  async create(actor: Actor, dto: PutRuleDto): Promise<Rule> {
    const definition = definitionOf(dto);
    assertMayAct(actor, definition);
    await this.assertWebhooks(definition);
    const rule = await this.db.transaction(async (tx) => {
      const count = (): Promise<number> => tx.count(AlertRule);
      await assertRoom(tx, { lock: 'alerts.rules', noun: 'rules', max: this.settings.alertMaxRules, count });
      const [created] = await tx.query<Rule[]>(
        `INSERT INTO alert_rules (id, name, description, enabled, severity, definition, target_labels, owner_id,
           owner_credential, created_by, updated_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10) RETURNING ${RULE_COLUMNS}`,
        [randomUUID(), ...columnsOf(actor, dto, definition), actor.id],
      );
      actsOn(publicId('rule', created.id));
      this.db.afterCommit(tx, () => void this.rules.changed().catch(() => undefined));
      return created;
    });
    await this.rules.reload();
    return rule;
  }

  /** The newest first. */
  async list(actor: Actor, query: RuleListQueryDto, page: Page): Promise<{ rules: Rule[]; pagination: PaginationDto }> {
    assertNoAgent(actor);
    const where = `($1::boolean IS NULL OR enabled = $1) AND ($2::text IS NULL OR severity = $2)
      AND ($3::text IS NULL OR definition->>'metric_name' = $3) AND ($4::text IS NULL OR definition->>'event_type' = $4)`;
    const { enabled, severity, metric_name: metric, event_type: type } = query;
    const params = [enabled ?? null, severity ?? null, metric ?? null, type ?? null];
    const found = await this.db.query<Rule>(
      `SELECT ${RULE_COLUMNS} FROM alert_rules
       WHERE ${where} AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
       ORDER BY created_at DESC, id DESC LIMIT $7 OFFSET $8`,
      [...params, ...timeAndIdAfter(page), page.limit + 1, page.offset],
    );
    const [{ total }] = await this.db.query<{ total: number }>(
      `SELECT count(*)::int AS total FROM alert_rules WHERE ${where}`,
      params,
    );
    const rules = found.slice(0, page.limit);
    const last = rules.at(-1);
    return {
      rules,
      pagination: paginationOf(page, {
        total,
        hasMore: found.length > page.limit,
        nextKeys: last && [last.created_at.toISOString(), last.id],
      }),
    };
  }

  /** @throws AppError `not_found` */
  async get(actor: Actor, id: string): Promise<Rule> {
    assertNoAgent(actor);
    const [rule] = await this.db.query<Rule>(`SELECT ${RULE_COLUMNS} FROM alert_rules WHERE id = $1`, [id]);
    if (!rule) throw notFound(id);
    return rule;
  }

  /**
   * Replaces a rule. Alerts stay open while the rule still forms the same groups; what was only pending starts anew.
   * @throws AppError as {@link create}; `precondition` when the rule is not at the expected version
   */
  async replace(actor: Actor, id: string, dto: PutRuleDto, expected: number | undefined): Promise<Rule> {
    const definition = definitionOf(dto);
    assertMayAct(actor, definition);
    await this.assertWebhooks(definition);
    const rule = await this.db.transaction(async (tx) => {
      const before = await lock(tx, id);
      assertVersion(expected, before.version);
      const [[replaced]] = await tx.query<[Rule[], number]>(
        `UPDATE alert_rules SET name = $2, description = $3, enabled = $4, severity = $5, definition = $6, target_labels = $7,
           owner_id = $8, owner_credential = $9, suspended_actions = '{}', updated_by = $10, updated_at = now(),
           version = version + 1
         WHERE id = $1 RETURNING ${RULE_COLUMNS}`,
        [id, ...columnsOf(actor, dto, definition), actor.id],
      );
      const reason = reasonToEnd(before.definition, replaced);
      const fits = ofSources(replaced.definition);
      await this.writer.change(tx, id, null, (draft) => {
        if (reason) draft.stop(reason, actor.id);
        else if (draft.row.phase === 'pending' || !fits(draft)) draft.stop('rule_changed', actor.id);
      });
      this.db.afterCommit(tx, () => void this.rules.changed().catch(() => undefined));
      return replaced;
    });
    await this.rules.reload();
    return rule;
  }

  private async assertWebhooks({ actions }: RuleDefinition): Promise<void> {
    for (const [n, action] of actions.entries()) {
      if (action.type !== 'webhook') continue;
      const id = parsePublicId('webhook', action.webhook_id);
      if (id && (await this.webhooks.knows(id))) continue;
      throw AppError.validation({
        field: `actions.${n}.webhook_id`,
        issue: 'is not the id of a webhook',
        expected: 'the id of a webhook',
        location: 'body',
      });
    }
  }

  /** Ends the rule's open alerts; those it has raised stay on record. */
  async remove(actor: Actor, id: string): Promise<void> {
    await this.deletions.once(publicId('rule', id), async (tx) => {
      await lock(tx, id);
      await this.writer.change(tx, id, null, (draft) => draft.stop('rule_deleted', actor.id));
      await tx.query('DELETE FROM alert_rules WHERE id = $1', [id]);
      this.db.afterCommit(tx, () => void this.rules.changed().catch(() => undefined));
    });
    await this.rules.reload();
  }
}

/** Rules say what the server commands, and to whom: nothing for an agent. */
export function assertNoAgent(actor: Actor): void {
  if (actor.type === 'agent') throw AppError.forbidden('Agents see only what is their own');
}

/** A rule does nothing that its author may not do. */
function assertMayAct(actor: Actor, { actions }: RuleDefinition): void {
  for (const [type, scope] of Object.entries(SCOPES_OF_ACTIONS)) {
    if (!actions.some((action) => action.type === type) || actorHas(actor, scope)) continue;
    throw AppError.forbidden(`A rule with a ${type} needs the scope ${scope}`, { required_scopes: [scope] });
  }
}

function columnsOf(actor: Actor, dto: PutRuleDto, definition: RuleDefinition): unknown[] {
  const { actorId, credentialId } = ownerOf(actor);
  return [
    dto.name,
    dto.description ?? '',
    dto.enabled ?? true,
    dto.severity ?? 'warning',
    JSON.stringify(definition),
    actor.targetLabels ? JSON.stringify(actor.targetLabels) : null,
    actorId,
    credentialId,
  ];
}

/** Why open alerts cannot go on under the changed rule; null when they can. */
function reasonToEnd(before: RuleDefinition, { enabled, definition }: Rule): ClearReason | null {
  if (!enabled) return 'rule_disabled';
  const aboutOf = ({ group_by, event_type, metric_name, tags, absent_for_seconds }: RuleDefinition): string =>
    JSON.stringify([group_by, event_type, metric_name, tags, absent_for_seconds === null]);
  return aboutOf(before) === aboutOf(definition) ? null : 'rule_changed';
}

/** Whether what a group's alert is about is still among the sources of the rule. */
function ofSources({ sources }: RuleDefinition): (draft: GroupDraft) => boolean {
  const fits = wildcards(sources);
  return ({ sample, row }) => {
    const source = sample?.source ?? row.grouping.source;
    return source === undefined || fits(source);
  };
}

async function lock(tx: Tx, id: string): Promise<Rule> {
  const [rule] = await tx.query<Rule[]>(`SELECT ${RULE_COLUMNS} FROM alert_rules WHERE id = $1 FOR UPDATE`, [id]);
  if (!rule) throw notFound(id);
  return rule;
}

function notFound(id: string): AppError {
  return AppError.notFound('rule', publicId('rule', id));
}
