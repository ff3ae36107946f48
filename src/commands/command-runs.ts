import { type BeforeApplicationShutdown, Injectable, type OnModuleInit } from '@nestjs/common';
import { Database } from '../platform/database/index.js';
import { HandleJob, type JobContext } from '../platform/jobs/index.js';
import { Bus } from '../platform/realtime/index.js';
import { storable, storableJson } from './agent-reports.js';
import { BuiltinCommands } from './builtin-commands.js';
import type { CommandRow, CommandTransition } from './command-draft.js';
import { CommandTypes } from './command-types.service.js';
import { Command } from './command.entity.js';
import { COMMANDS_CHANGED, CommandWriter } from './command-writer.js';
import { RunBuiltin, RunCommand } from './commands.jobs.js';
import { EndpointClient, type RunOutcome } from './endpoint-client.js';

/** A run that is not renewed for so long belongs to a process that has died. */
const LEASE_MS = 20_000;
const FIRST_PAUSE_MS = 1000;
const MAX_PAUSE_MS = 60_000;

/** What a run needs besides the row that the writer locks. */
type RunInput = Pick<Command, 'parameters' | 'timeoutSeconds'>;

type ClaimedCommand = CommandRow & RunInput;

/**
 * Carries out the commands that go to no link: built-ins of the server and HTTP endpoints of agents. The
 * number of the run in the row is the fence: of two workers that think the run is theirs only one can write.
 */
@Injectable()
export class CommandRuns implements OnModuleInit, BeforeApplicationShutdown {
  private readonly running = new Map<string, AbortController>();
  private stopping = false;

  constructor(
    private readonly db: Database,
    private readonly writer: CommandWriter,
    private readonly types: CommandTypes,
    private readonly builtins: BuiltinCommands,
    private readonly endpoints: EndpointClient,
    private readonly bus: Bus,
  ) {}

  onModuleInit(): void {
    this.bus.subscribe<string[]>(COMMANDS_CHANGED, (ids) => {
      for (const id of ids) if (this.running.has(id)) void this.stopIfOver(id);
    });
  }

  beforeApplicationShutdown(): void {
    this.stopping = true;
  }

  @HandleJob(RunCommand)
  async run({ commandId, attempt }: { commandId: string; attempt: number }, job: JobContext): Promise<void> {
    const claimed = await this.claim(commandId, attempt);
    if (!claimed) return;
    const stop = new AbortController();
    this.running.set(claimed.id, stop);
    const renewal = setInterval(() => void this.renew(claimed), LEASE_MS / 4);
    const left = Math.max(0, (claimed.deadlineAt?.getTime() ?? Date.now()) - Date.now());
    const deadline = AbortSignal.timeout(left);
    try {
      const outcome = await this.execute(claimed, AbortSignal.any([stop.signal, job.signal, deadline]), left);
      // A worker that stops does not know how the run ended: the lease runs out and another worker decides.
      if (outcome.kind === 'unsent' ? this.stopping : job.signal.aborted && outcome.kind === 'unknown') return;
      await this.settle(claimed, outcome, deadline.aborted);
    } finally {
      clearInterval(renewal);
      this.running.delete(claimed.id);
    }
  }

  @HandleJob(RunBuiltin)
  runBuiltin(input: { commandId: string; attempt: number }, job: JobContext): Promise<void> {
    return this.run(input, job);
  }

  /** Takes the run when it is there to be taken: a queued command, or one whose worker has died. */
  private async claim(id: string, attempt: number): Promise<ClaimedCommand | null> {
    const command = await this.db.repository(Command).findOneBy({ id });
    if (!command) return null;
    const { commandType, executor, parameters, timeoutSeconds } = command;
    const repeatable = executor === 'builtin' || (await this.types.find(commandType))?.idempotent === true;
    let mine: CommandRow | null = null;
    await this.db.transaction((tx) =>
      this.writer.change(tx, [id], (transition) => {
        mine = begin(transition, attempt, repeatable) ? transition.row : null;
      }),
    );
    return mine === null ? null : { ...(mine as CommandRow), parameters, timeoutSeconds };
  }

