import { createHash } from 'node:crypto';

/** Every advisory lock of the server that is not one per row, with what holding it allows. */
export const LOCK_NAMES = [
  'database.migrate',
  'database.partitions',
  'events.relay',
  'events.checkpoints',
  'telemetry.roll-up',
  'alerts.rules',
  'alerts.silences',
  'webhooks',
  'hooks',
  'agents.join-tokens',
  'security.alerts',
  'security.first-run',
  'security.keys',
] as const;

export type LockName = (typeof LOCK_NAMES)[number];

/** The key of a lock for PostgreSQL's functions: a signed 64-bit number made of the name, so that no two names share one by mistake. */
export function advisoryLock(name: LockName): string {
  return createHash('sha256').update(`nexus/${name}`).digest().readBigInt64BE().toString();
}
