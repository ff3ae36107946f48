import { Injectable } from '@nestjs/common';
import { LessThanOrEqual } from 'typeorm';
import { Database } from '../platform/database/index.js';
import { HandleJob, type JobContext } from '../platform/jobs/index.js';
import { AlertEvaluator } from './alert-evaluator.entity.js';
import { AlertState } from './alert-state.entity.js';
import { deadEvaluators, deleteEndedStates, noteRechecked, statesToRecheck } from './alerts.queries.js';
import { AlertWriter, type GroupWork } from './alert-writer.js';
import { SweepAlerts } from './alerts.jobs.js';
import { OpenGroups } from './open-groups.js';
import { Rejudge } from './rejudge.js';
import { Absences } from './absences.js';
import { RuleSet } from './rule-set.js';

const BATCH = 200;
/** Of what a dead process received, the last came soon after its last beat. */
const AFTERMATH_MS = 5000;

/** What moves alerts without an event: time, silences that end, and the death of a process. Safe to run twice or in two processes. */
@Injectable()
export class AlertSweep {
  constructor(
    private readonly db: Database,
    private readonly rules: RuleSet,
    private readonly open: OpenGroups,
    private readonly writer: AlertWriter,
    private readonly rejudge: Rejudge,
    private readonly absences: Absences,
  ) {}

  @HandleJob(SweepAlerts)
  async sweep(_payload: unknown, { signal }: Pick<JobContext, 'signal'>): Promise<void> {
    await this.rules.reload();
    await this.moveOn();
    await this.absences.look();
    await this.recheck(signal);
    await this.writer.unsilence();
    await this.takeOver(signal);
    await deleteEndedStates(this.db.manager);
  }

  /** Groups whose time has come: held long enough, or clear long enough. */
  private async moveOn(): Promise<void> {
    const due = await this.db.repository(AlertState).find({
      where: { dueAt: LessThanOrEqual(new Date()) },
      order: { dueAt: 'ASC' },
      take: BATCH,
    });
    const works: GroupWork[] = due.flatMap(({ ruleId, groupKey, grouping }) => {
      const rule = this.rules.get(ruleId);
      return rule ? [{ rule, groupKey, grouping, act: (draft) => draft.takeTime() }] : [];
    });
    if (works.length > 0) await this.writer.apply(works);
  }

  /** Holds each changed group against the events stored meanwhile. */
  private async recheck(signal: AbortSignal): Promise<void> {
    const due = await statesToRecheck(this.db.manager, BATCH);
    if (due.length === 0) return;
    await this.open.refresh();
    for (const state of due) {
      await this.rejudge.newer(state, signal);
      await noteRechecked(this.db.manager, state);
    }
  }

  /** Judges what processes that died had stored, and not judged. */
  private async takeOver(signal: AbortSignal): Promise<void> {
    for (const { id, beatAt, doneBefore } of await deadEvaluators(this.db.manager)) {
      const evaluators = this.db.repository(AlertEvaluator);
      const done = async (doneBefore: number): Promise<void> => {
        await evaluators.update({ id, beatAt }, { doneBefore: new Date(doneBefore) });
      };
      await this.rejudge.received(doneBefore.getTime(), beatAt.getTime() + AFTERMATH_MS, { signal, done });
      await evaluators.delete({ id, beatAt });
    }
  }
}
