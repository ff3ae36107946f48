import { Injectable } from '@nestjs/common';
import { type BackgroundTask, BackgroundTasks } from '../../platform/background/index.js';
import { type Actor, currentContext } from '../../platform/context/index.js';
import { SecretBox } from '../../platform/crypto/index.js';
import { Database } from '../../platform/database/index.js';
import { AppError } from '../../platform/errors/index.js';
import { publicId } from '../../platform/ids/index.js';
import { MasterKeyProbe } from './master-key-probe.js';
import type { ReencryptionDto } from './reencryptions.dto.js';
import { type ReencryptionInput, ReencryptSecrets } from './reencryption.task.js';

/** Starts and shows the re-encryption of stored secrets after a new master key. */
@Injectable()
export class ReencryptionsService {
  constructor(
    private readonly db: Database,
    private readonly tasks: BackgroundTasks,
    private readonly box: SecretBox,
    private readonly probe: MasterKeyProbe,
  ) {}

  /** @throws AppError `conflict` while a process encrypts with another key, `rate_limited` while one is under way */
  async start(actor: Actor): Promise<ReencryptionDto> {
    const keyId = this.box.currentKeyId;
    const others = await this.probe.othersEncrypting(keyId);
    if (others.length > 0) {
      throw AppError.conflict(
        `A process encrypted with ${others.map((id) => `"${id}"`).join(' and ')} within the last minute: put "${keyId}" first in NEXUS_MASTER_KEYS of every process, and try again a minute later`,
        { key_id: keyId, other_keys: others },
      );
    }
    return this.db.transaction(async (tx) => {
      const task = await this.tasks.start(tx, ReencryptSecrets, { keyId }, actor);
      const context = currentContext();
      if (context) context.resourceId = publicId('rekey', task.id);
      return toReencryptionDto(task);
    });
  }

  /** @throws AppError `not_found` */
  async get(id: string): Promise<ReencryptionDto> {
    const task = await this.tasks.find(ReencryptSecrets, id);
    if (!task) throw AppError.notFound('re-encryption', publicId('rekey', id));
    return toReencryptionDto(task);
  }
}

function toReencryptionDto(task: BackgroundTask<ReencryptionInput>): ReencryptionDto {
  const { reencrypted = 0, forgotten_keys = null, keys_in_use = null } = task.details as Partial<ReencryptionDto>;
  return {
    reencryption_id: publicId('rekey', task.id),
    status: task.status,
    progress: task.progress,
    current_step: task.currentStep,
    key_id: task.input.keyId,
    reencrypted,
    forgotten_keys,
    keys_in_use,
    created_by: task.createdBy,
    created_at: task.createdAt.toISOString(),
    started_at: task.startedAt?.toISOString() ?? null,
    completed_at: task.finishedAt?.toISOString() ?? null,
    error: task.error,
  };
}
