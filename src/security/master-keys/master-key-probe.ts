import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { MasterKeys, SecretBox, SecretBoxError } from '../../platform/crypto/index.js';
import { Database, StartError, type Tx } from '../../platform/database/index.js';
import { Logger } from '../../platform/observability/index.js';

const CONTEXT = 'master_key_probe.sealed';
const PROBE = 'nexus';
const ANNOUNCE_MS = 20_000;
/** A process that has not announced its key for so long has ended or encrypts with another one. */
const SILENCE_SECONDS = 60;

interface KeyInUse {
  key_id: string;
  /** Null for a key of which only the id is known. */
  sealed: string | null;
}

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
      // Of processes that start at once with different keys, one is the first.
      await tx.query(`LOCK TABLE master_key_probe IN SHARE ROW EXCLUSIVE MODE`);
      const inUse = await tx.query<KeyInUse[]>(`SELECT key_id, sealed FROM master_key_probe ORDER BY key_id`);
      const missing = inUse.filter((key) => !this.holds(key)).map(({ key_id }) => `"${key_id}"`);
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
  async othersEncrypting(keyId: string): Promise<string[]> {
    const rows = await this.db.query<KeyInUse>(
      `SELECT key_id FROM master_key_probe
       WHERE key_id <> $1 AND encrypting_at > now() - interval '${SILENCE_SECONDS} seconds' ORDER BY key_id`,
      [keyId],
    );
    return rows.map(({ key_id }) => key_id);
  }

  /**
   * Forgets the keys that no process encrypts with, except `needed`: processes may start without them.
   * @returns the forgotten ones and those that are still in use
   */
  async forget(needed: readonly string[]): Promise<{ forgotten: string[]; inUse: string[] }> {
    const [gone] = await this.db.manager.query<[KeyInUse[], number]>(
      `DELETE FROM master_key_probe
       WHERE key_id <> ALL ($1) AND encrypting_at <= now() - interval '${SILENCE_SECONDS} seconds' RETURNING key_id`,
      [needed],
    );
    const left = await this.db.query<KeyInUse>(`SELECT key_id FROM master_key_probe ORDER BY key_id`);
    return { forgotten: gone.map(({ key_id }) => key_id).sort(), inUse: left.map(({ key_id }) => key_id) };
  }

  private holds({ key_id, sealed }: KeyInUse): boolean {
    if (sealed === null) return this.keys.list.some(({ id }) => id === key_id);
    try {
      return this.box.decrypt(sealed, CONTEXT) === PROBE;
    } catch (error) {
      if (error instanceof SecretBoxError) return false;
      throw error;
    }
  }

  private async announce(tx: Tx): Promise<void> {
    await tx.query(
      `INSERT INTO master_key_probe AS p (key_id, sealed) VALUES ($1, $2)
       ON CONFLICT (key_id) DO UPDATE SET encrypting_at = now(), sealed = coalesce(p.sealed, excluded.sealed)`,
      [this.box.currentKeyId, this.box.encrypt(PROBE, CONTEXT)],
    );
  }

  private async announceAgain(): Promise<void> {
    try {
      await this.announce(this.db.manager);
    } catch (error) {
      this.logger.warn({ err: String(error) }, 'The master key in use could not be announced; it is tried again');
    }
  }
}
