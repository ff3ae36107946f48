import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { AlertSettings } from './alerts.settings.js';
import { type Actor, actorHas, actsOn } from '../platform/context/index.js';
import { assertRoom, Database, findForUpdate, insertRow, type Tx } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { assertVersion, Deletions, type Page, pageNewestFirst, type PaginationDto } from '../platform/http/index.js';
import { parsePublicId, publicId } from '../platform/ids/index.js';
import { ownerOf } from '../platform/ownership/index.js';
import { EventDeliveries } from '../webhooks/index.js';
import type { ClearReason } from './alert.entity.js';
import { AlertRule } from './alert-rule.entity.js';
import { AlertWriter } from './alert-writer.js';
import type { RuleDefinition } from './rule-definition.js';
import { definitionOf } from './rule-draft.js';
import { SCOPES_OF_ACTIONS } from './rule-rights.js';
import type { GroupDraft } from './group-draft.js';
import { RuleSet } from './rule-set.js';
import type { PutRuleDto, RuleListQueryDto } from './rules.dto.js';
import { wildcards } from './wildcards.js';

/** The rules and their life. What a change does to open alerts happens in its transaction. */
@Injectable()
export class RulesService {
  constructor(
    private readonly db: Database,
    private readonly writer: AlertWriter,
    private readonly rules: RuleSet,
    private readonly settings: AlertSettings,
    private readonly webhooks: EventDeliveries,
    private readonly deletions: Deletions,
  ) {}

  /** @throws AppError `validation`; `forbidden` for a command without the right to command; `conflict` past the limit */
  async create(actor: Actor, dto: PutRuleDto): Promise<AlertRule> {
    const definition = definitionOf(dto);
    assertMayAct(actor, definition);
    await this.assertWebhooks(definition);
    const rule = await this.db.transaction(async (tx) => {
      const count = (): Promise<number> => tx.count(AlertRule);
      await assertRoom(tx, { lock: 'alerts.rules', noun: 'rules', max: this.settings.maxRules, count });
      const values = { id: randomUUID(), createdBy: actor.id, ...valuesOf(actor, dto, definition) };
      const created = await insertRow(tx, AlertRule, values);
      actsOn(publicId('rule', created.id));
      this.db.afterCommit(tx, () => void this.rules.changed().catch(() => undefined));
      return created;
    });
    await this.rules.reload();
    return rule;
  }

  /** The newest first. */
  async list(
    actor: Actor,
    query: RuleListQueryDto,
    page: Page,
  ): Promise<{ rules: AlertRule[]; pagination: PaginationDto }> {
    assertNoAgent(actor);
    const { enabled, severity, metric_name: metric, event_type: type } = query;
    const list = this.db.repository(AlertRule).createQueryBuilder('rule');
    if (enabled !== undefined) list.andWhere({ enabled });
    if (severity) list.andWhere({ severity });
    if (metric !== undefined) list.andWhere(`rule.definition->>'metric_name' = :metric`, { metric });
    if (type !== undefined) list.andWhere(`rule.definition->>'event_type' = :type`, { type });
    const { rows, pagination } = await pageNewestFirst(list, page);
    return { rules: rows, pagination };
  }

  /** @throws AppError `not_found` */
  async get(actor: Actor, id: string): Promise<AlertRule> {
    assertNoAgent(actor);
    const rule = await this.db.repository(AlertRule).findOneBy({ id });
    if (!rule) throw notFound(id);
    return rule;
  }

  /**
   * Replaces a rule. Alerts stay open while the rule still forms the same groups; what was only pending starts anew.
   * @throws AppError as {@link create}; `precondition` when the rule is not at the expected version
   */
  async replace(actor: Actor, id: string, dto: PutRuleDto, expected: number | undefined): Promise<AlertRule> {
    const definition = definitionOf(dto);
    assertMayAct(actor, definition);
    await this.assertWebhooks(definition);
    const rule = await this.db.transaction(async (tx) => {
      const before = await lock(tx, id);
      assertVersion(expected, before.version);
      const replaced = await tx.save(tx.create(AlertRule, { ...before, ...valuesOf(actor, dto, definition) }));
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
      await tx.delete(AlertRule, { id });
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

function valuesOf(actor: Actor, dto: PutRuleDto, definition: RuleDefinition): Partial<AlertRule> {
  const { actorId, credentialId } = ownerOf(actor);
  return {
    name: dto.name,
    description: dto.description ?? '',
    enabled: dto.enabled ?? true,
    severity: dto.severity ?? 'warning',
    definition,
    targetLabels: actor.targetLabels ?? null,
    ownerId: actorId,
    ownerCredential: credentialId,
    suspendedActions: [],
    updatedBy: actor.id,
  };
}

/** Why open alerts cannot go on under the changed rule; null when they can. */
function reasonToEnd(before: RuleDefinition, { enabled, definition }: AlertRule): ClearReason | null {
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

async function lock(tx: Tx, id: string): Promise<AlertRule> {
  const rule = await findForUpdate(tx, AlertRule, { id });
  if (!rule) throw notFound(id);
  return rule;
}

function notFound(id: string): AppError {
  return AppError.notFound('rule', publicId('rule', id));
}
