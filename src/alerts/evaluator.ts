import { setImmediate as turn } from 'node:timers/promises';
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
/** Events that no rule has judged yet, and characters of their data; past either they are read again from the table later. */
const MAX_UNJUDGED = 20_000;
const MAX_UNJUDGED_CHARACTERS = 64_000_000;
/** How long judging may go on before the event loop does something else. */
const SLICE_MS = 10;
/** Judged so long after it was stored, an event may have been read from the table and judged meanwhile. */
const OVERDUE_MS = 1000;

export interface GroupName {
  ruleId: string;
  groupKey: string;
}

/** Events that wait to be judged. */
interface Unjudged {
  rows: readonly JudgedEvent[];
  again: boolean;
  only: GroupName | undefined;
  /** What was older than the newest of its series when it came, so that it is too late to raise anything. */
  late: ReadonlySet<JudgedEvent>;
  takenAt: number;
  /** The oldest time of receipt among them. */
  receivedSince: number;
  characters: number;
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
  /** In the order they came. */
  private readonly unjudged = new Set<Unjudged>();
  private unjudgedEvents = 0;
  private unjudgedCharacters = 0;
  /** Resolves once everything taken so far is judged. */
  private judging: Promise<void> = Promise.resolve();
  private sliceEnds = 0;
  private hurried = false;
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
   * Judges events, soon and in the order they were taken; never throws. `again`: they may have been judged before, here or elsewhere,
   * so that only those count which are newer than what their group has seen. `only`: what they say of all other groups is known.
   */
  take(rows: readonly JudgedEvent[], again: boolean, only?: GroupName): void {
    if (this.rules.isEmpty || rows.length === 0) return;
    const batch: Unjudged = {
      rows,
      again,
      only,
      late: new Set(again ? [] : rows.filter(({ ts, series }) => series !== null && ts < series.lastSeen)),
      takenAt: performance.now(),
      receivedSince: rows.reduce((oldest, { receivedAt }) => Math.min(oldest, receivedAt), Infinity),
      characters: rows.reduce((sum, { data }) => sum + data.length, 0),
    };
    const tooMany =
      this.unjudgedEvents + rows.length > MAX_UNJUDGED ||
      this.unjudgedCharacters + batch.characters > MAX_UNJUDGED_CHARACTERS;
    // What is read again comes page by page, each when the one before is judged.
    if (this.hurried || (tooMany && !again)) {
      for (const row of rows) this.leaveOut(row);
      return;
    }
    this.unjudged.add(batch);
    this.unjudgedEvents += rows.length;
    this.unjudgedCharacters += batch.characters;
    this.judging = runDetached(() => this.judging.then(() => this.judge(batch)));
  }

  /** Resolves once everything taken so far is stored or left out. */
  async settled(): Promise<void> {
    await this.judging;
    while (this.working) await this.working;
  }

  /** From now on what is not judged is left out: the process cannot wait for it. */
  hurry(): void {
    this.hurried = true;
  }

  /** The oldest time of receipt of what is left out or not judged yet; Infinity: there is none. */
  get openSince(): number {
    const since = this.behindSince ?? Infinity;
    return [...this.unjudged].reduce((oldest, { receivedSince }) => Math.min(oldest, receivedSince), since);
  }

  /** Gives the event loop back after each slice; never throws. */
  private async judge(batch: Unjudged): Promise<void> {
    const context = new LazyContext();
    let evaluated = 0;
    try {
      for (const row of batch.rows) {
        for (const rule of this.rules.candidates(row)) {
          if (performance.now() >= this.sliceEnds) await this.nextSlice();
          if (this.hurried) this.leaveOut(row);
          else if (this.evaluate(rule, row, batch, context)) evaluated++;
        }
      }
    } catch (error) {
      this.lost.inc();
      this.logger.error({ err: String(error) }, 'Events could not be evaluated');
    }
    this.evaluations.inc(evaluated);
    this.unjudged.delete(batch);
    this.unjudgedEvents -= batch.rows.length;
    this.unjudgedCharacters -= batch.characters;
  }

  private async nextSlice(): Promise<void> {
    await turn();
    this.sliceEnds = performance.now() + SLICE_MS;
  }

  /** Whether the rule is about the event at all. */
  private evaluate(rule: CompiledRule, row: JudgedEvent, batch: Unjudged, context: LazyContext): boolean {
    const { only, late, takenAt } = batch;
    const groups = this.open.of(rule.id);
    // Data ends absences; none is open here.
    if ((rule.isAbsence && !groups) || !rule.concernsCandidate(row)) return false;
    if (only && (rule.id !== only.ruleId || rule.groupKey(row) !== only.groupKey)) return false;
    const verdict = rule.judgement(row, context);
    if (verdict !== 'breach' && (verdict === 'silent' || !groups)) return true;
    const again = batch.again || performance.now() - takenAt > OVERDUE_MS;
    this.consider(rule, { row, verdict, again }, groups, late.has(row));
    return true;
  }

  private consider(
    rule: CompiledRule,
    reading: Reading,
    groups: ReadonlyMap<string, OpenGroup> | undefined,
    late: boolean,
  ): void {
    const { row, verdict, again } = reading;
    const groupKey = rule.groupKey(row);
    const group = groups?.get(groupKey);
    if (!group) {
      if (verdict !== 'breach' || late) return;
      // The database would refuse it as well, in a transaction for each event.
      if (this.open.count(rule.id) >= this.settings.maxGroups) this.writer.passOver(rule, 1);
      else this.enqueue(rule, groupKey, reading);
    } else if (again || group.busy > 0 || mayChange(group, row, verdict, rule)) {
      this.enqueue(rule, groupKey, reading);
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
    this.working ??= runDetached(() => this.work());
  }

  private async work(): Promise<void> {
    // What was flushed together is judged together.
    await turn();
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
    this.working = undefined;
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