  private async execute(command: ClaimedCommand, signal: AbortSignal, leftMs: number): Promise<RunOutcome> {
    if (command.executor === 'http') return this.endpoints.run(command, signal, leftMs);
    const builtin = this.builtins.find(command.commandType);
    if (!builtin) return failed('UNKNOWN_COMMAND', 'This server has no such command');
    try {
      const { message, data = null } = await Promise.race([builtin(command.parameters, signal), whenAborted(signal)]);
      return { kind: 'completed', message, data, output: '' };
    } catch (error) {
      if (signal.aborted) return { kind: 'unknown', message: 'The command was stopped' };
      return failed('COMMAND_FAILED', error instanceof Error ? error.message : 'The command failed');
    }
  }

  private async settle(command: ClaimedCommand, outcome: RunOutcome, outOfTime: boolean): Promise<void> {
    await this.db.transaction((tx) =>
      this.writer.change(tx, [command.id], (transition) => {
        const { row, now } = transition;
        if (row.status !== 'running' || row.attempts !== command.attempts) return;
        const late = outOfTime || (row.deadlineAt !== null && row.deadlineAt <= now);
        if (outcome.kind === 'unsent') {
          row.dueAt = new Date(now.getTime() + pauseAfter(row.attempts));
          transition.become('queued', outcome.message);
        } else if (outcome.kind === 'completed') {
          finish(transition, outcome);
        } else if (late) {
          transition.giveUp('timed_out', { code: 'TIMEOUT', message: 'The command did not end in time' });
        } else if (outcome.kind === 'unknown') {
          transition.giveUp('failed', { code: 'UNKNOWN_OUTCOME', message: outcome.message });
        } else {
          finish(transition, outcome);
        }
      }),
    );
  }

  private async renew({ id, attempts }: CommandRow): Promise<void> {
    await this.db
      .repository(Command)
      .update({ id, attempts, status: 'running' }, { dueAt: new Date(Date.now() + LEASE_MS) })
      .catch(() => undefined);
  }

  private async stopIfOver(id: string): Promise<void> {
    const runs = await this.db
      .repository(Command)
      .existsBy({ id, status: 'running' })
      .catch(() => true);
    if (!runs) this.running.get(id)?.abort(new Error('The command is over'));
  }
}

function begin(transition: CommandTransition, attempt: number, repeatable: boolean): boolean {
  const { row, now } = transition;
  if (row.attempts !== attempt || (row.deadlineAt !== null && row.deadlineAt <= now)) return false;
  const orphaned = row.status === 'running' && row.dueAt !== null && row.dueAt <= now;
  if (orphaned && !repeatable) {
    transition.giveUp('failed', {
      code: 'UNKNOWN_OUTCOME',
      message: 'The server was interrupted while the command ran',
    });
    return false;
  }
  if (orphaned) transition.note('running', 'Run again after an interruption');
  else if (row.status !== 'queued' || !transition.become('running')) return false;
  row.attempts += 1;
  row.dueAt = new Date(now.getTime() + LEASE_MS);
  return true;
}

function finish(transition: CommandTransition, outcome: Extract<RunOutcome, { kind: 'completed' | 'failed' }>): void {
  const { row, now } = transition;
  const output = Buffer.from(outcome.output, 'utf8');
  if (output.length > 0) {
    transition.output.push({ stream: 'stdout', offset: row.outputBytes, data: output });
    row.outputBytes += output.length;
  }
  const success = outcome.kind === 'completed';
  transition.finish(outcome.kind, {
    success,
    message: storable(outcome.message).slice(0, 2000),
    exit_code: null,
    signal: null,
    data: storableJson(outcome.data ?? null),
    error: success ? null : { code: outcome.code, message: storable(outcome.message).slice(0, 2000) },
    duration_ms: now.getTime() - (row.startedAt ?? row.createdAt).getTime(),
    output_bytes: row.outputBytes,
    output_truncated: false,
  });
}

function failed(code: string, message: string): RunOutcome {
  return { kind: 'failed', code, message, data: null, output: '' };
}

function pauseAfter(attempts: number): number {
  const pause = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(attempts - 1, 10));
  return pause * (0.75 + Math.random() / 2);
}

function whenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const abort = (): void => reject(new Error('The command was stopped'));
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
}
