import { Injectable } from '@nestjs/common';
import { Database } from '../platform/database/index.js';
import { eventsAfter, eventsReceived, type Pages, type Seen, type StoredEvent } from './alert-telemetry.queries.js';
import type { JudgedEvent } from './judged-event.js';
import { Evaluator, type GroupName } from './evaluator.js';
import { OpenGroups } from './open-groups.js';
import { RuleSet } from './rule-set.js';

/** Time of receipt covered by one read. */
const SLICE_MS = 1000;

interface Progress {
  /** Aborted when the process stops: no further page is read, and the promise rejects. */
  signal: AbortSignal;
  /** Told after each slice. */
  done?: (doneBefore: number) => Promise<void>;
}

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
      const definitions = this.rules.all().map(({ rule }) => rule.definition);
      await this.judge(eventsReceived(this.db.bulk, { from: start, until: end }, definitions), signal);
      await done?.(end);
    }
  }

  /** Events of a group that come after what it has seen. */
  async newer(seen: Seen, signal: AbortSignal): Promise<void> {
    const definition = this.rules.get(seen.ruleId)?.rule.definition;
    if (!definition) return;
    await this.judge(eventsAfter(this.db.bulk, seen, definition), signal, seen);
  }

  private async judge(pages: Pages, signal: AbortSignal, only?: GroupName): Promise<void> {
    signal.throwIfAborted();
    for await (const events of pages) {
      this.evaluator.take(events.map(toJudgedEvent), true, only);
      await this.evaluator.settled();
      signal.throwIfAborted();
    }
  }
}

function toJudgedEvent(row: StoredEvent): JudgedEvent {
  const { metric_name: name, unit, tags } = row.data as { metric_name?: string; unit?: string; tags?: object };
  return {
    eventId: row.eventId,
    ts: row.ts.getTime(),
    receivedAt: row.receivedAt.getTime(),
    eventType: row.eventType,
    source: row.source,
    metric:
      row.value === null || name === undefined
        ? null
        : { name, value: row.value, unit: unit ?? null, tags: (tags ?? {}) as Record<string, string> },
    series: null,
    data: JSON.stringify(row.data),
  };
}
