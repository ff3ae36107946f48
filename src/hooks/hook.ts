import { publicId } from '../platform/http/index.js';
import type { HookScheme } from './hook-signature.js';
import type { HookDto } from './hooks.dto.js';

/** A row of `hooks`, without its secrets. */
export interface Hook {
  id: string;
  name: string;
  scheme: HookScheme;
  event_type: string;
  enabled: boolean;
  description: string;
  created_by: string;
  /** bigint: text. */
  received_count: string;
  rejected_count: string;
  last_received_at: Date | null;
  previous_secret_until: Date | null;
  version: number;
  created_at: Date;
  updated_at: Date;
}

export const HOOK_COLUMNS = `id, name, scheme, event_type, enabled, description, created_by, received_count, rejected_count,
  last_received_at, CASE WHEN previous_secret_until > now() THEN previous_secret_until END AS previous_secret_until,
  version, created_at, updated_at`;

/** What a hook's events are called when nobody says otherwise: words of event names have `_` for `-`. */
export function ownEventType(name: string): string {
  return `hook.${name.replaceAll('-', '_')}.received`;
}

export function toHookDto({ id, ...row }: Hook): HookDto {
  return {
    hook_id: publicId('hook', id),
    ...row,
    received_count: Number(row.received_count),
    rejected_count: Number(row.rejected_count),
    last_received_at: row.last_received_at?.toISOString() ?? null,
    previous_secret_until: row.previous_secret_until?.toISOString() ?? null,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}
