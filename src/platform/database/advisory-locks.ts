import { createHash } from 'node:crypto';
import type { Tx } from './database.js';

/** Every advisory lock of the server. */
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
  'events.subscriptions',
  'background.claim',
] as const;

export type LockName = (typeof LOCK_NAMES)[number];

/**
 * The key of a lock for PostgreSQL's functions: a signed 64-bit number made of the name, so that no two names share one by mistake.
 * @param of what it is a lock of, where there is one for each
 */
export function advisoryLock(name: LockName, of?: string): string {
  const text = of === undefined ? `nexus/${name}` : `nexus/${name}/${of}`;
  return createHash('sha256').update(text).digest().readBigInt64BE().toString();
}

/** Waits for the lock and holds it until the transaction ends. */
export async function takeLock(tx: Tx, name: LockName, of?: string): Promise<void> {
  await tx.query('SELECT pg_advisory_xact_lock($1)', [advisoryLock(name, of)]);
}
