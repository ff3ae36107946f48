import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { MasterKeys, SecretBox, SecretBoxError } from '../../platform/crypto/index.js';
import { Database, StartError, type Tx } from '../../platform/database/index.js';
import { Logger } from '../../platform/observability/index.js';
import { MasterKeyProbe as StoredProbe } from './master-key-probe.entity.js';
import { announceKey, forgetKeys, lockProbes, othersEncrypting } from './master-keys.queries.js';

const CONTEXT = 'master_key_probe.sealed';
const PROBE = 'nexus';
const ANNOUNCE_MS = 20_000;

/**
 * The master keys that values of the database are or may be encrypted with. Every process must hold all of them, so that none
 * writes or meets what another cannot read.
 */
@Injectable()
export class MasterKeyProbe implements OnModuleDestroy {
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly db: Database,
    private readonly keys: MasterKeys,
    private readonly box: SecretBox,
    private readonly logger: Logger,
  ) {}

  /** @throws StartError with one sentence when this process lacks a key that is in use */
  async check(): Promise<void> {
    await this.db.transaction(async (tx) => {
      await lockProbes(tx);
      const inUse = await tx.find(StoredProbe, { order: { keyId: 'ASC' } });
      const missing = inUse.filter((key) => !this.holds(key)).map(({ keyId }) => `"${keyId}"`);
      if (missing.length > 0) {
        throw new StartError(
          `The master keys of this process are not those of the database: values are encrypted with the key ${missing.join(' and ')}, which it lacks or has another key for; give it the NEXUS_MASTER_KEYS of the other processes, or the file master-key of the data folder that the database was first used with.`,
        );
      }
      await this.announce(tx);
    });
    this.timer = setInterval(() => void this.announceAgain(), ANNOUNCE_MS);
  }

  onModuleDestroy(): void {
    clearInterval(this.timer);
  }

  /** Keys besides this one that a running process encrypts with. */
  othersEncrypting(keyId: string): Promise<string[]> {
    return othersEncrypting(this.db.manager, keyId);
  }

  /**
   * Forgets the keys that no process encrypts with, except `needed`: processes may start without them.
   * @returns the forgotten ones and those that are still in use
   */
  async forget(needed: readonly string[]): Promise<{ forgotten: string[]; inUse: string[] }> {
    const forgotten = await forgetKeys(this.db.manager, needed);
    const left = await this.db.repository(StoredProbe).find({ order: { keyId: 'ASC' } });
    return { forgotten, inUse: left.map(({ keyId }) => keyId) };
  }

  private holds({ keyId, sealed }: StoredProbe): boolean {
    if (sealed === null) return this.keys.list.some(({ id }) => id === keyId);
    try {
      return this.box.decrypt(sealed, CONTEXT) === PROBE;
    } catch (error) {
      if (error instanceof SecretBoxError) return false;
      throw error;
    }
  }

  private announce(tx: Tx): Promise<void> {
    return announceKey(tx, { keyId: this.box.currentKeyId, sealed: this.box.encrypt(PROBE, CONTEXT) });
  }

  private async announceAgain(): Promise<void> {
    try {
      await this.announce(this.db.manager);
    } catch (error) {
      this.logger.warn({ err: String(error) }, 'The master key in use could not be announced; it is tried again');
    }
  }
}
