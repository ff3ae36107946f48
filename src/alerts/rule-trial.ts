import { Injectable } from '@nestjs/common';
import type { Actor } from '../platform/context/index.js';
import { TelemetryIngest } from '../telemetry/index.js';
import { CompiledRule, LazyContext } from './compiled-rule.js';
import { definitionOf } from './rule-draft.js';
import type { RuleTestDto } from './rule-answers.dto.js';
import type { TestRuleDto } from './rules.dto.js';

/** Shows what a rule would say of an event; neither is stored. */
@Injectable()
export class RuleTrial {
  constructor(private readonly ingest: TelemetryIngest) {}

  /** @throws AppError `validation` for a wrong rule or a wrong event */
  judge(actor: Actor, { rule: dto, event }: TestRuleDto): RuleTestDto {
    const now = new Date();
    const rule = new CompiledRule({
      id: '00000000-0000-0000-0000-000000000000',
      name: dto.name,
      description: '',
      enabled: true,
      severity: 'info',
      definition: definitionOf(dto),
      targetLabels: null,
      suspendedActions: [],
      version: 1,
      ownerId: '',
      ownerCredential: null,
      createdBy: '',
      updatedBy: '',
      createdAt: now,
      updatedAt: now,
    });
    const row = this.ingest.preview(actor, event);
    if (!rule.concerns(row)) return { concerned: false, verdict: null, group: null };
    return { concerned: true, verdict: rule.judgement(row, new LazyContext()), group: rule.grouping(row) };
  }
}
