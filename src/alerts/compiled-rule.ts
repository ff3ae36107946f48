import { createHash } from 'node:crypto';
import { type Timing, timingOf } from './alert-state.js';
import { contextOf, type ExpressionContext } from './expression.js';
import { wildcards } from './wildcards.js';
import type { AlertRule } from './alert-rule.entity.js';
import { type Judge, judgeOf } from './verdict.js';
import type { JudgedEvent } from './judged-event.js';

/** What an alert is about: the value of each key of `group_by`. */
export type Grouping = Record<string, string>;

/** A rule made ready to judge events. */
export class CompiledRule {
  readonly timing: Timing;
  readonly isAbsence: boolean;
  /** Whether its place in the index says all about which events it concerns. */
  private readonly isPlain: boolean;
  private readonly judge: Judge;
  private readonly fromSource: (source: string) => boolean;
  private readonly wantedTags: [string, string][];

  /** @throws ExpressionError */
  constructor(readonly rule: AlertRule) {
    const { definition } = rule;
    this.timing = timingOf(definition);
    this.isAbsence = definition.absent_for_seconds !== null;
    this.judge = judgeOf(definition);
    this.fromSource = wildcards(definition.sources);
    this.wantedTags = Object.entries(definition.tags);
    this.isPlain =
      definition.metric_name !== null &&
      definition.event_type === null &&
      definition.sources.length === 0 &&
      this.wantedTags.length === 0;
  }

  get id(): string {
    return this.rule.id;
  }

  /** Whether the rule is about an event that its metric or type has brought it together with. */
  concernsCandidate(row: JudgedEvent): boolean {
    return this.isPlain || this.concerns(row);
  }

  /** Whether the rule is about this event at all. */
  concerns(row: JudgedEvent): boolean {
    const { definition } = this.rule;
    if (definition.event_type !== null && definition.event_type !== row.eventType) return false;
    if (definition.metric_name !== null && definition.metric_name !== row.metric?.name) return false;
    if (!this.fromSource(row.source)) return false;
    if (this.wantedTags.length === 0) return true;
    const tags = tagsOf(row);
    return this.wantedTags.every(([name, value]) => tags[name] === value);
  }

  judgement(row: JudgedEvent, context: LazyContext): ReturnType<Judge> {
    return this.judge(row, context.of);
  }

  /** Names the group of an event among those of this rule. */
  groupKey(row: JudgedEvent): string {
    const { group_by: keys } = this.rule.definition;
    if (keys.length === 1 && keys[0] === 'source') return row.source;
    return keys.length === 0 ? '' : JSON.stringify(this.groupValues(row));
  }

  /** The same name, from the grouping. */
  keyOf(grouping: Grouping): string {
    const { group_by: keys } = this.rule.definition;
    if (keys.length === 1 && keys[0] === 'source') return grouping.source;
    return keys.length === 0 ? '' : JSON.stringify(keys.map((key) => grouping[key]));
  }

  grouping(row: JudgedEvent): Grouping {
    const values = this.groupValues(row);
    return Object.fromEntries(this.rule.definition.group_by.map((key, n) => [key, values[n]]));
  }

  /** What raises an alert, in words. */
  get conditionText(): string {
    const { condition, operator, threshold, metric_name: metric, absent_for_seconds: absent } = this.rule.definition;
    if (condition !== null) return condition;
    return absent !== null ? `no data for ${absent} s` : `${metric} ${operator} ${threshold}`;
  }

  private groupValues(row: JudgedEvent): string[] {
    let tags: Record<string, string> | undefined;
    return this.rule.definition.group_by.map((key) =>
      key === 'source' ? row.source : ((tags ??= tagsOf(row))[key.slice('tag.'.length)] ?? ''),
    );
  }
}

/** Makes what expressions see of the event in hand, at most once and only when one asks. */
export class LazyContext {
  private row: JudgedEvent | undefined;
  private context: ExpressionContext | undefined;

  readonly of = (row: JudgedEvent): ExpressionContext => {
    if (this.row !== row || !this.context) {
      this.row = row;
      this.context = contextOf(row);
    }
    return this.context;
  };
}

/** Identity of a group within its rule: half of a SHA-256, in the shape of a UUID. */
export function groupId(key: string): string {
  const hex = createHash('sha256').update(key).digest('hex');
  return hex.slice(0, 32).replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, '$1-$2-$3-$4-$5');
}

export function tagsOf(row: JudgedEvent): Record<string, string> {
  if (row.metric) return row.metric.tags;
  const { tags } = JSON.parse(row.data) as { tags?: Record<string, string> };
  return tags ?? {};
}
