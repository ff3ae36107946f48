import { Injectable } from '@nestjs/common';
import { Database } from '../platform/database/index.js';
import type { JudgedEvent } from './judged-event.js';
import { Evaluator, type GroupName } from './evaluator.js';
import type { StateRow } from './group-draft.js';
import { OpenGroups } from './open-groups.js';
import { RuleSet } from './rule-set.js';

/** Time of receipt covered by one read, and most rows of one page of it. */
const SLICE_MS = 1000;
const PAGE = 5000;

/** A group and the last event that it has seen, as in its row; without receipt and id it is only a time. */
export type Seen = Pick<
  StateRow,
  'rule_id' | 'group_key' | 'grouping' | 'last_ts' | 'last_received_at' | 'last_event_id'
>;

interface Progress {
  /** Aborted when the process stops: no further page is read, and the promise rejects. */
  signal: AbortSignal;
  /** Told after each slice. */
  done?: (doneBefore: number) => Promise<void>;
}

interface EventRow {
  event_id: string;
  ts: Date;
  received_at: Date;
  event_type: string;
  source: string;
  value: number | null;
  data: Record<string, unknown>;
}

const COLUMNS = 'event_id, ts, received_at, event_type, source, value, data';

/** Judges stored events once more: what a process left when it died or could not write, and what changed groups may have missed. */
@Injectable()
export class Rejudge {
  constructor(
    private readonly db: Database,
    private readonly rules: RuleSet,
    private readonly open: OpenGroups,
    private readonly evaluator: Evaluator,
  ) {}

  /** Events received from one time until another (ms), by any process; safe to repeat. */
  async received(from: number, until: number, { signal, done }: Progress): Promise<void> {
    await this.rules.reload();
    await this.open.refresh();
    for (let start = from; start < until && !this.rules.isEmpty; start += SLICE_MS) {
      const end = Math.min(start + SLICE_MS, until);
      await this.pages(
        `received_at >= $1 AND received_at < $2 AND ${WANTED}`,
        [new Date(start), new Date(end), ...this.wanted()],
        signal,
      );
      await done?.(end);
    }
  }

  /** Events of a group that come after what it has seen. */
  async newer(seen: Seen, signal: AbortSignal): Promise<void> {
    const definition = this.rules.get(seen.rule_id)?.rule.definition;
    if (!definition) return;
    const { source = null, ...tags } = seen.grouping;
    await this.pages(
      `ts >= $1 AND (ts > $1 OR (received_at, event_id) > ($5, $6::uuid)) AND ($2::text IS NULL OR source = $2) AND ($3::text IS NULL OR event_type = $3)
       AND ($4::text IS NULL OR data->>'metric_name' = $4)
       AND NOT EXISTS (SELECT 1 FROM jsonb_each_text($7) AS tag
                       WHERE coalesce(data->'tags'->>substr(tag.key, 5), '') <> tag.value)`,
      [
        seen.last_ts,
        source,
        definition.event_type,
        definition.metric_name,
        seen.last_received_at,
        seen.last_event_id,
        JSON.stringify(tags),
      ],
      signal,
      { ruleId: seen.rule_id, groupKey: seen.group_key },
    );
  }

  private async pages(where: string, params: unknown[], signal: AbortSignal, only?: GroupName): Promise<void> {
    let after: [Date, string] | null = null;
    for (;;) {
      signal.throwIfAborted();
      const n = params.length;
      const rows: EventRow[] = (
        await this.db.bulk.query<EventRow>(
          `SELECT ${COLUMNS} FROM telemetry_events
         WHERE ${where} AND ($${n + 1}::timestamptz IS NULL OR (ts, event_id) > ($${n + 1}, $${n + 2}::uuid))
         ORDER BY ts, event_id LIMIT ${PAGE}`,
          [...params, ...(after ?? [null, null])],
        )
      ).rows;
      this.evaluator.take(rows.map(toJudgedEvent), true, only);
      await this.evaluator.settled();
      const last = rows.at(-1);
      if (!last || rows.length < PAGE) return;
      after = [last.ts, last.event_id];
    }
  }

  /** Names of metrics and types that rules look at; null where one looks at any. */
  private wanted(): [metrics: string[], types: string[], any: boolean] {
    const definitions = this.rules.all().map(({ rule }) => rule.definition);
    const metrics = definitions.flatMap((d) => d.metric_name ?? []);
    const types = definitions.flatMap((d) => (d.metric_name === null ? (d.event_type ?? []) : []));
    const any = definitions.some((d) => d.metric_name === null && d.event_type === null);
    return [[...new Set(metrics)], [...new Set(types)], any];
  }
}

const WANTED = `($5 OR event_type = ANY ($4::text[]) OR data->>'metric_name' = ANY ($3::text[]))`;

function toJudgedEvent(row: EventRow): JudgedEvent {
  const { metric_name: name, unit, tags } = row.data as { metric_name?: string; unit?: string; tags?: object };
  return {
    eventId: row.event_id,
    ts: row.ts.getTime(),
    receivedAt: row.received_at.getTime(),
    eventType: row.event_type,
    source: row.source,
    metric:
      row.value === null || name === undefined
        ? null
        : { name, value: row.value, unit: unit ?? null, tags: (tags ?? {}) as Record<string, string> },
    series: null,
    data: JSON.stringify(row.data),
  };
}
