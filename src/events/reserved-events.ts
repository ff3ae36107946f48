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

/** Other systems have users too: of `user.*` only what Nexus tells of logins to itself is kept for it. */
const OWN_NAMES = new Set(['user.login', 'user.logout']);

/** In the catalogue, and yet a caller's as well (the first example of an SDK emits one): told apart by `source`, which is `nexus` for the server alone. */
const SHARED_NAMES = new Set(['user.created', 'user.updated', 'user.deleted']);

/** Whether only the server itself publishes events of this name (row EVT-10). */
export function isReserved(type: string): boolean {
  if (SHARED_NAMES.has(type)) return false;
  const [first] = type.split('.', 1);
  return OWN.has(first) || OWN_NAMES.has(type) || declaredEvents().some((declared) => declared.type === type);
}
