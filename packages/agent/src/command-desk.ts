import type { KeyObject } from 'node:crypto';
import path from 'node:path';
import { reasonOf } from './agent-error.js';
import { Catalogue, notRun } from './command-catalogue.js';
import { openEnvelope, parseEnvelope, Refusal } from './command-check.js';
import { CommandReports, type Outlet, resultOf } from './command-reports.js';
import type { CommandType } from './command-type.js';
import { killLeftovers, type Outcome, type Running } from './executor.js';
import { processStart } from './home.js';
import { Ledger, type LedgerEntry } from './ledger.js';
import type { AgentLog } from './log.js';
import { type OutputLog, OutputStore } from './output-log.js';
import { type CommandEnvelope, type CommandTypeAdvert, type ServerFrame, shownCommandId } from './protocol.js';
import { urgencyOf } from './urgency.js';

export interface DeskOptions {
  folder: string;
  commands: CommandType[];
  maxConcurrent: number;
  /** False for an agent whose home is not meant to survive it. */
  sync: boolean;
  log: AgentLog;
}

type CommandFrame = Extract<ServerFrame, { type: 'command' }>;

interface Job {
  entry: LedgerEntry;
  envelope: CommandEnvelope;
  output: OutputLog;
  running?: Running;
  /** Why it shall not start any more. */
  cancelled?: string;
}

const MOST_QUEUED = 100;
const MOST_BUILTINS = 1000;
/** More than a stopped program is given to end. */
const STOP_MS = 7000;
const RECOVERED_START_MS = 200;

/** Takes commands on, runs each at most once, and reports on it. */
export class CommandDesk {
  private readonly catalogue: Catalogue;
  private readonly ledger: Ledger;
  private readonly reports: CommandReports;
  private readonly outputs: OutputStore;
  /** Commands that are not over. */
  private readonly jobs = new Map<string, Job>();
  private readonly queue: Job[] = [];
  private programs = 0;
  private builtinsRunning = 0;
  private stopping = false;
  private graceEnd = 0;
  private starting: NodeJS.Timeout | undefined;
  private agentId = '';
  private signingKey: KeyObject | undefined;
  /** Milliseconds to add to this host's clock to get the server's. */
  private clockOffsetMs = 0;

  constructor(
    private readonly options: DeskOptions,
    private readonly outlet: Outlet,
  ) {
    this.catalogue = new Catalogue(options.commands);
    this.ledger = new Ledger(path.join(options.folder, 'ledger'), options.sync, options.log);
    this.reports = new CommandReports(outlet, (id) => this.ledger.settle(id));
    this.outputs = new OutputStore(path.join(options.folder, 'output'));
  }

  /**
   * Ends truthfully what an earlier life of the agent left, and queues again what it had not started: that runs once Nexus
   * had its say, which may have cancelled it meanwhile.
   */
  async recover(): Promise<void> {
    await this.catalogue.prepare();
    const entries = [...this.ledger.entries.values()];
    const cutOff = entries.filter(({ startedAt, result }) => startedAt && !result);
    killLeftovers(cutOff);
    this.outputs.keepOnly(this.ledger.entries);
    for (const entry of entries) {
      const envelope = parseEnvelope(entry.envelope);
      if (!envelope) continue;
      const job: Job = { entry, envelope, output: this.outputOf(envelope) };
      this.reports.add(entry, job.output);
      if (entry.result) continue;
      this.jobs.set(entry.id, job);
      if (entry.startedAt) {
        job.output.truncated = true;
        const message = 'The agent was ended while the command ran: whether it did its work cannot be told';
        this.finish(job, notRun('failed', 'UNKNOWN_OUTCOME', message));
      } else this.queue.push(job);
    }
    if (cutOff.length > 0) {
      this.options.log.warn('Commands were cut off by an end of the agent', { commands: cutOff.length });
    }
  }

  /** From here on commands count that are signed with the private key to this one. */
  trust(signingKey: KeyObject): void {
    this.signingKey = signingKey;
  }

  /** Programs and built-ins under way. */
  get running(): number {
    return this.programs + this.builtinsRunning;
  }

  /** Ids whose end Nexus does not know, oldest first. */
  unfinished(): string[] {
    return [...this.ledger.entries.keys()];
  }

  adverts(): CommandTypeAdvert[] {
    return this.catalogue.adverts();
  }

