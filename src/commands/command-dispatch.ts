import { Injectable, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { Any, IsNull } from 'typeorm';
import { type AgentLink, AgentLinks, AgentSigningKeys, type Sign } from '../agents/index.js';
import { Database } from '../platform/database/index.js';
import { OnEvents, type StoredEvent } from '../platform/events/index.js';
import { parsePublicId, publicId } from '../platform/ids/index.js';
import { JobQueue } from '../platform/jobs/index.js';
import { Logger } from '../platform/observability/index.js';
import { type Dispatchable, envelopeOf } from './command-envelope.js';
import { Command } from './command.entity.js';
import { CommandCancelled, type CommandEventData, CommandQueued, CommandTimedOut } from './commands.events.js';
import { runJob } from './commands.jobs.js';
import { countWaiting, findMostUrgent, findQueued } from './commands.queries.js';

/** Commands on their way to one agent that it has not acknowledged yet. */
const WINDOW_SIZE = 32;
/** A frame without an acknowledgement on a link that still stands is sent again; the agent's ledger drops the copy. */
const RESEND_MS = 15_000;
const LOOK_AGAIN_MS = 3000;

/** One agent's link on this process. */
interface SendWindow {
  link: AgentLink;
  /** Undefined until it is asked for, and after it could not be read. */
  sign?: Promise<Sign | undefined>;
  /** Ids sent over this link and not acknowledged, with the time of sending. */
  unacked: Map<string, number>;
  /** More may be waiting in the database than was sent. */
  backlog: boolean;
  pumping: boolean;
  again: boolean;
}

/** Brings queued commands to the agents that hold a link on this process, the most urgent first. */
@Injectable()
export class CommandDispatch implements OnModuleInit, OnApplicationShutdown {
  private readonly windows = new Map<string, SendWindow>();
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly db: Database,
    private readonly links: AgentLinks,
    private readonly signingKeys: AgentSigningKeys,
    private readonly jobs: JobQueue,
    private readonly logger: Logger,
  ) {}

  onModuleInit(): void {
    this.links.onWork((agentId, link) => this.pumpSoon(agentId, link));
    this.timer = setInterval(() => void this.lookAgain(), LOOK_AGAIN_MS).unref();
  }

  onApplicationShutdown(): void {
    clearInterval(this.timer);
  }

  /** Sends a command that was just committed straight away when its agent is here and nothing waits before it. */
  offer(command: Dispatchable): void {
    const window = this.windows.get(command.agentId);
    if (!window || !this.links.isLocal(command.agentId)) {
      this.links.wake(command.agentId);
    } else if (window.backlog || window.pumping || window.unacked.size >= WINDOW_SIZE) {
      window.backlog = true;
      this.pumpSoon(command.agentId, window.link);
    } else {
      void this.send(window, command);
    }
  }

  /** The acknowledgement (or the end) of a command is stored: its place in the window is free. */
  acknowledged(agentId: string, commandId: string): void {
    const window = this.windows.get(agentId);
    if (window?.unacked.delete(commandId) && window.backlog) this.pumpSoon(agentId, window.link);
  }

  /** Tells the agent, wherever its link is, to stop a command. */
  cancel(agentId: string, commandId: string, reason: string): void {
    this.links.relay(agentId, { type: 'cancel', command_id: commandId, reason });
  }

  /** The guarantee behind the direct way: whatever was queued is looked at again by a job, many commands by one. */
  @OnEvents(CommandQueued, { handler: 'commands.dispatch', queue: 'commands' })
  async dispatch(queued: StoredEvent<CommandEventData>[]): Promise<void> {
    const waiting = await findQueued(this.db, idsOf(queued));
    const agents = waiting.flatMap(({ executor, agentId }) => (executor === 'link' && agentId ? [agentId] : []));
    this.links.wake(...new Set(agents));
    const runs = waiting.filter(({ executor }) => executor === 'builtin' || executor === 'http');
    await this.jobs.enqueueMany(runs.map((run) => runJob(run)));
  }

  /** The guarantee behind {@link cancel}: its frame is lost when the process that sends it dies, or the way between two does. */
  @OnEvents(CommandCancelled, { handler: 'commands.repeat-cancel', queue: 'commands' })
  async repeatCancel(cancelled: StoredEvent<CommandEventData>[]): Promise<void> {
    await this.stopOver(cancelled);
  }

  @OnEvents(CommandTimedOut, { handler: 'commands.stop-overdue', queue: 'commands' })
  async stopOverdue(timedOut: StoredEvent<CommandEventData>[]): Promise<void> {
    await this.stopOver(timedOut);
  }

  /** Tells the agents to stop what has ended without them; what they have reported as ended needs no word. */
  private async stopOver(ended: StoredEvent<CommandEventData>[]): Promise<void> {
    const commands = await this.db.repository(Command).find({
      select: { id: true, agentId: true, result: true },
      where: { id: Any(idsOf(ended)), executor: 'link', heldResult: IsNull() },
    });
    for (const { id, agentId, result } of commands) if (agentId && result) this.cancel(agentId, id, result.message);
  }

  private pumpSoon(agentId: string, link: AgentLink): void {
    this.pump(agentId, link).catch((error: unknown) => {
      this.logger.warn(
        { agent: publicId('agent', agentId), err: String(error) },
        'Queued commands could not be read and will be later',
      );
    });
  }

  private async pump(agentId: string, link: AgentLink): Promise<void> {
    const window = this.windowOf(agentId, link);
    window.again = window.pumping;
    if (window.pumping) return;
    window.pumping = true;
    try {
      do {
        window.again = false;
        const room = WINDOW_SIZE - window.unacked.size;
        // Whatever waits goes out as acknowledgements come in.
        window.backlog = room <= 0;
        if (room <= 0) return;
        const waiting = await findMostUrgent(this.db, agentId, [...window.unacked.keys()], room);
        window.backlog = waiting.length === room;
        for (const command of waiting) await this.send(window, command);
      } while (window.again && this.windows.get(agentId) === window);
    } finally {
      window.pumping = false;
    }
  }

  private async send(window: SendWindow, command: Dispatchable): Promise<void> {
    if (window.unacked.has(command.id)) return;
    window.unacked.set(command.id, Date.now());
    const sign = await this.signerOf(window);
    const envelope = envelopeOf(command);
    const sent = sign !== undefined && window.link.send({ type: 'command', envelope, signature: sign(envelope) });
    // Not sent: the row is still queued, the next link or the next look at the window sends it.
    if (!sent) window.unacked.delete(command.id);
  }

  private windowOf(agentId: string, link: AgentLink): SendWindow {
    const known = this.windows.get(agentId);
    if (known?.link === link) return known;
    const window: SendWindow = {
      link,
      unacked: new Map<string, number>(),
      backlog: false,
      pumping: false,
      again: false,
    };
    this.windows.set(agentId, window);
    return window;
  }

  private signerOf(window: SendWindow): Promise<Sign | undefined> {
    return (window.sign ??= this.signingKeys.signer(window.link.agentId).then(
      (sign) => sign ?? undefined,
      (error: unknown) => {
        const { agentId } = window.link;
        this.logger.warn(
          { agent: publicId('agent', agentId), err: String(error) },
          'The signing key of an agent could not be read',
        );
        return (window.sign = undefined);
      },
    ));
  }

  /** Finds what a lost wake-up or a lost frame left behind; forgets links that are gone. */
  private async lookAgain(): Promise<void> {
    const old = Date.now() - RESEND_MS;
    for (const [agentId, window] of this.windows) {
      if (!this.links.isLocal(agentId)) this.windows.delete(agentId);
      else for (const [id, at] of window.unacked) if (at < old) window.unacked.delete(id);
    }
    if (this.windows.size === 0) return;
    try {
      for (const { agentId, count } of await countWaiting(this.db, [...this.windows.keys()])) {
        const window = this.windows.get(agentId);
        if (window && count > window.unacked.size) this.pumpSoon(agentId, window.link);
      }
    } catch (error) {
      this.logger.debug({ err: String(error) }, 'The look for waiting commands failed and will be repeated');
    }
  }
}

function idsOf(events: StoredEvent<CommandEventData>[]): string[] {
  return events.flatMap(({ data }) => parsePublicId('cmd', data.command_id) ?? []);
}
