import type { Database, Tx } from '../platform/database/index.js';
import type { TelemetryEvent } from '../telemetry/index.js';
import type { AlertState } from './alert-state.entity.js';
import type { CompiledRule, Grouping } from './compiled-rule.js';
import type { RuleDefinition } from './rule-definition.js';

/** What rules look at in stored telemetry. It is read in SQL: conditions on keys inside JSON, and much of it at a time. */

/** Groups of one rule that may be found silent in one round. */
const SILENT_AT_ONCE = 200;
/** Most events of one page. */
const PAGE = 5000;

export interface SilentGroup {
  grouping: Grouping;
  lastSeen: Date;
}

/** Groups last heard too long ago, but not before the rule could have heard them. SQL: groups by keys that the rule names. */
export function silentGroups(tx: Tx, { rule }: CompiledRule): Promise<SilentGroup[]> {
  const { definition } = rule;
  return tx.query<SilentGroup[]>(
    `WITH heard AS (
       SELECT coalesce((SELECT jsonb_object_agg(key, CASE key WHEN 'source' THEN source
                                ELSE coalesce(tags->>substr(key, 5), '') END)
                        FROM unnest($2::text[]) AS key), '{}') AS grouping, max(last_seen) AS last_seen
       FROM telemetry_series
       WHERE ($3::text IS NULL OR metric_name = $3) AND ($4::text IS NULL OR event_type = $4)
         AND ($5::text[] IS NULL OR source LIKE ANY ($5)) AND tags @> $6::jsonb
       GROUP BY 1
     )
     SELECT grouping, last_seen AS "lastSeen" FROM heard
     WHERE last_seen < now() - make_interval(secs => $7) AND last_seen >= $8::timestamptz - make_interval(secs => $7)
       AND NOT EXISTS (SELECT 1 FROM alert_states s WHERE s.rule_id = $1 AND s.grouping = heard.grouping
                         AND (s.phase <> 'ok' OR s.last_ts > heard.last_seen))
     LIMIT ${SILENT_AT_ONCE}`,
    [
      rule.id,
      definition.group_by,
      definition.metric_name,
      definition.event_type,
      likePatterns(definition.sources),
      JSON.stringify(definition.tags),
      definition.absent_for_seconds,
      rule.updatedAt,
    ],
  );
}

/** Whether a group has sent events since it was found silent. SQL: conditions on keys inside JSON. */
export async function hasSentSince(
  tx: Tx,
  { sources, event_type, metric_name, tags: wanted }: RuleDefinition,
  { grouping, lastSeen }: SilentGroup,
): Promise<boolean> {
  const tags = { ...wanted };
  for (const [key, value] of Object.entries(grouping)) {
    if (key !== 'source' && value !== '') tags[key.slice('tag.'.length)] = value;
  }
  const found = await tx.query<unknown[]>(
    `SELECT 1 FROM telemetry_events
     WHERE ts > $1 AND ($2::text IS NULL OR source = $2) AND ($3::text IS NULL OR event_type = $3)
       AND ($4::text IS NULL OR data->>'metric_name' = $4)
       AND ($5::text[] IS NULL OR source LIKE ANY ($5))
       AND ($6::jsonb = '{}' OR data->'tags' @> $6::jsonb) LIMIT 1`,
    [lastSeen, grouping.source ?? null, event_type, metric_name, likePatterns(sources), JSON.stringify(tags)],
  );
  return found.length > 0;
}

function likePatterns(sources: readonly string[]): string[] | null {
  if (sources.length === 0) return null;
  return sources.map((pattern) => pattern.replace(/[\\%_]/g, '\\$&').replaceAll('*', '%'));
}

export type StoredEvent = Omit<TelemetryEvent, 'seriesId' | 'metadata'>;
export type Pages = AsyncGenerator<StoredEvent[], void>;

/** A group and the last event that it has seen; without receipt and id it is only a time. */
export type Seen = Pick<AlertState, 'ruleId' | 'groupKey' | 'grouping' | 'lastTs' | 'lastReceivedAt' | 'lastEventId'>;

/** Events received from one time until another (ms) that some rule looks at. */
export function eventsReceived(
  pool: Database['bulk'],
  { from, until }: { from: number; until: number },
  definitions: readonly RuleDefinition[],
): Pages {
  const metrics = definitions.flatMap((d) => d.metric_name ?? []);
  const types = definitions.flatMap((d) => (d.metric_name === null ? (d.event_type ?? []) : []));
  const any = definitions.some((d) => d.metric_name === null && d.event_type === null);
  return pages(
    pool,
    `received_at >= $1 AND received_at < $2
     AND ($5 OR event_type = ANY ($4::text[]) OR data->>'metric_name' = ANY ($3::text[]))`,
    [new Date(from), new Date(until), [...new Set(metrics)], [...new Set(types)], any],
  );
}

/** Events of a group that come after what it has seen. */
export function eventsAfter(pool: Database['bulk'], seen: Seen, definition: RuleDefinition): Pages {
  const { source = null, ...tags } = seen.grouping;
  return pages(
    pool,
    `ts >= $1 AND (ts > $1 OR (received_at, event_id) > ($5, $6::uuid)) AND ($2::text IS NULL OR source = $2)
     AND ($3::text IS NULL OR event_type = $3) AND ($4::text IS NULL OR data->>'metric_name' = $4)
     AND NOT EXISTS (SELECT 1 FROM jsonb_each_text($7) AS tag
                     WHERE coalesce(data->'tags'->>substr(tag.key, 5), '') <> tag.value)`,
    [
      seen.lastTs,
      source,
      definition.event_type,
      definition.metric_name,
      seen.lastReceivedAt,
      seen.lastEventId,
      JSON.stringify(tags),
    ],
  );
}

async function* pages(pool: Database['bulk'], where: string, params: readonly unknown[]): Pages {
  const n = params.length;
  for (let after: [Date, string] | [null, null] = [null, null]; ;) {
    const { rows }: { rows: StoredEvent[] } = await pool.query(
      `SELECT event_id AS "eventId", ts, received_at AS "receivedAt", event_type AS "eventType", source, value, data
       FROM telemetry_events
       WHERE ${where} AND ($${n + 1}::timestamptz IS NULL OR (ts, event_id) > ($${n + 1}, $${n + 2}::uuid))
       ORDER BY ts, event_id LIMIT ${PAGE}`,
      [...params, ...after],
    );
    yield rows;
    const last = rows.at(-1);
    if (!last || rows.length < PAGE) return;
    after = [last.ts, last.eventId];
  }
}
