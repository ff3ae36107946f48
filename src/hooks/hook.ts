import { publicId } from '../platform/ids/index.js';
import type { Hook } from './hook.entity.js';
import type { HookDto } from './hooks.dto.js';

/** What a hook's events are called when nobody says otherwise: words of event names have `_` for `-`. */
export function ownEventType(name: string): string {
  return `hook.${name.replaceAll('-', '_')}.received`;
}

export function toHookDto(hook: Hook): HookDto {
  const overlaps = hook.previousSecretUntil && hook.previousSecretUntil > new Date();
  return {
    hook_id: publicId('hook', hook.id),
    name: hook.name,
    scheme: hook.scheme,
    event_type: hook.eventType,
    enabled: hook.enabled,
    description: hook.description,
    created_by: hook.createdBy,
    received_count: hook.receivedCount,
    rejected_count: hook.rejectedCount,
    last_received_at: hook.lastReceivedAt?.toISOString() ?? null,
    previous_secret_until: overlaps ? hook.previousSecretUntil!.toISOString() : null,
    version: hook.version,
    created_at: hook.createdAt.toISOString(),
    updated_at: hook.updatedAt.toISOString(),
  };
}
