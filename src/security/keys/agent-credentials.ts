import { Injectable } from '@nestjs/common';
import { IsNull } from 'typeorm';
import { Database, type Tx } from '../../platform/database/index.js';
import { builtInScopes } from '../access/built-in-roles.js';
import { Credential } from './credential.entity.js';
import { Credentials } from './credentials.js';

/** Keys of agents, for the domain that knows agents: made in its transactions, checked by the guard like any other. */
@Injectable()
export class AgentCredentials {
  constructor(
    private readonly db: Database,
    private readonly credentials: Credentials,
  ) {}

  /** Makes a key that acts as the agent, with the scopes of the role `agent`; the key is shown once. */
  async issue(tx: Tx, agent: { agentId: string; name: string }): Promise<{ key: string }> {
    const { key } = await this.credentials.create(tx, {
      kind: 'agent',
      name: agent.name,
      agentId: agent.agentId,
      scopes: builtInScopes(['agent']),
      expiresInDays: null,
    });
    return { key };
  }

  /** A new key instead of all the agent had; the old ones end with the commit. */
  async rotate(tx: Tx, agentId: string): Promise<{ key: string }> {
    const last = await tx.findOne(Credential, { where: { agentId }, order: { createdAt: 'DESC' } });
    await this.revokeAll(tx, agentId);
    return this.issue(tx, { agentId, name: last?.name ?? 'agent' });
  }

  async revokeAll(tx: Tx, agentId: string): Promise<void> {
    const live = await tx.findBy(Credential, { agentId, revokedAt: IsNull() });
    await this.credentials.revoke(
      tx,
      live.map(({ id }) => id),
    );
  }

  /** SHA-256 of the agent's live keys, newest first; both sides know them, so they sign command envelopes. */
  async keyHashes(agentId: string): Promise<Buffer[]> {
    const live = await this.db.repository(Credential).find({
      where: { agentId, revokedAt: IsNull() },
      order: { createdAt: 'DESC', id: 'ASC' },
    });
    return live.map(({ hash }) => hash);
  }
}
