import { createPrivateKey, generateKeyPairSync, sign } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { EncryptedColumns, SecretBox } from '../platform/crypto/index.js';
import { Database, type Tx } from '../platform/database/index.js';

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
    const { publicKey, box } = this.newPair(agentId);
    // The update changes nothing: it makes the row that is there already come back.
    const [row] = await tx.query<{ publicKey: string }[]>(
      `INSERT INTO agent_signing_keys AS k (agent_id, public_key, private_key) VALUES ($1, $2, $3)
       ON CONFLICT (agent_id) DO UPDATE SET agent_id = k.agent_id
       RETURNING public_key AS "publicKey"`,
      [agentId, publicKey, box],
    );
    return row.publicKey;
  }

  /** A new pair instead of the one the agent had. */
  async rotate(tx: Tx, agentId: string): Promise<string> {
    await this.remove(tx, agentId);
    return this.publicKey(tx, agentId);
  }

  async remove(tx: Tx, agentId: string): Promise<void> {
    await tx.query(`DELETE FROM agent_signing_keys WHERE agent_id = $1`, [agentId]);
  }

  /**
   * Signs with the private key that the agent has now; null when it has none.
   * @throws SecretBoxError when the key was encrypted with a master key that is not loaded
   */
  async signer(agentId: string): Promise<Sign | null> {
    const [row] = await this.db.query<{ box: string }>(
      `SELECT private_key AS box FROM agent_signing_keys WHERE agent_id = $1`,
      [agentId],
    );
    if (!row) return null;
    const der = Buffer.from(this.box.decrypt(row.box, contextOf(agentId)), 'base64');
    const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    return (text) => sign(null, Buffer.from(text), key).toString('hex');
  }

  private newPair(agentId: string): { publicKey: string; box: string } {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const der = privateKey.export({ format: 'der', type: 'pkcs8' }).toString('base64');
    return { publicKey: String(publicKey.export({ format: 'jwk' }).x), box: this.box.encrypt(der, contextOf(agentId)) };
  }
}

function contextOf(agentId: string): string {
  return `agent_signing_keys/${agentId}/private_key`;
}
