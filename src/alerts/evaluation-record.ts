import { randomUUID } from 'node:crypto';
import { type BeforeApplicationShutdown, Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { MoreThan } from 'typeorm';
import { Settings } from '../platform/config/index.js';
import { Database } from '../platform/database/index.js';
import { Logger } from '../platform/observability/index.js';
import { AlertEvaluator } from './alert-evaluator.entity.js';
import { addRepeats, beat } from './alerts.queries.js';
import { Evaluator } from './evaluator.js';
import type { Repeats } from './group-draft.js';
import { OpenGroups } from './open-groups.js';
import { Rejudge } from './rejudge.js';
import { RuleSet } from './rule-set.js';

const BEAT_MS = 1000;
/** Longest time from an event's receipt until it is stored and handed to the evaluator, with room to spare. */
const ON_THE_WAY_MS = 35_000;
/** How long a stop waits for events to be judged; what is left then is another process's, or this one's after it has started again. */
const STOP_MS = 3000;

/**
 * Writes down how far this process has come with judging what it takes in, so that another one can go on from there when it dies
 * between the commit of an event and its evaluation. Keeps what it remembers of open groups up to date on the way.
 */
@Injectable()
export class EvaluationRecord implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly id = randomUUID();
  private timer: NodeJS.Timeout | undefined;
  private beating: Promise<void> | undefined;
  private registered = false;
  private readonly stopping = new AbortController();

  constructor(
    private readonly db: Database,
    private readonly evaluator: Evaluator,
    private readonly rejudge: Rejudge,
    private readonly rules: RuleSet,
    private readonly open: OpenGroups,
    private readonly settings: Settings,
    private readonly logger: Logger,
  ) {}

  async onApplicationBootstrap(): Promise<void> {
    await this.rules.reload();
    await this.beat();
    this.timer = setInterval(() => void this.beat(), BEAT_MS).unref();
  }

  /** Ends cleanly: what was taken in is judged, and nobody needs to look after it. */
  async beforeApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    this.stopping.abort();
    const patience = setTimeout(() => this.evaluator.hurry(), STOP_MS);
    await this.beating;
    await this.evaluator.settled();
    clearTimeout(patience);
    if (!this.registered) return;
    try {
      await this.flushCounts();
      const { behindSince } = this.evaluator;
      const records = this.db.repository(AlertEvaluator);
      if (behindSince === null) {
        await records.delete({ id: this.id });
      } else {
        const doneBefore = new Date(behindSince);
        await records.update({ id: this.id, doneBefore: MoreThan(doneBefore) }, { doneBefore });
      }
    } catch (error) {
      this.logger.warn({ err: String(error) }, 'Another process will look after the last alerts');
    }
  }

  /** One round at a time; never throws. */
  beat(): Promise<void> {
    this.beating ??= this.round()
      .catch((error: unknown) => {
        if (this.stopping.signal.aborted) return;
        this.logger.warn({ err: String(error) }, 'The state of alerts could not be brought up to date');
      })
      .finally(() => (this.beating = undefined));
    return this.beating;
  }

  private async round(): Promise<void> {
    if (this.rules.isEmpty && !this.registered) return;
    await this.open.refresh();
    this.open.keepOnly((id) => this.rules.get(id) !== undefined);
    if (!this.settings.runsApi) return;
    await this.flushCounts();
    const behindSince = this.evaluator.behindSince;
    const doneBefore = Math.min(Date.now() - ON_THE_WAY_MS, this.evaluator.openSince);
    await beat(this.db.manager, { id: this.id, doneBefore: new Date(doneBefore) });
    this.registered = true;
    if (behindSince === null) return;
    this.evaluator.behindSince = null;
    try {
      await this.rejudge.received(behindSince, Date.now(), { signal: this.stopping.signal });
    } catch (error) {
      this.evaluator.behindSince = Math.min(behindSince, this.evaluator.behindSince ?? Infinity);
      throw error;
    }
  }

  /** Brings counts and last values of open alerts up to date: once a round, however many events there were. */
  private async flushCounts(): Promise<void> {
    const repeats: Repeats[] = [];
    for (const [, groups] of this.open) {
      for (const group of groups.values()) {
        const { alertId, uncounted: count, lastValue, lastTs } = group;
        if (count === 0 || alertId === null) continue;
        repeats.push({ alertId, count, lastValue, lastTs });
        group.uncounted = 0;
      }
    }
    await addRepeats(this.db.manager, repeats);
  }
}
