import { Injectable, type OnModuleInit } from '@nestjs/common';
import { actorHas } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import type { Holder } from '../platform/http/index.js';
import { type OwnedKind, OwnerRights, type Rights } from '../platform/ownership/index.js';
import { AlertRule } from './alert-rule.entity.js';
import { RuleSet } from './rule-set.js';

type OwnedRule = Holder & Pick<AlertRule, 'id' | 'definition' | 'targetLabels' | 'suspendedActions' | 'version'>;

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

  async find({ actorId, credentialId }: Partial<Holder>): Promise<OwnedRule[]> {
    const rules = await this.db.repository(AlertRule).findBy({
      ...(actorId ? { ownerId: actorId } : {}),
      ...(credentialId ? { ownerCredential: credentialId } : {}),
    });
    return rules
      .filter(({ definition }) => definition.actions.some(({ type }) => type in SCOPES_OF_ACTIONS))
      .map((rule) => ({ ...rule, actorId: rule.ownerId, credentialId: rule.ownerCredential }));
  }

  async reduce(rule: OwnedRule, rights: Rights): Promise<void> {
    const labels = bothLabels(rule.targetLabels, rights.targetLabels ?? null);
    const types = new Set(rule.definition.actions.map(({ type }) => type));
    const suspended = (['command', 'webhook'] as const).filter(
      (type) =>
        rule.suspendedActions.includes(type) ||
        (types.has(type) &&
          (!actorHas(rights, SCOPES_OF_ACTIONS[type]) || (type === 'command' && labels === undefined))),
    );
    const targets = labels === undefined ? rule.targetLabels : labels;
    if (suspended.length === rule.suspendedActions.length && sizeOf(targets) === sizeOf(rule.targetLabels)) return;
    await this.db.transaction(async (tx) => {
      // Written in the meantime: the next sweep looks at it again.
      const whenAsFound = { id: rule.id, version: rule.version };
      await tx.update(AlertRule, whenAsFound, { suspendedActions: suspended, targetLabels: targets });
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
