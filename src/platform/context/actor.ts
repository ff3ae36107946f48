export type ActorType = 'user' | 'key' | 'token' | 'agent' | 'hook' | 'system';

/** Who acts. Built once per request (or socket) from a live credential row, never from claims alone. */
export interface Actor {
  /** Public id of the acting principal: `user_...`, `agent_...`, `hook_...` or `system`. What rows and audit entries record. */
  readonly id: string;
  readonly type: ActorType;
  readonly name: string;
  /** Public id of the credential used: `sess_...`, `key_...`, `token_...`; null for the system. */
  readonly credentialId: string | null;
  /** Name its owner gave the key or token; not set for sessions and agents. */
  readonly credentialName?: string;
  readonly roles: readonly string[];
  /** Canonical scopes after intersecting roles with the credential; may hold the wildcards `*`, `x:*`, `*:x`. */
  readonly scopes: ReadonlySet<string>;
  /** Labels every target of the actor's commands must carry ; not set: any target. */
  readonly targetLabels?: Readonly<Record<string, string>>;
  /** Labels every agent must carry that the actor changes; not set: any agent. No agent carries a label with null. */
  readonly agentLabels?: Readonly<Record<string, string | null>>;
  /** When the credential ends, Unix milliseconds; not set: it has no end. */
  readonly expiresAt?: number;
  /** UUID of the agent when `type` is `agent`. */
  readonly agentId?: string;
  /** UUID of the user when a user stands behind the credential. */
  readonly userId?: string;
}

/** True when the actor holds a canonical scope, directly or by wildcard. */
export function actorHas(actor: Pick<Actor, 'scopes'>, scope: string): boolean {
  const { scopes } = actor;
  if (scopes.has(scope) || scopes.has('*')) return true;
  const colon = scope.indexOf(':');
  return scopes.has(`${scope.slice(0, colon)}:*`) || scopes.has(`*:${scope.slice(colon + 1)}`);
}

/** The server acting on its own (schedules, workers, bootstrap). */
export const systemActor: Actor = {
  id: 'system',
  type: 'system',
  name: 'system',
  credentialId: null,
  roles: [],
  scopes: new Set(['*']),
};
