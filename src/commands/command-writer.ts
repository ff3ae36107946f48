import { Injectable } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { Database, type Tx } from '../platform/database/index.js';
import { EventBus, type EventDefinition } from '../platform/events/index.js';
import { publicId } from '../platform/ids/index.js';
import { JobQueue } from '../platform/jobs/index.js';
import { Logger, Metrics } from '../platform/observability/index.js';
import { Bus } from '../platform/realtime/index.js';
import { CommandTransition, type CommandRow } from './command-draft.js';
import { type CommandState, isFinal, parentState, priorityWord, statusOf } from './command-status.js';
import {
  CommandCancelled,
  CommandCompleted,
  type CommandEventData,
  CommandFailed,
  CommandStarted,
  CommandTimedOut,
} from './commands.events.js';
import { SendCallback } from './commands.jobs.js';
import { countChildren, lockCommands, storeTransitions } from './commands.queries.js';

/** Bus channel: ids of commands whose state or output has changed, for those who follow their logs. */
export const COMMANDS_CHANGED = 'commands.changed';
/** So many ids stay below the size limit of a bus message. */
const IDS_PER_MESSAGE = 150;

const EVENTS: Partial<Record<CommandState, EventDefinition<CommandEventData>>> = {
  running: CommandStarted,
  completed: CommandCompleted,
  failed: CommandFailed,
  cancelled: CommandCancelled,
  timed_out: CommandTimedOut,
};

type Decide = (transition: CommandTransition) => void;

/** The only way a command's row changes: many rows in one transaction, with their events, output and parents. */
@Injectable()
export class CommandWriter {
  private readonly typical = new LRUCache<string, number>({ max: 500 });
  private readonly outcomes;
  private readonly duration;

  constructor(
    private readonly db: Database,
    private readonly events: EventBus,
    private readonly bus: Bus,
    private readonly jobs: JobQueue,
    private readonly logger: Logger,
    metrics: Metrics,
  ) {
    this.outcomes = metrics.counter('nexus_commands_total', 'Commands that ended', ['type', 'outcome']);
    this.duration = metrics.histogram(
      'nexus_command_duration_seconds',
      'Time from the creation of a command to its end',
      ['type'],
      [0.01, 0.025, 0.05, 0.1, 0.5, 1, 5, 30, 60, 300, 3600],
    );
  }

  /**
   * Locks the commands, lets `decide` change each and stores what changed. Ids that name no command are left out.
   * @returns the transitions in the order of their ids
   */
  async change(tx: Tx, ids: readonly string[], decide: Decide): Promise<CommandTransition[]> {
    const transitions = await lock(tx, ids);
    for (const transition of transitions) decide(transition);
    await this.store(
      tx,
      transitions.filter((d) => d.changed),
    );
    return transitions;
  }

  /** Milliseconds that commands of a type have taken lately on this process; null before the first. */
  typicalMs(type: string): number | null {
    return this.typical.get(type) ?? null;
  }

  private learn(type: string, ms: number): void {
    this.typical.set(type, Math.round((this.typical.get(type) ?? ms) * 0.8 + ms * 0.2));
  }

  private async store(tx: Tx, transitions: CommandTransition[]): Promise<void> {
    if (transitions.length === 0) return;
    await storeTransitions(tx, transitions);
    await this.events.publishMany(
      tx,
      transitions.flatMap((transition) =>
        transition.passed.flatMap((state) => {
          const event = EVENTS[state];
          return event
            ? [{ event, subject: publicId('cmd', transition.row.id), data: eventData(transition.row, state) }]
            : [];
        }),
      ),
    );
    // Parents after their children, always: whoever ends the last child sees all the others.
    const moved = transitions.filter((d) => d.row.parentId !== null && d.passed.length > 0);
    if (moved.length > 0) await this.rollUp(tx, [...new Set(moved.map((d) => d.row.parentId as string))]);
    this.db.afterCommit(tx, () => this.announce(transitions));
  }

  private async rollUp(tx: Tx, parentIds: string[]): Promise<void> {
    const parents = await lock(tx, parentIds);
    const counts = new Map<string, Partial<Record<CommandState, number>>>();
    for (const { parentId, status, count } of await countChildren(tx, parentIds)) {
      counts.set(parentId, { ...counts.get(parentId), [status]: count });
    }
    for (const transition of parents) {
      const children = counts.get(transition.row.id) ?? {};
      const state = parentState(children);
      if (isFinal(transition.row.status)) {
        // Cancelled as a whole: what became of the children is filled in.
        if (transition.row.result) transition.row.result.summary = children;
        transition.changed = true;
      } else if (!isFinal(state)) transition.become(state);
      else {
        const error = { code: 'CHILDREN_FAILED', message: 'Not every target completed the command' };
        transition.finish(state, {
          success: state === 'completed',
          message: Object.entries(children)
            .map(([word, n]) => `${n} ${word}`)
            .join(', '),
          exit_code: null,
          signal: null,
          data: null,
          error: state === 'completed' ? null : error,
          duration_ms: transition.now.getTime() - transition.row.createdAt.getTime(),
          output_bytes: 0,
          output_truncated: false,
          summary: children,
        });
      }
    }
    await this.store(
      tx,
      parents.filter((d) => d.changed),
    );
  }

  private announce(transitions: CommandTransition[]): void {
    const ids = transitions.map((d) => d.row.id);
    for (let i = 0; i < ids.length; i += IDS_PER_MESSAGE) {
      this.bus.publish(COMMANDS_CHANGED, ids.slice(i, i + IDS_PER_MESSAGE));
    }
    for (const { row, passed } of transitions) {
      const last = passed.at(-1);
      if (last === undefined || !isFinal(last)) continue;
      if (last === 'completed' && row.startedAt) this.learn(row.commandType, Date.now() - row.createdAt.getTime());
      this.outcomes.inc({ type: row.commandType, outcome: last });
      this.duration.observe({ type: row.commandType }, (Date.now() - row.createdAt.getTime()) / 1000);
      if (row.callbackUrl === null) continue;
      // The sweep finds it too: a callback that cannot be queued now is only late.
      this.jobs.enqueue(SendCallback, { commandId: row.id, attempt: 0 }).catch((error: unknown) => {
        this.logger.warn({ err: String(error) }, 'A callback could not be queued and will be found by the sweep');
      });
    }
  }
}

function eventData(row: CommandRow, state: CommandState): CommandEventData {
  const { result } = row;
  return {
    command_id: publicId('cmd', row.id),
    command_type: row.commandType,
    target: row.target,
    agent_id: row.agentId && publicId('agent', row.agentId),
    parent_id: row.parentId && publicId('cmd', row.parentId),
    source: row.targetName ?? row.createdBy,
    priority: priorityWord(row.priority),
    status: statusOf(state),
    substatus: state,
    ...(isFinal(state) && result
      ? {
          ...(result.error ? { error: result.error } : {}),
          exit_code: result.exit_code,
          duration_ms: result.duration_ms,
        }
      : {}),
  };
}

async function lock(tx: Tx, ids: readonly string[]): Promise<CommandTransition[]> {
  const rows = await lockCommands(tx, ids);
  const now = new Date();
  return rows.map((row) => new CommandTransition(row, now));
}
