import { Injectable } from '@nestjs/common';
import { Database } from '../platform/database/index.js';
import { HandleJob, type JobContext } from '../platform/jobs/index.js';
import { AlertWriter, type GroupWork } from './alert-writer.js';
import { SweepAlerts } from './alerts.jobs.js';
import type { CompiledRule, Grouping } from './compiled-rule.js';
import type { GroupDraft } from './group-draft.js';
import { OpenGroups } from './open-groups.js';
import { Rejudge, type Seen } from './rejudge.js';
import { Absences } from './absences.js';
import { RuleSet } from './rule-set.js';

const BATCH = 200;
/** A process that has not been heard of for so long is dead; longer than any pause of one that lives. */
const DEAD_SECONDS = 10;
/** Of what a dead process received, the last came soon after its last beat. */
const AFTERMATH_MS = 5000;
/** How long it is remembered what an ended group has seen, so that nothing old raises it again. */
const KEEP_STATES_MINUTES = 10;

interface DueState {
  rule_id: string;
  group_key: string;
  grouping: Grouping;
}

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
    await this.forgetEnded();
  }

  /** Groups whose time has come: held long enough, or clear long enough. */
  private async moveOn(): Promise<void> {
    const due = await this.db.query<DueState>(
      `SELECT rule_id, group_key, grouping FROM alert_states WHERE due_at <= now() ORDER BY due_at LIMIT ${BATCH}`,
    );
    await this.apply(due, (draft) => draft.takeTime());
  }

  /** Holds each changed group against the events stored meanwhile. */
  private async recheck(signal: AbortSignal): Promise<void> {
    const due = await this.db.query<Seen & { group_id: string }>(
      `SELECT rule_id, group_id, group_key, grouping, last_ts, last_received_at, last_event_id FROM alert_states
       WHERE recheck_at <= now() ORDER BY recheck_at LIMIT ${BATCH}`,
    );
    if (due.length === 0) return;
    await this.open.refresh();
    for (const { group_id, ...seen } of due) {
      await this.rejudge.newer(seen, signal);
      await this.db.query(
        `UPDATE alert_states SET recheck_at = NULL WHERE rule_id = $1 AND group_id = $2 AND recheck_at <= now()`,
        [seen.rule_id, group_id],
      );
    }
  }

  /** Judges what processes that died had stored, and not judged. */
  private async takeOver(signal: AbortSignal): Promise<void> {
    const dead = await this.db.query<{ id: string; beat_at: Date; done_before: Date }>(
      `SELECT id, beat_at, done_before FROM alert_evaluators
       WHERE beat_at < now() - interval '${DEAD_SECONDS} seconds' ORDER BY beat_at LIMIT 5`,
    );
    for (const { id, beat_at, done_before } of dead) {
      const done = async (doneBefore: number): Promise<void> => {
        await this.db.query(`UPDATE alert_evaluators SET done_before = $2 WHERE id = $1 AND beat_at = $3`, [
          id,
          new Date(doneBefore),
          beat_at,
        ]);
      };
      await this.rejudge.received(done_before.getTime(), beat_at.getTime() + AFTERMATH_MS, { signal, done });
      await this.db.query(`DELETE FROM alert_evaluators WHERE id = $1 AND beat_at = $2`, [id, beat_at]);
    }
  }

  private async forgetEnded(): Promise<void> {
    await this.db.query(
      `DELETE FROM alert_states s USING alert_rules r
       WHERE s.rule_id = r.id AND s.phase = 'ok' AND s.recheck_at IS NULL
         AND s.updated_at < now() - interval '${KEEP_STATES_MINUTES} minutes'
         AND r.definition->'absent_for_seconds' = 'null'
         AND NOT EXISTS (SELECT 1 FROM alert_evaluators WHERE beat_at < now() - interval '${DEAD_SECONDS} seconds')`,
    );
  }

  private async apply(due: readonly DueState[], act: (draft: GroupDraft) => void): Promise<void> {
    const works: GroupWork[] = due.flatMap(({ rule_id, group_key, grouping }) => {
      const rule: CompiledRule | undefined = this.rules.get(rule_id);
      return rule ? [{ rule, groupKey: group_key, grouping, act }] : [];
    });
    if (works.length > 0) await this.writer.apply(works);
  }
}
