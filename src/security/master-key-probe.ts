import { Injectable } from '@nestjs/common';
import { SecretBox, SecretBoxError } from '../platform/crypto/index.js';
import { Database, StartError } from '../platform/database/index.js';

const CONTEXT = 'master_key_probe.sealed';
const PROBE = 'nexus';

/** Keeps a process with other master keys from writing what the rest cannot read. */
@Injectable()
export class MasterKeyProbe {
  constructor(
    private readonly db: Database,
    private readonly box: SecretBox,
  ) {}

  /** @throws StartError with one sentence when the keys of this process are not those of the database */
  async check(): Promise<void> {
    await this.db.query('INSERT INTO master_key_probe (sealed) VALUES ($1) ON CONFLICT DO NOTHING', [this.seal()]);
    const [{ sealed }] = await this.db.query<{ sealed: string }>('SELECT sealed FROM master_key_probe');
    try {
      this.box.decrypt(sealed, CONTEXT);
    } catch (error) {
      if (!(error instanceof SecretBoxError)) throw error;
      throw new StartError(
        'The master keys of this process are not those of the database: give it the NEXUS_MASTER_KEYS of the other processes, or the file master-key of the data folder that the database was first used with.',
      );
    }
    // After a rotation the old key may be taken away.
    if (this.box.needsRotation(sealed)) await this.db.query('UPDATE master_key_probe SET sealed = $1', [this.seal()]);
  }

  private seal(): string {
    return this.box.encrypt(PROBE, CONTEXT);
  }
}
