import { Injectable } from '@nestjs/common';
import { Database } from '../platform/database/index.js';
import { Logger } from '../platform/observability/index.js';
import { AlertWriter, type GroupWork } from './alert-writer.js';
import { hasSentSince, silentGroups } from './alert-telemetry.queries.js';
import type { CompiledRule } from './compiled-rule.js';
import { RuleSet } from './rule-set.js';

const EVERY_MS = 5000;

/** Finds what has stopped sending: groups seen before of which there is no data any more. */
@Injectable()
export class Absences {
  private lookedAt = 0;

  constructor(
    private readonly db: Database,
    private readonly rules: RuleSet,
    private readonly writer: AlertWriter,
    private readonly logger: Logger,
  ) {}

  async look(): Promise<void> {
    if (Date.now() - this.lookedAt < EVERY_MS) return;
    this.lookedAt = Date.now();
    for (const rule of this.rules.absences()) {
      try {
        await this.lookFor(rule);
      } catch (error) {
        // It must not hold up the others, nor what else the sweep does.
        this.logger.warn({ rule: rule.id, err: String(error) }, 'An absence rule could not be looked after');
      }
    }
  }

  private async lookFor(rule: CompiledRule): Promise<void> {
    const works: GroupWork[] = [];
    for (const silent of await silentGroups(this.db.manager, rule)) {
      // The catalogue of series follows the events by some seconds: they decide.
      if (await hasSentSince(this.db.manager, rule.rule.definition, silent)) continue;
      const { grouping, lastSeen } = silent;
      works.push({
        rule,
        groupKey: rule.keyOf(grouping),
        grouping,
        act: (draft) => draft.raiseAbsence(grouping.source ?? null, lastSeen.getTime()),
      });
    }
    if (works.length > 0) await this.writer.apply(works);
  }
}
