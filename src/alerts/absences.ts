import { Injectable } from '@nestjs/common';
import { Database } from '../platform/database/index.js';
import { Logger } from '../platform/observability/index.js';
import { AlertWriter, type GroupWork } from './alert-writer.js';
import type { CompiledRule, Grouping } from './compiled-rule.js';
import { RuleSet } from './rule-set.js';

const EVERY_MS = 5000;
/** Groups of one rule that may be found silent in one round. */
const BATCH = 200;

interface Silent {
  grouping: Grouping;
  last_seen: Date;
}

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
    for (const { grouping, last_seen } of await this.candidates(rule)) {
      // The catalogue of series follows the events by some seconds: they decide.
      if (await this.heardSince(rule, grouping, last_seen)) continue;
      works.push({
        rule,
        groupKey: rule.keyOf(grouping),
        grouping,
        act: (draft) => draft.raiseAbsence(grouping.source ?? null, last_seen.getTime()),
      });
    }
    if (works.length > 0) await this.writer.apply(works);
  }

  /** Groups last heard too long ago, but not before the rule could have heard them. */
  private candidates({ rule }: CompiledRule): Promise<Silent[]> {
    const { definition } = rule;
    return this.db.query<Silent>(
      `WITH heard AS (
         SELECT coalesce((SELECT jsonb_object_agg(key, CASE key WHEN 'source' THEN source
                                  ELSE coalesce(tags->>substr(key, 5), '') END)
                          FROM unnest($2::text[]) AS key), '{}') AS grouping, max(last_seen) AS last_seen
         FROM telemetry_series
         WHERE ($3::text IS NULL OR metric_name = $3) AND ($4::text IS NULL OR event_type = $4)
           AND ($5::text[] IS NULL OR source LIKE ANY ($5)) AND tags @> $6::jsonb
         GROUP BY 1
       )
       SELECT grouping, last_seen FROM heard
       WHERE last_seen < now() - make_interval(secs => $7) AND last_seen >= $8::timestamptz - make_interval(secs => $7)
         AND NOT EXISTS (SELECT 1 FROM alert_states s WHERE s.rule_id = $1 AND s.grouping = heard.grouping
                           AND (s.phase <> 'ok' OR s.last_ts > heard.last_seen))
       LIMIT ${BATCH}`,
      [
        rule.id,
        definition.group_by,
        definition.metric_name,
        definition.event_type,
        definition.sources.length > 0 ? definition.sources.map(likePattern) : null,
        JSON.stringify(definition.tags),
        definition.absent_for_seconds,
        rule.updatedAt,
      ],
    );
  }

  private async heardSince({ rule }: CompiledRule, grouping: Grouping, lastSeen: Date): Promise<boolean> {
    const { definition } = rule;
    const tags = { ...definition.tags };
    for (const [key, value] of Object.entries(grouping)) {
      if (key !== 'source' && value !== '') tags[key.slice('tag.'.length)] = value;
    }
    const found = await this.db.query(
      `SELECT 1 FROM telemetry_events
       WHERE ts > $1 AND ($2::text IS NULL OR source = $2) AND ($3::text IS NULL OR event_type = $3)
         AND ($4::text IS NULL OR data->>'metric_name' = $4)
         AND ($5::text[] IS NULL OR source LIKE ANY ($5))
         AND ($6::jsonb = '{}' OR data->'tags' @> $6::jsonb) LIMIT 1`,
      [
        lastSeen,
        grouping.source ?? null,
        definition.event_type,
        definition.metric_name,
        definition.sources.length > 0 ? definition.sources.map(likePattern) : null,
        JSON.stringify(tags),
      ],
    );
    return found.length > 0;
  }
}

function likePattern(pattern: string): string {
  return pattern.replace(/[\\%_]/g, '\\$&').replaceAll('*', '%');
}