  welcomed(frame: Extract<ServerFrame, { type: 'welcome' }>): void {
    this.agentId = frame.agent_id;
    this.clockOffsetMs = Date.parse(frame.server_time) - Date.now() || 0;
    this.reports.resume(frame.resume);
    for (const job of [...this.queue]) {
      if (!this.reports.isUnwanted(job.entry.id)) continue;
      this.dequeue(job);
      this.finish(job, notRun('cancelled', 'CANCELLED', 'Nexus does not want it any more'));
    }
    // Cancellations follow the welcome.
    clearTimeout(this.starting);
    this.starting = setTimeout(() => this.startQueued(), RECOVERED_START_MS);
  }

  receive(frame: ServerFrame): void {
    if (frame.type === 'command') this.take(frame);
    else if (frame.type === 'cancel') this.cancel(frame.command_id, frame.reason);
    else if (frame.type === 'output_ack') this.reports.outputAcked(frame.command_id, frame.next_offset);
    else if (frame.type === 'result_ack') this.reports.resultAcked(frame.command_id);
  }

  writable(): void {
    this.reports.writable();
  }

  /**
   * Takes nothing more on, lets programs run for `graceMs`, cancels the rest and waits up to `farewellMs` until Nexus
   * knows. What was queued stays in the ledger: it has not started and may run at the next start.
   */
  async stop(graceMs: number, farewellMs: number): Promise<void> {
    this.stopping = true;
    clearTimeout(this.starting);
    this.graceEnd = Date.now() + graceMs;
    await until(() => this.running === 0 || Date.now() >= this.graceEnd);
    for (const job of this.jobs.values()) {
      job.cancelled ??= 'agent stopped';
      job.running?.stop('cancelled', 'agent stopped');
    }
    const stopEnd = Date.now() + STOP_MS;
    await until(() => this.running === 0 || Date.now() >= stopEnd);
    const farewellEnd = Date.now() + farewellMs;
    await until(() => !this.reports.pending || !this.outlet.open || Date.now() >= farewellEnd);
    this.reports.close();
    await this.ledger.close();
  }

  /** Ends the grace of a stop that is under way. */
  hurry(): void {
    this.graceEnd = 0;
  }

  private outputOf({ command_id, command_type }: CommandEnvelope): OutputLog {
    return this.outputs.open(command_id, this.catalogue.outputLimit(command_type));
  }

  private take(frame: CommandFrame): void {
    if (this.stopping) return;
    try {
      this.accept(frame, openEnvelope(frame, this.signingKey, this.agentId));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const { code, message } = error;
      const command_id = parseEnvelope(frame.envelope)?.command_id;
      this.options.log.warn('A command was refused', { command: command_id && shownCommandId(command_id), code });
      if (command_id) this.outlet.send({ type: 'command_refused', command_id, code, message });
    }
  }

  /** @throws Refusal */
  private accept(frame: CommandFrame, envelope: CommandEnvelope): void {
    const { command_id: id, command_type: type } = envelope;
    if (this.ledger.knows(id)) {
      // One that is on its way into the ledger is acknowledged when it is there.
      if (!this.jobs.has(id) || this.reports.has(id)) this.reports.again(id);
      return;
    }
    const expiresAt = Date.parse(envelope.expires_at);
    if (this.hasExpired(expiresAt)) throw new Refusal('EXPIRED', 'The command expired before it arrived');
    this.catalogue.check(envelope);
    const builtin = this.catalogue.isBuiltin(type);
    if (builtin ? this.builtinsRunning >= MOST_BUILTINS : this.queue.length >= MOST_QUEUED) {
      throw new Refusal('BUSY', 'Too many commands are waiting on this agent');
    }
    const entry: LedgerEntry = { id, envelope: frame.envelope, expiresAt };
    const job: Job = { entry, envelope, output: this.outputOf(envelope) };
    const atOnce = builtin || (this.programs < this.options.maxConcurrent && this.queue.length === 0);
    try {
      this.ledger.accept(entry);
      if (atOnce) this.ledger.start(entry, new Date().toISOString());
    } catch (error) {
      this.ledger.settle(id);
      throw new Refusal('STORAGE_FAILED', `The agent cannot write its ledger (${reasonOf(error)})`);
    }
    this.jobs.set(id, job);
    if (atOnce) this.occupy(type, 1);
    else this.queue.push(job);
    const saved = this.ledger.durable().finally(() => this.reports.add(entry, job.output));
    saved.then(
      () => atOnce && this.execute(job),
      (error: unknown) => this.unsaved(job, atOnce, error),
    );
  }

