import { Injectable, type OnModuleInit } from '@nestjs/common';
import { Any, type FindOptionsWhere, IsNull, Like, Not } from 'typeorm';
import { AgentDirectory } from '../agents/index.js';
import { actorHas } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { type Holder } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { type OwnedKind, OwnerRights, type Rights } from '../platform/ownership/index.js';
import { CommandDispatch } from './command-dispatch.js';
import { CommandWriter } from './command-writer.js';
import { Command } from './command.entity.js';

const BATCH_SIZE = 500;
const REASON = 'Whoever sent the command may not do so any more';

/** Everything that one user has queued with one credential. */
interface QueuedCommands extends Holder {
  /** As the commands name it: that of a session too. */
  credential: string | null;
}

/** Cancels commands that no agent has begun, once their sender has lost the right to them or the agent has left the sender's labels. */
@Injectable()
export class CommandRights implements OwnedKind<QueuedCommands>, OnModuleInit {
  constructor(
    private readonly db: Database,
    private readonly writer: CommandWriter,
    private readonly dispatch: CommandDispatch,
    private readonly directory: AgentDirectory,
    private readonly rights: OwnerRights,
  ) {}

  onModuleInit(): void {
    this.rights.contribute(this);
  }

  /** What is done with a login goes by the rights of the account, and outlives the session. */
  async find({ actorId, credentialId }: Partial<Holder>): Promise<QueuedCommands[]> {
    const list = this.db
      .repository(Command)
      .createQueryBuilder('command')
      .select('command.createdBy', 'actorId')
      .addSelect('command.credential', 'credential')
      .distinct()
      .where({ status: 'queued', createdBy: Like('user\\_%') });
    if (actorId) list.andWhere({ createdBy: actorId });
    if (credentialId) list.andWhere({ credential: credentialId });
    const found = await list.getRawMany<{ actorId: string; credential: string | null }>();
    return found.map(({ actorId: owner, credential }) => ({
      actorId: owner,
      credential,
      credentialId: credential?.startsWith('sess_') ? null : credential,
    }));
  }

  async reduce(owned: QueuedCommands, rights: Rights): Promise<void> {
    if (!actorHas(rights, 'command:write')) await this.cancel(owned, null);
    else if (rights.targetLabels) await this.cancel(owned, await this.outside(owned, rights.targetLabels));
  }

  /** Agents with queued commands that do not have these labels. */
  private async outside(owned: QueuedCommands, labels: Readonly<Record<string, string>>): Promise<string[]> {
    const agents = await this.db
      .repository(Command)
      .createQueryBuilder('command')
      .select('command.agentId', 'agentId')
      .distinct()
      .where({ ...queuedBy(owned), agentId: Not(IsNull()) })
      .getRawMany<{ agentId: string }>();
    const outside: string[] = [];
    for (const { agentId: id } of agents) {
      const [agent] = await this.directory.find(publicId('agent', id));
      const has = agent ? this.directory.trustedLabels(agent) : {};
      if (Object.entries(labels).some(([name, value]) => has[name] !== value)) outside.push(id);
    }
    return outside;
  }

  /** `agents` null: all of them. */
  private async cancel(owned: QueuedCommands, agents: string[] | null): Promise<void> {
    if (agents?.length === 0) return;
    for (let count = BATCH_SIZE; count === BATCH_SIZE;) {
      const rows = await this.db.repository(Command).find({
        select: { id: true, agentId: true },
        where: { ...queuedBy(owned), executor: Not('fanout'), ...(agents ? { agentId: Any(agents) } : {}) },
        order: { id: 'ASC' },
        take: BATCH_SIZE,
      });
      count = rows.length;
      await this.db.transaction((tx) =>
        this.writer.change(
          tx,
          rows.map(({ id }) => id),
          (transition) => {
            if (transition.row.status === 'queued') {
              transition.giveUp('cancelled', { code: 'CANCELLED', message: REASON }, REASON);
            }
          },
        ),
      );
      // The frame of a queued one may be on its way.
      for (const { id, agentId } of rows) if (agentId) this.dispatch.cancel(agentId, id, REASON);
    }
  }
}

function queuedBy({ actorId, credential }: QueuedCommands): FindOptionsWhere<Command> {
  return { status: 'queued', createdBy: actorId, credential: credential ?? IsNull() };
}
