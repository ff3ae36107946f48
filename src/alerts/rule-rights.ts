import { Injectable, type OnModuleInit } from '@nestjs/common';
import { actorHas } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import type { Holder } from '../platform/http/index.js';
import { type OwnedKind, OwnerRights, type Rights } from '../platform/ownership/index.js';
import type { Rule } from './rule-definition.js';
import { RuleSet } from './rule-set.js';

type OwnedRule = Holder & Pick<Rule, 'id' | 'definition' | 'target_labels' | 'suspended_actions' | 'version'>;

/** Types of actions that need a right of the rule's owner, and the scope each needs. */
export const SCOPES_OF_ACTIONS = { command: 'command:write', webhook: 'webhook:write' } as const;

/** A rule goes on raising alerts whoever wrote it; its actions are carried out only while its owner may do the same. */
@Injectable()
export class RuleRights implements OwnedKind<OwnedRule>, OnModuleInit {
  constructor(
    private readonly db: Database,
    private readonly rules: RuleSet,
    private readonly rights: OwnerRights,
  ) {}

  onModuleInit(): void {
    this.rights.contribute(this);
  }

  find({ actorId, credentialId }: Partial<Holder>): Promise<OwnedRule[]> {
    return this.db.query<OwnedRule>(
      `SELECT id, definition, target_labels, suspended_actions, version, owner_id AS "actorId",
         owner_credential AS "credentialId"
       FROM alert_rules
       WHERE jsonb_path_exists(definition, '$.actions[*] ? (@.type == "command" || @.type == "webhook")')
         AND ($1::text IS NULL OR owner_id = $1) AND ($2::text IS NULL OR owner_credential = $2)`,
      [actorId ?? null, credentialId ?? null],
    );
  }

  async reduce(rule: OwnedRule, rights: Rights): Promise<void> {
    const labels = bothLabels(rule.target_labels, rights.targetLabels ?? null);
    const types = new Set(rule.definition.actions.map(({ type }) => type));
    const suspended = (['command', 'webhook'] as const).filter(
      (type) =>
        rule.suspended_actions.includes(type) ||
        (types.has(type) &&
          (!actorHas(rights, SCOPES_OF_ACTIONS[type]) || (type === 'command' && labels === undefined))),
    );
    const targets = labels === undefined ? rule.target_labels : labels;
    if (suspended.length === rule.suspended_actions.length && sizeOf(targets) === sizeOf(rule.target_labels)) return;
    await this.db.transaction(async (tx) => {
      // Written in the meantime: the next sweep looks at it again.
      await tx.query(
        `UPDATE alert_rules SET suspended_actions = $3, target_labels = $4, version = version + 1, updated_at = now()
         WHERE id = $1 AND version = $2`,
        [rule.id, rule.version, suspended, targets && JSON.stringify(targets)],
      );
      this.db.afterCommit(tx, () => void this.rules.changed().catch(() => undefined));
    });
  }
}

type Labels = Readonly<Record<string, string>> | null;

/** Labels that both want; undefined when they contradict each other. */
function bothLabels(a: Labels, b: Labels): Labels | undefined {
  if (a === null || b === null) return a ?? b;
  return Object.entries(b).every(([name, value]) => (a[name] ?? value) === value) ? { ...a, ...b } : undefined;
}

function sizeOf(labels: Labels): number {
  return Object.keys(labels ?? {}).length;
}