  /** Nothing is started that could be forgotten. */
  private unsaved(job: Job, started: boolean, error: unknown): void {
    this.options.log.error('The ledger is not durable', {
      command: shownCommandId(job.entry.id),
      reason: reasonOf(error),
    });
    this.dequeue(job);
    this.finish(job, notRun('failed', 'STORAGE_FAILED', 'The agent cannot write its ledger'));
    if (started) this.leave(job);
  }

  private hasExpired(expiresAt: number): boolean {
    return expiresAt <= Date.now() + this.clockOffsetMs || this.ledger.isBeforeMemory(expiresAt);
  }

  private cancel(id: string, why: string): void {
    const reason = why.slice(0, 1000);
    const job = this.jobs.get(id);
    if (!job) {
      this.options.log.debug('A command to cancel is not here', { command: shownCommandId(id) });
      return;
    }
    job.cancelled ??= reason;
    if (job.running) job.running.stop('cancelled', reason);
    else if (this.dequeue(job)) this.finish(job, notRun('cancelled', 'CANCELLED', reason));
  }

  private dequeue(job: Job): boolean {
    const place = this.queue.indexOf(job);
    if (place >= 0) this.queue.splice(place, 1);
    return place >= 0;
  }

  private startQueued(): void {
    while (!this.stopping && this.programs < this.options.maxConcurrent) {
      const job = this.mostUrgent();
      if (!job) return;
      this.dequeue(job);
      this.startQueuedJob(job);
    }
  }

  /** Of those equally urgent the one that came first. */
  private mostUrgent(): Job | undefined {
    const now = Date.now() + this.clockOffsetMs;
    const urgencies = this.queue.map(({ envelope }) => urgencyOf(envelope, now));
    return this.queue[urgencies.indexOf(Math.max(...urgencies))];
  }

  /** What waited may have expired, and after a restart the configuration may be another one. */
  private startQueuedJob(job: Job): void {
    const { entry } = job;
    try {
      if (this.hasExpired(entry.expiresAt)) throw new Refusal('EXPIRED', 'The command expired before it could start');
      this.catalogue.check(job.envelope);
      this.ledger.start(entry, new Date().toISOString());
    } catch (error) {
      const { code, message } = error instanceof Refusal ? error : { code: 'STORAGE_FAILED', message: reasonOf(error) };
      this.finish(job, notRun('failed', code, message));
      return;
    }
    this.occupy(job.envelope.command_type, 1);
    this.ledger.durable().then(
      () => {
        this.reports.started(entry.id);
        this.execute(job);
      },
      (error: unknown) => this.unsaved(job, true, error),
    );
  }

  /** The command is in the ledger as started: from here on it counts as run. */
  private execute(job: Job): void {
    const { entry, envelope } = job;
    this.run(job)
      .catch((error: unknown) => notRun('failed', 'AGENT_ERROR', reasonOf(error)))
      .then((outcome) => {
        this.finish(job, outcome);
        const fields = { command: shownCommandId(entry.id), type: envelope.command_type, status: outcome.status };
        if (this.catalogue.isBuiltin(envelope.command_type)) this.options.log.debug('A command ended', fields);
        else this.options.log.info('A command ended', fields);
        this.leave(job);
      })
      .catch((error: unknown) => {
        this.options.log.error('A command could not be ended', {
          command: shownCommandId(entry.id),
          reason: reasonOf(error),
        });
      });
  }

  private async run(job: Job): Promise<Outcome> {
    const { entry, envelope, output } = job;
    if (job.cancelled !== undefined) return notRun('cancelled', 'CANCELLED', job.cancelled);
    const running = this.catalogue.start(envelope, (stream, bytes) => {
      output.append(stream, bytes);
      this.reports.printed(entry.id);
    });
    job.running = running;
    if (running.pid !== undefined) this.ledger.spawned(entry, running.pid, processStart(running.pid));
    return running.done;
  }

  private finish(job: Job, outcome: Outcome): void {
    if (!this.jobs.delete(job.entry.id)) return;
    this.ledger.finish(job.entry, resultOf(job.entry, job.output, outcome));
    this.reports.finished(job.entry.id);
  }

  private leave(job: Job): void {
    this.occupy(job.envelope.command_type, -1);
    this.startQueued();
  }

  private occupy(type: string, by: 1 | -1): void {
    if (this.catalogue.isBuiltin(type)) this.builtinsRunning += by;
    else this.programs += by;
  }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
}
