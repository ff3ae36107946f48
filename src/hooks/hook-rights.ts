import { Injectable, type OnModuleInit } from '@nestjs/common';
import { actorHas } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { type Holder } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { Logger } from '../platform/observability/index.js';
import { type OwnedKind, OwnerRights, type Rights } from '../platform/ownership/index.js';
import { Hook } from './hook.entity.js';
import { ownEventType } from './hook.js';

type OwnedHook = Holder & Pick<Hook, 'id' | 'name' | 'eventType' | 'version'>;

/** A hook takes calls for as long as who wrote it last may have one and may emit its events. */
@Injectable()
export class HookRights implements OwnedKind<OwnedHook>, OnModuleInit {
  constructor(
    private readonly db: Database,
    private readonly rights: OwnerRights,
    private readonly logger: Logger,
  ) {}

  onModuleInit(): void {
    this.rights.contribute(this);
  }

  async find({ actorId, credentialId }: Partial<Holder>): Promise<OwnedHook[]> {
    const hooks = await this.db.repository(Hook).findBy({
      enabled: true,
      ...(actorId ? { ownerId: actorId } : {}),
      ...(credentialId ? { ownerCredential: credentialId } : {}),
    });
    return hooks.map((hook) => ({ ...hook, actorId: hook.ownerId, credentialId: hook.ownerCredential }));
  }

  async reduce({ id, name, eventType, version }: OwnedHook, rights: Rights): Promise<void> {
    const mayEmit = eventType === ownEventType(name) || actorHas(rights, 'event:emit');
    if (mayEmit && actorHas(rights, 'webhook:write')) return;
    // Written in the meantime: the next sweep looks at it again.
    const { affected } = await this.db.repository(Hook).update({ id, version }, { enabled: false });
    if (affected === 0) return;
    this.logger.warn({ hook: publicId('hook', id) }, 'Disabled a hook whose owner lost its rights');
  }
}
