import { Injectable, type OnModuleInit } from '@nestjs/common';
import { AgentDirectory } from '../agents/index.js';
import { actorHas } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { type Holder, publicId } from '../platform/http/index.js';
import { type OwnedKind, OwnerRights, type Rights } from '../platform/ownership/index.js';
import { CommandDispatch } from './command-dispatch.js';
import { CommandWriter } from './command-writer.js';

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
  find({ actorId, credentialId }: Partial<Holder>): Promise<QueuedCommands[]> {
    return this.db.query<QueuedCommands>(
      `SELECT DISTINCT created_by AS "actorId", credential,
         CASE WHEN credential NOT LIKE 'sess\\_%' THEN credential END AS "credentialId"
       FROM commands WHERE status = 'queued' AND created_by LIKE 'user\\_%'
         AND ($1::text IS NULL OR created_by = $1) AND ($2::text IS NULL OR credential = $2)`,
      [actorId ?? null, credentialId ?? null],
    );
  }

  async reduce(owned: QueuedCommands, rights: Rights): Promise<void> {
    if (!actorHas(rights, 'command:write')) await this.cancel(owned, null);
    else if (rights.targetLabels) await this.cancel(owned, await this.outside(owned, rights.targetLabels));
  }

  /** Agents with queued commands that do not have these labels. */
  private async outside(owned: QueuedCommands, labels: Readonly<Record<string, string>>): Promise<string[]> {
    const rows = await this.db.query<{ agent_id: string }>(
      `SELECT DISTINCT agent_id FROM commands
       WHERE status = 'queued' AND created_by = $1 AND credential IS NOT DISTINCT FROM $2 AND agent_id IS NOT NULL`,
      [owned.actorId, owned.credential],
    );
    const outside: string[] = [];
    for (const { agent_id: id } of rows) {
      const [agent] = await this.directory.find(publicId('agent', id));
      const has = agent ? this.directory.trustedLabels(agent) : {};
      if (Object.entries(labels).some(([name, value]) => has[name] !== value)) outside.push(id);
    }
    return outside;
  }

  /** `agents` null: all of them. */
  private async cancel({ actorId, credential }: QueuedCommands, agents: string[] | null): Promise<void> {
    if (agents?.length === 0) return;
    for (let count = BATCH_SIZE; count === BATCH_SIZE;) {
      const rows = await this.db.query<{ id: string; agent_id: string | null }>(
        `SELECT id, agent_id FROM commands
         WHERE status = 'queued' AND executor <> 'fanout' AND created_by = $1 AND credential IS NOT DISTINCT FROM $2
           AND ($3::uuid[] IS NULL OR agent_id = ANY ($3))
         ORDER BY id LIMIT ${BATCH_SIZE}`,
        [actorId, credential, agents],
      );
      count = rows.length;
      await this.db.transaction((tx) =>
        this.writer.change(
          tx,
          rows.map(({ id }) => id),
          (draft) => {
            if (draft.row.status === 'queued') {
              draft.giveUp('cancelled', { code: 'CANCELLED', message: REASON }, REASON);
            }
          },
        ),
      );
      // The frame of a queued one may be on its way.
      for (const { id, agent_id } of rows) if (agent_id) this.dispatch.cancel(agent_id, id, REASON);
    }
  }
}
