import { createPrivateKey, generateKeyPairSync, sign } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { EncryptedColumns, SecretBox } from '../platform/crypto/index.js';
import { Database, type Tx } from '../platform/database/index.js';
import { AgentSigningKey } from './agent-signing-key.entity.js';

/** Hex Ed25519 signature of a text. */
export type Sign = (text: string) => string;

/**
 * One Ed25519 key pair per agent. The agent gets the public key when it joins and then executes only what the private key
 * has signed. The private key stays in the database, encrypted: whoever learns the agent's API key on the way cannot give
 * it commands.
 */
@Injectable()
@EncryptedColumns({
  table: 'agent_signing_keys',
  key: ['agent_id'],
  columns: ['private_key'],
  context: ({ agent_id }) => contextOf(agent_id),
})
export class AgentSigningKeys {
  constructor(
    private readonly db: Database,
    private readonly box: SecretBox,
  ) {}

  /** The agent's public key; makes the pair of an agent that has none yet. */
  async publicKey(tx: Tx, agentId: string): Promise<string> {
    const inserted = await tx
      .createQueryBuilder()
      .insert()
      .into(AgentSigningKey)
      .values({ agentId, ...this.newPair(agentId) })
      // The update changes nothing: it makes the row that is there already come back.
      .orUpdate(['agent_id'], ['agent_id'])
      .returning(['publicKey'])
      .execute();
    return (inserted.raw as { public_key: string }[])[0].public_key;
  }

  /** A new pair instead of the one the agent had. */
  async rotate(tx: Tx, agentId: string): Promise<string> {
    await this.remove(tx, agentId);
    return this.publicKey(tx, agentId);
  }

  async remove(tx: Tx, agentId: string): Promise<void> {
    await tx.delete(AgentSigningKey, { agentId });
  }

  /**
   * Signs with the private key that the agent has now; null when it has none.
   * @throws SecretBoxError when the key was encrypted with a master key that is not loaded
   */
  async signer(agentId: string): Promise<Sign | null> {
    const pair = await this.db.repository(AgentSigningKey).findOneBy({ agentId });
    if (!pair) return null;
    const der = Buffer.from(this.box.decrypt(pair.privateKey, contextOf(agentId)), 'base64');
    const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    return (text) => sign(null, Buffer.from(text), key).toString('hex');
  }

  private newPair(agentId: string): Pick<AgentSigningKey, 'publicKey' | 'privateKey'> {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const der = privateKey.export({ format: 'der', type: 'pkcs8' }).toString('base64');
    return {
      publicKey: String(publicKey.export({ format: 'jwk' }).x),
      privateKey: this.box.encrypt(der, contextOf(agentId)),
    };
  }
}

function contextOf(agentId: string): string {
  return `agent_signing_keys/${agentId}/private_key`;
}
