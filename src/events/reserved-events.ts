import { declaredEvents } from '../platform/events/index.js';

/**
 * First words of the names that Nexus gives to what happens in itself. Whoever hears `task.completed` may rely on it: nobody else can
 * say so, also of kinds that are not in the catalogue yet.
 */
const OWN = new Set([
  ...[
    'ai',
    'agent',
    'audit',
    'backup',
    'batch',
    'command',
    'config',
    'event',
    'hook',
    'job',
    'metric',
    'nexus',
    'plugin',
  ],
  ...['restore', 'security', 'service', 'session', 'system', 'task', 'telemetry', 'token', 'webhook', 'workflow'],
]);

/** Other systems have users too: of `user.*` only what Nexus tells of its own accounts is kept for it. */
const OWN_NAMES = new Set(['user.created', 'user.updated', 'user.deleted', 'user.login', 'user.logout']);

/** Whether only the server itself publishes events of this name (row EVT-10). */
export function isReserved(type: string): boolean {
  const [first] = type.split('.', 1);
  return OWN.has(first) || OWN_NAMES.has(type) || declaredEvents().some((declared) => declared.type === type);
}
