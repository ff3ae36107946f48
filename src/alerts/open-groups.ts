import { Injectable } from '@nestjs/common';
import { MoreThan, Not } from 'typeorm';
import { Database, DatabaseClock } from '../platform/database/index.js';
import type { Phase } from './alert-state.js';
import { AlertState } from './alert-state.entity.js';

/** What a process remembers of a group that is not `ok`, or of which events are on their way into the database. */
export interface OpenGroup {
  phase: Phase;
  since: number | null;
  alertId: string | null;
  /** Pieces of work with events of it that wait or are being stored: until they are, nothing is certain. */
  busy: number;
  /** Further events for which the condition held, not yet counted in the alert's row. */
  uncounted: number;
  lastValue: number | null;
  lastTs: number;
}

export type Remembered = Pick<OpenGroup, 'phase' | 'since' | 'alertId'> & { ruleId: string; groupKey: string };

/** Changes of the last seconds are read again: what commits late must not be missed. */
const OVERLAP_MS = 5000;

/**
 * The groups that are not `ok`, as this process knows them: whatever is not among them needs no look into the database unless the
 * condition holds. Other processes' changes arrive within a second; what was missed in it is found by the recheck of each change.
 */
@Injectable()
export class OpenGroups {
  private readonly byRule = new Map<string, Map<string, OpenGroup>>();
  /** Groups that are not `ok`, for rules that have any. */
  private readonly counts = new Map<string, number>();
  private upTo: number | null = null;

  constructor(
    private readonly db: Database,
    private readonly clock: DatabaseClock,
  ) {}

  of(ruleId: string): ReadonlyMap<string, OpenGroup> | undefined {
    return this.byRule.get(ruleId);
  }

  /** How many groups of the rule are pending or have an alert. */
  count(ruleId: string): number {
    return this.counts.get(ruleId) ?? 0;
  }

  *[Symbol.iterator](): Iterator<[ruleId: string, groups: ReadonlyMap<string, OpenGroup>]> {
    yield* this.byRule;
  }

  /** Until {@link release}, the group's events must all be looked at. */
  hold(ruleId: string, groupKey: string): void {
    this.entry(ruleId, groupKey).busy++;
  }

  release(ruleId: string, groupKey: string): void {
    const group = this.byRule.get(ruleId)?.get(groupKey);
    if (!group) return;
    group.busy--;
    if (group.busy <= 0 && group.phase === 'ok') this.forget(ruleId, groupKey);
  }

  remember({ ruleId, groupKey, ...state }: Remembered): void {
    const known = this.byRule.get(ruleId)?.get(groupKey);
    if (state.phase === 'ok' && !known?.busy) {
      this.forget(ruleId, groupKey);
      return;
    }
    const group = known ?? this.entry(ruleId, groupKey);
    if (group.alertId !== state.alertId) group.uncounted = 0;
    this.recount(ruleId, group.phase, state.phase);
    Object.assign(group, state);
  }

  /** Reads what has changed since the last time, everything at first. */
  async refresh(): Promise<void> {
    const { now } = await this.clock.read();
    const states = await this.db.repository(AlertState).find({
      select: { ruleId: true, groupId: true, groupKey: true, phase: true, since: true, alertId: true },
      where: this.upTo === null ? { phase: Not('ok') } : { updatedAt: MoreThan(new Date(this.upTo - OVERLAP_MS)) },
    });
    for (const { ruleId, groupKey, phase, since, alertId } of states) {
      if (this.byRule.get(ruleId)?.get(groupKey)?.busy) continue;
      this.remember({ ruleId, groupKey, phase, since: since?.getTime() ?? null, alertId });
    }
    this.upTo = now;
  }

  /** Groups of rules that are gone. */
  keepOnly(exists: (ruleId: string) => boolean): void {
    for (const ruleId of this.byRule.keys()) {
      if (exists(ruleId)) continue;
      this.byRule.delete(ruleId);
      this.counts.delete(ruleId);
    }
  }

  private recount(ruleId: string, before: Phase, after: Phase): void {
    this.counts.set(ruleId, this.count(ruleId) + Number(after !== 'ok') - Number(before !== 'ok'));
  }

  private forget(ruleId: string, groupKey: string): void {
    const groups = this.byRule.get(ruleId);
    const group = groups?.get(groupKey);
    if (!groups || !group) return;
    this.recount(ruleId, group.phase, 'ok');
    groups.delete(groupKey);
    if (groups.size > 0) return;
    this.byRule.delete(ruleId);
    this.counts.delete(ruleId);
  }

  private entry(ruleId: string, groupKey: string): OpenGroup {
    let groups = this.byRule.get(ruleId);
    if (!groups) {
      groups = new Map<string, OpenGroup>();
      this.byRule.set(ruleId, groups);
    }
    let group = groups.get(groupKey);
    if (!group) {
      group = { phase: 'ok', since: null, alertId: null, busy: 0, uncounted: 0, lastValue: null, lastTs: 0 };
      groups.set(groupKey, group);
    }
    return group;
  }
}
