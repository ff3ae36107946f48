import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { isReserved } from '../events/index.js';
import { type Actor, actorHas, actsOn } from '../platform/context/index.js';
import { assertRotatable, newSigningSecret } from '../platform/crypto/index.js';
import { assertRoom, Database, type Tx } from '../platform/database/index.js';
import { AppError } from '../platform/errors/index.js';
import {
  assertVersion,
  Deletions,
  type Page,
  type PaginationDto,
  paginationOf,
  publicId,
  timeAndIdAfter,
} from '../platform/http/index.js';
import { ownerOf } from '../platform/ownership/index.js';
import { type Hook, HOOK_COLUMNS, ownEventType } from './hook.js';
import { HookSecrets } from './hook-secrets.js';
import type { CreateHookDto, RotateHookSecretDto, UpdateHookDto } from './hooks.dto.js';

const MAX_HOOKS = 200;
const DEFAULT_OVERLAP_SECONDS = 86_400;

/** Which hooks there are, and what their calls become (row WHK-10). */
@Injectable()
export class HooksService {
  constructor(
    private readonly db: Database,
    private readonly secrets: HookSecrets,
    private readonly deletions: Deletions,
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
    const eventType = eventTypeOf(name, dto.event_type);
    assertMayEmit(actor, { name, event_type: eventType });
    const hook = await this.db.transaction(async (tx) => {
      const count = 'SELECT count(*)::int AS count FROM hooks';
      await assertRoom(tx, { lock: 'hooks', noun: 'hooks', max: MAX_HOOKS, count });
      const [created] = await tx.query<(Hook | undefined)[]>(
        `INSERT INTO hooks (id, name, scheme, event_type, enabled, description, secret_box, created_by, owner_id,
           owner_credential)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9) ON CONFLICT (name) DO NOTHING RETURNING ${HOOK_COLUMNS}`,
        [
          id,
          name,
          dto.scheme ?? 'standard',
          eventType,
          dto.enabled ?? true,
          dto.description ?? '',
          this.secrets.seal(id, secret),
          actor.id,
          ownerOf(actor).credentialId,
        ],
      );
      if (!created) throw AppError.conflict(`There is a hook ${name} already`, { name });
      actsOn(publicId('hook', id));
      return created;
    });
    return { hook, ...(dto.secret === undefined ? { secret } : {}) };
  }

  /** The newest first. */
  async list(page: Page): Promise<{ hooks: Hook[]; pagination: PaginationDto }> {
    const { limit, offset } = page;
    const found = await this.db.query<Hook>(
      `SELECT ${HOOK_COLUMNS} FROM hooks WHERE $3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid)
       ORDER BY created_at DESC, id DESC LIMIT $1 OFFSET $2`,
      [limit + 1, offset, ...timeAndIdAfter(page)],
    );
    const [{ total }] = await this.db.query<{ total: number }>('SELECT count(*)::int AS total FROM hooks');
    const hooks = found.slice(0, limit);
    const last = hooks.at(-1);
    const more = { total, hasMore: found.length > limit, nextKeys: last && [last.created_at, last.id] };
    return { hooks, pagination: paginationOf(page, more) };
  }

  /** @throws AppError `not_found` */
  async get(id: string): Promise<Hook> {
    const [hook] = await this.db.query<Hook>(`SELECT ${HOOK_COLUMNS} FROM hooks WHERE id = $1`, [id]);
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
      const eventType = dto.event_type === undefined ? hook.event_type : eventTypeOf(hook.name, dto.event_type);
      // Whoever may write hooks may disable any of them.
      if (enabled || dto.event_type !== undefined) assertMayEmit(actor, { name: hook.name, event_type: eventType });
      const [[updated]] = await tx.query<[Hook[], number]>(
        `UPDATE hooks SET scheme = $2, event_type = $3, enabled = $4, description = $5, owner_id = $6,
           owner_credential = $7, updated_at = now(), version = version + 1 WHERE id = $1 RETURNING ${HOOK_COLUMNS}`,
        [id, dto.scheme ?? hook.scheme, eventType, enabled, dto.description ?? hook.description, actorId, credentialId],
      );
      return updated;
    });
  }

  /** @throws AppError `not_found` */
  remove(id: string): Promise<void> {
    return this.deletions.once(publicId('hook', id), async (tx) => {
      await lock(tx, id);
      await tx.query('DELETE FROM hooks WHERE id = $1', [id]);
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
      assertRotatable(hook.previous_secret_until, overlap);
      await tx.query(
        `UPDATE hooks SET previous_secret_box = secret_box, previous_secret_until = $2, secret_box = $3,
           updated_at = now(), version = version + 1 WHERE id = $1`,
        [id, until, this.secrets.seal(id, secret)],
      );
    });
    return { until, ...(dto.secret === undefined ? { secret } : {}) };
  }
}

/** @throws AppError `not_found` */
async function lock(tx: Tx, id: string): Promise<Hook> {
  const [hook] = await tx.query<Hook[]>(`SELECT ${HOOK_COLUMNS} FROM hooks WHERE id = $1 FOR UPDATE`, [id]);
  if (!hook) throw notFound(id);
  return hook;
}

function notFound(id: string): AppError {
  return AppError.notFound('hook', publicId('hook', id));
}

/** The name that was asked for, or the hook's own. */
function eventTypeOf(name: string, wanted: string | null | undefined): string {
  const own = ownEventType(name);
  if (wanted === undefined || wanted === null || wanted === own) return own;
  if (isReserved(wanted)) {
    throw new AppError('forbidden', `Only the server itself publishes ${wanted}; choose a name of your own`, {
      code: 'EVENT_TYPE_RESERVED',
      details: { field: 'event_type', type: wanted },
    });
  }
  return wanted;
}

/** @throws AppError `forbidden` when the events of a hook have a chosen name and the actor may not emit events */
function assertMayEmit(actor: Actor, { name, event_type }: Pick<Hook, 'name' | 'event_type'>): void {
  if (event_type === ownEventType(name) || actorHas(actor, 'event:emit')) return;
  throw AppError.forbidden(`Events called ${event_type} need the scope event:emit`, {
    required_scopes: ['event:emit'],
    field: 'event_type',
    expected: ownEventType(name),
  });
}
