import { Injectable } from '@nestjs/common';
import { AlertSettings } from './alerts.settings.js';
import { runDetached } from '../platform/context/index.js';
import { isTransient } from '../platform/database/index.js';
import { isAppError } from '../platform/errors/index.js';
import { Logger, Metrics } from '../platform/observability/index.js';
import { TelemetryIngest } from '../telemetry/index.js';
import type { JudgedEvent } from './judged-event.js';
import { AlertWriter, type GroupWork } from './alert-writer.js';
import { type CompiledRule, type Grouping, LazyContext } from './compiled-rule.js';
import type { GroupDraft, Reading } from './group-draft.js';
import { type OpenGroup, OpenGroups } from './open-groups.js';
import { RuleSet } from './rule-set.js';
import type { Verdict } from './verdict.js';

/** Groups of one transaction. */
const AT_ONCE = 250;
/** Events waiting for their transaction; past it they are read again from the table later. */
const MAX_WAITING = 20_000;

export interface GroupName {
  ruleId: string;
  groupKey: string;
}

/** Events of one group that wait for their transaction. */
class Waiting implements GroupWork {
  readonly readings: Reading[] = [];

  constructor(
    readonly rule: CompiledRule,
    readonly groupKey: string,
    readonly grouping: Grouping,
  ) {}

  act(draft: GroupDraft): void {
    draft.takeEvents(this.rule, this.readings);
  }
}

/**
 * Judges telemetry by the rules, in the process that has stored it. In memory as far as possible: only an event that may
 * change where a group stands goes on to the writer. What cannot be written now is not kept: {@link behindSince} says from when on
 * the stored events must be judged again.
 */
@Injectable()
export class Evaluator {
  private readonly waiting = new Map<string, Waiting>();
  private waitingEvents = 0;
  private working: Promise<void> | undefined;
  /** Time of receipt, ms since 1970, of the oldest event that was left out; null: none. */
  behindSince: number | null = null;
  private readonly evaluations;
  private readonly lost;

  constructor(
    private readonly rules: RuleSet,
    private readonly open: OpenGroups,
    private readonly writer: AlertWriter,
    private readonly settings: AlertSettings,
    private readonly logger: Logger,
    ingest: TelemetryIngest,
    metrics: Metrics,
  ) {
    this.evaluations = metrics.counter('nexus_rule_evaluations_total', 'Telemetry events judged by rules about them');
    this.lost = metrics.counter('nexus_alert_evaluation_errors_total', 'Groups whose events could not be evaluated');
    ingest.onFlushed((rows) => this.take(rows, false));
  }

  /**
   * Judges events; never throws. `again`: they may have been judged before, here or elsewhere, so that only those count which are
   * newer than what their group has seen. `only`: what they say of all other groups is known.
   */
  take(rows: readonly JudgedEvent[], again: boolean, only?: GroupName): void {
    if (this.rules.isEmpty) return;
    let evaluated = 0;
    const context = new LazyContext();
    for (const row of rows) {
      for (const rule of this.rules.candidates(row)) {
        const groups = this.open.of(rule.id);
        // Data ends absences; none is open here.
        if ((rule.isAbsence && !groups) || !rule.concernsCandidate(row)) continue;
        if (only && (rule.id !== only.ruleId || rule.groupKey(row) !== only.groupKey)) continue;
        evaluated++;
        const verdict = rule.judgement(row, context);
        if (verdict !== 'breach' && (verdict === 'silent' || !groups)) continue;
        this.consider(rule, row, verdict, groups, again);
      }
    }
    this.evaluations.inc(evaluated);
  }

  /** Resolves once everything taken so far is stored or left out. */
  async settled(): Promise<void> {
    while (this.working) await this.working;
  }

  private consider(
    rule: CompiledRule,
    row: JudgedEvent,
    verdict: Verdict,
    groups: ReadonlyMap<string, OpenGroup> | undefined,
    again: boolean,
  ): void {
    const groupKey = rule.groupKey(row);
    const group = groups?.get(groupKey);
    if (!group) {
      // What is older than the newest of its series comes too late to raise anything.
      const late = !again && row.series !== null && row.ts < row.series.lastSeen;
      if (verdict !== 'breach' || late) return;
      // The database would refuse it as well, in a transaction for each event.
      if (this.open.count(rule.id) >= this.settings.maxGroups) this.writer.passOver(rule, 1);
      else this.enqueue(rule, groupKey, { row, verdict, again });
    } else if (again || group.busy > 0 || mayChange(group, row, verdict, rule)) {
      this.enqueue(rule, groupKey, { row, verdict, again });
    } else if (verdict === 'breach' && row.ts >= group.lastTs) {
      group.uncounted++;
      group.lastTs = row.ts;
      group.lastValue = row.metric?.value ?? null;
    }
  }

  private enqueue(rule: CompiledRule, groupKey: string, reading: Reading): void {
    const key = `${rule.id}\0${groupKey}`;
    const known = this.waiting.get(key);
    if (this.waitingEvents >= MAX_WAITING || (known && known.rule !== rule)) {
      this.leaveOut(reading.row);
      return;
    }
    this.waitingEvents++;
    if (known) {
      known.readings.push(reading);
      return;
    }
    const waiting = new Waiting(rule, groupKey, rule.grouping(reading.row));
    waiting.readings.push(reading);
    this.waiting.set(key, waiting);
    this.open.hold(rule.id, groupKey);
    this.working ??= runDetached(() => this.work()).finally(() => (this.working = undefined));
  }

  private async work(): Promise<void> {
    // What was flushed together is judged together.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.waiting.size > 0) {
      const batch = [...this.waiting].slice(0, AT_ONCE);
      for (const [key, { readings }] of batch) {
        this.waiting.delete(key);
        this.waitingEvents -= readings.length;
      }
      const works = batch.map(([, waiting]) => waiting);
      await this.write(works);
      for (const { rule, groupKey } of works) this.open.release(rule.id, groupKey);
    }
  }

  /** Never throws. A group that cannot be stored at all does not hold up the others. */
  private async write(works: readonly Waiting[]): Promise<void> {
    try {
      const outdated = new Set<GroupWork>(await this.writer.apply(works));
      if (outdated.size === 0) return;
      this.leaveOutAll(works.filter((work) => outdated.has(work)));
      await this.rules.reload();
    } catch (error) {
      if (isAppError(error) ? error.retryable : isTransient(error)) {
        this.logger.warn({ err: String(error) }, 'Alerts could not be written; their events will be judged again');
        this.leaveOutAll(works);
      } else if (works.length > 1) {
        for (const work of works) await this.write([work]);
      } else {
        this.lost.inc();
        this.logger.error({ rule: works[0].rule.id, err: String(error) }, 'Events could not be evaluated');
      }
    }
  }

  private leaveOutAll(works: readonly Waiting[]): void {
    for (const { readings } of works) for (const { row } of readings) this.leaveOut(row);
  }

  private leaveOut({ receivedAt }: JudgedEvent): void {
    this.behindSince = Math.min(this.behindSince ?? Infinity, receivedAt);
  }
}

/** Whether an event can move on a group that is not `ok`, as far as this process knows. */
function mayChange(group: OpenGroup, { ts }: JudgedEvent, verdict: Verdict, { timing }: CompiledRule): boolean {
  const elapsed = ts - (group.since ?? ts);
  if (group.phase === 'firing') return verdict === 'clear';
  if (group.phase === 'clearing') return verdict !== 'clear' || elapsed >= timing.clearForMs;
  return verdict !== 'breach' || timing.forMs === 0 || elapsed >= timing.forMs;
}
