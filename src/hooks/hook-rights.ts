import { Injectable, type OnModuleInit } from '@nestjs/common';
import { actorHas } from '../platform/context/index.js';
import { Database } from '../platform/database/index.js';
import { type Holder, publicId } from '../platform/http/index.js';
import { Logger } from '../platform/observability/index.js';
import { type OwnedKind, OwnerRights, type Rights } from '../platform/ownership/index.js';
import { ownEventType } from './hook.js';

interface OwnedHook extends Holder {
  id: string;
  name: string;
  event_type: string;
  version: number;
}

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

  find({ actorId, credentialId }: Partial<Holder>): Promise<OwnedHook[]> {
    return this.db.query<OwnedHook>(
      `SELECT id, name, event_type, version, owner_id AS "actorId", owner_credential AS "credentialId" FROM hooks
       WHERE enabled AND ($1::text IS NULL OR owner_id = $1) AND ($2::text IS NULL OR owner_credential = $2)`,
      [actorId ?? null, credentialId ?? null],
    );
  }

  async reduce({ id, name, event_type, version }: OwnedHook, rights: Rights): Promise<void> {
    const mayEmit = event_type === ownEventType(name) || actorHas(rights, 'event:emit');
    if (mayEmit && actorHas(rights, 'webhook:write')) return;
    // Written in the meantime: the next sweep looks at it again.
    const [, count] = await this.db.query<unknown>(
      'UPDATE hooks SET enabled = false, version = version + 1, updated_at = now() WHERE id = $1 AND version = $2',
      [id, version],
    );
    if (Number(count) === 0) return;
    this.logger.warn({ hook: publicId('hook', id) }, 'Disabled a hook whose owner lost its rights');
  }
}
