import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { type Actor, actorHas, actsOn } from '../platform/context/index.js';
import { assertRotatable, newSigningSecret } from '../platform/crypto/index.js';
import { assertRoom, Database, findForUpdate, insertIfNew, type Tx } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import { EventCatalogue } from '../platform/events/index.js';
import { assertVersion, Deletions, type Page, pageNewestFirst, type PaginationDto } from '../platform/http/index.js';
import { publicId } from '../platform/ids/index.js';
import { ownerOf } from '../platform/ownership/index.js';
import { HookSecrets } from './hook-secrets.js';
import { Hook } from './hook.entity.js';
import { ownEventType } from './hook.js';
import type { CreateHookDto, RotateHookSecretDto, UpdateHookDto } from './hooks.dto.js';

const MAX_HOOKS = 200;
const DEFAULT_OVERLAP_SECONDS = 86_400;

/** Which hooks there are, and what their calls become . */
@Injectable()
export class HooksService {
  constructor(
    private readonly db: Database,
    private readonly secrets: HookSecrets,
    private readonly deletions: Deletions,
    private readonly catalogue: EventCatalogue,
  ) {}

  /**
   * @returns the secret too when the caller gave none
   * @throws AppError `conflict` when the name is taken or there are {@link MAX_HOOKS}, `forbidden` EVENT_TYPE_RESERVED for an event of the server's own, and for
   *   a chosen `event_type` without `event:emit`
   */
  async create(actor: Actor, dto: CreateHookDto): Promise<{ hook: Hook; secret?: string }> {
    const { name } = dto;
    const id = randomUUID();
    const secret = dto.secret ?? newSigningSecret();
    const eventType = this.eventTypeOf(name, dto.event_type);
    assertMayEmit(actor, { name, eventType });
    const hook = await this.db.transaction(async (tx) => {
      await assertRoom(tx, { lock: 'hooks', noun: 'hooks', max: MAX_HOOKS, count: () => tx.count(Hook) });
      const created = await insertIfNew(tx, Hook, {
        id,
        name,
        scheme: dto.scheme ?? 'standard',
        eventType,
        enabled: dto.enabled ?? true,
        description: dto.description ?? '',
        secretBox: this.secrets.seal(id, secret),
        createdBy: actor.id,
        ownerId: actor.id,
        ownerCredential: ownerOf(actor).credentialId,
      });
      if (!created) throw AppError.conflict(`There is a hook ${name} already`, { name });
      actsOn(publicId('hook', id));
      return created;
    });
    return { hook, ...(dto.secret === undefined ? { secret } : {}) };
  }

  /** The newest first. */
  async list(page: Page): Promise<{ hooks: Hook[]; pagination: PaginationDto }> {
    const { rows, pagination } = await pageNewestFirst(this.db.repository(Hook).createQueryBuilder('hook'), page);
    return { hooks: rows, pagination };
  }

  /** @throws AppError `not_found` */
  async get(id: string): Promise<Hook> {
    const hook = await this.db.repository(Hook).findOneBy({ id });
    if (!hook) throw notFound(id);
    return hook;
  }

  /**
   * From now on the hook goes by the rights of this actor.
   * @throws AppError `not_found`, `precondition` when it is not at the expected version, `forbidden` as with create
   */
  update(actor: Actor, id: string, dto: UpdateHookDto, expected: number | undefined): Promise<Hook> {
    const { actorId, credentialId } = ownerOf(actor);
    return this.db.transaction(async (tx) => {
      const hook = await lock(tx, id);
      assertVersion(expected, hook.version);
      const enabled = dto.enabled ?? hook.enabled;
      const eventType = dto.event_type === undefined ? hook.eventType : this.eventTypeOf(hook.name, dto.event_type);
      // Whoever may write hooks may disable any of them.
      if (enabled || dto.event_type !== undefined) assertMayEmit(actor, { name: hook.name, eventType });
      hook.scheme = dto.scheme ?? hook.scheme;
      hook.eventType = eventType;
      hook.enabled = enabled;
      hook.description = dto.description ?? hook.description;
      hook.ownerId = actorId;
      hook.ownerCredential = credentialId;
      return tx.save(hook);
    });
  }

  /** @throws AppError `not_found` */
  remove(id: string): Promise<void> {
    return this.deletions.once(publicId('hook', id), async (tx) => {
      await lock(tx, id);
      await tx.delete(Hook, { id });
    });
  }

  /**
   * Both secrets are valid until the overlap is over.
   * @returns the secret too when the caller gave none
   * @throws AppError `conflict` while an earlier rotation overlaps, unless `overlap_seconds` is 0; `forbidden` for a chosen
   *   `event_type` without `event:emit`
   */
  async rotateSecret(actor: Actor, id: string, dto: RotateHookSecretDto): Promise<{ until: Date; secret?: string }> {
    const secret = dto.secret ?? newSigningSecret();
    const overlap = dto.overlap_seconds ?? DEFAULT_OVERLAP_SECONDS;
    const until = new Date(Date.now() + 1000 * overlap);
    await this.db.transaction(async (tx) => {
      const hook = await lock(tx, id);
      // Whoever knows the secret can emit events of this type.
      assertMayEmit(actor, hook);
      assertRotatable(hook.previousSecretUntil, overlap);
      hook.previousSecretBox = hook.secretBox;
      hook.previousSecretUntil = until;
      hook.secretBox = this.secrets.seal(id, secret);
      await tx.save(hook);
    });
    return { until, ...(dto.secret === undefined ? { secret } : {}) };
  }

  /** The name that was asked for, or the hook's own. */
  private eventTypeOf(name: string, wanted: string | null | undefined): string {
    const own = ownEventType(name);
    if (wanted === undefined || wanted === null || wanted === own) return own;
    if (this.catalogue.isReserved(wanted)) {
      throw new AppError('forbidden', `Only the server itself publishes ${wanted}; choose a name of your own`, {
        code: 'EVENT_TYPE_RESERVED',
        details: { field: 'event_type', type: wanted },
      });
    }
    return wanted;
  }
}

/** @throws AppError `not_found` */
async function lock(tx: Tx, id: string): Promise<Hook> {
  const hook = await findForUpdate(tx, Hook, { id });
  if (!hook) throw notFound(id);
  return hook;
}

function notFound(id: string): AppError {
  return AppError.notFound('hook', publicId('hook', id));
}

/** @throws AppError `forbidden` when the events of a hook have a chosen name and the actor may not emit events */
function assertMayEmit(actor: Actor, { name, eventType }: Pick<Hook, 'name' | 'eventType'>): void {
  if (eventType === ownEventType(name) || actorHas(actor, 'event:emit')) return;
  throw AppError.forbidden(`Events called ${eventType} need the scope event:emit`, {
    required_scopes: ['event:emit'],
    field: 'event_type',
    expected: ownEventType(name),
  });
}
