import { Injectable, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { Any, In } from 'typeorm';
import type { ServerFrame } from '@nexus/agent/protocol';
import { type AgentLink, AgentLinks } from '../agents/index.js';
import { CommandSettings } from './commands.settings.js';
import { runInContext, systemActor } from '../platform/context/index.js';
import { Database, isDataError } from '../platform/database/index.js';
import { requestIdOf } from '../platform/http/index.js';
import { Logger } from '../platform/observability/index.js';
import { type AgentReport, applyReport, isNotNow, resumeOffset } from './agent-reports.js';
import { CommandDispatch } from './command-dispatch.js';
import { isFinal } from './command-status.js';
import { CommandWriter } from './command-writer.js';
import { Command } from './command.entity.js';

interface Incoming {
  link: AgentLink;
  id: string;
  report: AgentReport;
  done: () => void;
}

const REPORTS = ['command_ack', 'command_started', 'command_output', 'command_result', 'command_refused'] as const;
const MAX_REPORTS = 500;
/** Milliseconds that the first report after a pause waits for others. */
const GATHER_MS = 2;
const RETRY_MS = 250;
/** A hello that lists this many may have been cut: nothing follows from what it does not list. */
const MANY_UNFINISHED = 1000;

/**
 * Takes what agents report. Reports that arrive together are stored together: one transaction at a time, and whatever comes
 * meanwhile joins the next one. Replies follow the commit.
 */
@Injectable()
export class CommandInbox implements OnModuleInit, OnApplicationShutdown {
  private waiting: Incoming[] = [];
  private working: Promise<void> | undefined;
  private stopped = false;
  /** Commands that an agent came back with although they had ended meanwhile. */
  private readonly over = new WeakMap<AgentLink, Pick<Command, 'id' | 'status'>[]>();

  constructor(
    private readonly db: Database,
    private readonly links: AgentLinks,
    private readonly writer: CommandWriter,
    private readonly dispatch: CommandDispatch,
    private readonly settings: CommandSettings,
    private readonly logger: Logger,
  ) {}

  onModuleInit(): void {
    for (const type of REPORTS) this.links.handle(type, (link, frame) => this.take(link, frame));
    this.links.onHello((link, hello) => this.resume(link, hello.unfinished));
    // The first call for a link follows its welcome: nothing may be sent before that.
    this.links.onWork((_agentId, link) => this.cancelOver(link));
  }

  async onApplicationShutdown(): Promise<void> {
    this.stopped = true;
    await this.working;
  }

  /** Resolves when the report is stored or refused: until then it counts against what the link may have in work. */
  private take(link: AgentLink, report: AgentReport): Promise<void> {
    return new Promise((done) => {
      this.waiting.push({ link, id: report.command_id, report, done });
      this.working ??= this.work().finally(() => {
        this.working = undefined;
      });
    });
  }

  private async work(): Promise<void> {
    // A quick command's acknowledgement, start and result follow each other closely: one transaction for all of them.
    await new Promise((resolve) => setTimeout(resolve, GATHER_MS));
    while (this.waiting.length > 0) {
      const batch = this.waiting.splice(0, MAX_REPORTS);
      await runInContext({ requestId: requestIdOf(undefined), startedAt: performance.now(), actor: systemActor }, () =>
        this.storeUntilDone(batch),
      );
      for (const { done } of batch) done();
    }
  }

  /** While the database is away the reports wait here; one that cannot be stored does not take the others with it. */
  private async storeUntilDone(batch: Incoming[]): Promise<void> {
    for (;;) {
      try {
        await this.store(batch);
        return;
      } catch (error) {
        this.logger.warn({ err: String(error), reports: batch.length }, 'Reports of agents could not be stored');
        if (this.stopped) return;
        if (isDataError(error) || error instanceof TypeError) break;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
    const ids = [...new Set(batch.map(({ id }) => id))];
    if (ids.length === 1) {
      for (const { link, report } of batch) link.send(refusal('REPORT_INVALID', report.command_id, 'cannot be stored'));
      return;
    }
    for (const id of ids) await this.storeUntilDone(batch.filter((incoming) => incoming.id === id));
  }

  private async store(batch: Incoming[]): Promise<void> {
    const byCommand = new Map<string, Incoming[]>();
    for (const incoming of batch) {
      const list = byCommand.get(incoming.id);
      if (list) list.push(incoming);
      else byCommand.set(incoming.id, [incoming]);
    }
    const replies: { link: AgentLink; frame: ServerFrame }[] = [];
    await this.db.transaction(async (tx) => {
      replies.length = 0;
      const owned = new Set<Incoming>();
      await this.writer.change(tx, [...byCommand.keys()], (transition) => {
        for (const incoming of byCommand.get(transition.row.id) ?? []) {
          // Only the agent that the command is for may report on it.
          if (transition.row.executor !== 'link' || transition.row.agentId !== incoming.link.agentId) continue;
          owned.add(incoming);
          const frame = applyReport(transition, incoming.report, this.settings.outputLimit);
          if (frame) replies.push({ link: incoming.link, frame });
        }
      });
      for (const incoming of batch) {
        if (!owned.has(incoming)) {
          replies.push({ link: incoming.link, frame: unknownCommand(incoming.report.command_id) });
        }
      }
    });
    for (const { link, frame } of onlyLastAcks(replies)) link.send(frame);
    for (const { link, id, report } of batch) {
      if (!isNotNow(report)) this.dispatch.acknowledged(link.agentId, id);
    }
  }

  /** Tells an agent that comes back what is still wanted of each command it holds. */
  private async resume(link: AgentLink, unfinished: string[]): Promise<{ command_id: string; next_offset: number }[]> {
    const held = new Set(unfinished);
    // What was reported before counts before anything is concluded.
    await this.working;
    const ofLink = { agentId: link.agentId, executor: 'link' as const };
    const rows = await this.db.repository(Command).find({
      select: { id: true, status: true, heldResult: true, outputBytes: true },
      where: [
        { ...ofLink, id: Any([...held]) },
        { ...ofLink, status: In(['delivered', 'running']) },
      ],
    });
    const offsets = new Map<string, number>();
    const lost: string[] = [];
    for (const row of rows) {
      if (!held.has(row.id)) lost.push(row.id);
      else offsets.set(row.id, resumeOffset(row));
    }
    const over = rows.filter((row) => isFinal(row.status) && (offsets.get(row.id) ?? -1) >= 0);
    if (over.length > 0) this.over.set(link, over);
    if (unfinished.length < MANY_UNFINISHED) await this.giveUpLost(lost);
    return unfinished.map((command_id) => ({ command_id, next_offset: offsets.get(command_id) ?? -1 }));
  }

  private cancelOver(link: AgentLink): void {
    for (const { id, status } of this.over.get(link) ?? []) {
      link.send({ type: 'cancel', command_id: id, reason: `The command is ${status}` });
    }
    this.over.delete(link);
  }

  /** The agent took these on and knows nothing of them any more: whether they ran cannot be told. */
  private async giveUpLost(ids: string[]): Promise<void> {
    if (ids.length === 0) return;
    const error = { code: 'UNKNOWN_OUTCOME', message: 'The agent came back without a record of this command' };
    await this.db.transaction((tx) =>
      this.writer.change(tx, ids, (transition) => {
        if (transition.row.status === 'delivered' || transition.row.status === 'running') {
          transition.giveUp('failed', error);
        }
      }),
    );
  }
}

/** Of several output acknowledgements of one command only the last says something. */
function onlyLastAcks(replies: { link: AgentLink; frame: ServerFrame }[]): { link: AgentLink; frame: ServerFrame }[] {
  const last = new Map<string, ServerFrame>();
  for (const { frame } of replies) if (frame.type === 'output_ack') last.set(frame.command_id, frame);
  return replies.filter(({ frame }) => frame.type !== 'output_ack' || last.get(frame.command_id) === frame);
}

function unknownCommand(commandId: string): ServerFrame {
  return refusal('UNKNOWN_COMMAND', commandId, 'is not a command of this agent');
}

function refusal(code: string, commandId: string, issue: string): ServerFrame {
  return { type: 'error', code, message: `${commandId.slice(0, 60)} ${issue}` };
}
