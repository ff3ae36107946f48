import type { Actor } from '../../platform/context/index.js';

/** Every canonical scope. */
export const ALL_SCOPES: readonly string[] = [
  ...['telemetry', 'command', 'plugin', 'user'].flatMap((d) => [`${d}:read`, `${d}:write`, `${d}:admin`]),
  'agent:admin',
  ...['task', 'ai', 'metrics', 'cache', 'webhook', 'session', 'job'].flatMap((d) => [`${d}:read`, `${d}:write`]),
  ...['workflow:read', 'workflow:execute', 'workflow:write'],
  ...['ai:agent', 'event:read', 'event:write', 'event:emit', 'event:subscribe'],
  ...['security:read', 'security:admin', 'system:read', 'config:read'],
  ...['admin:config', 'admin:services', 'admin:backup', 'admin:system'],
].sort();

const KNOWN = new Set(ALL_SCOPES);
const DOMAINS = new Set(ALL_SCOPES.map((s) => s.split(':')[0]));
const ACTIONS = new Set(ALL_SCOPES.map((s) => s.split(':')[1]));
const SINGULAR: Readonly<Record<string, string>> = Object.fromEntries(
  [...DOMAINS].map((domain) => [`${domain}s`, domain]),
);

/**
 * A scope in either spelling (`read:plugins`, `plugin:read`) or a wildcard (`*`, `plugin:*`, `*:read`) as its canonical
 * form; null when there is no such scope. `admin:security` is `security:admin`.
 */
export function canonicalScope(text: string): string | null {
  if (text === '*') return text;
  const parts = text.split(':');
  if (parts.length !== 2) return null;
  const [left, right] = parts;
  for (const [first, second] of [
    [left, right],
    [right, left],
  ]) {
    const domain = SINGULAR[first] ?? first;
    if (KNOWN.has(`${domain}:${second}`)) return `${domain}:${second}`;
    if (second === '*' && DOMAINS.has(domain)) return first === left ? `${domain}:*` : `*:${first}`;
    if (first === '*' && ACTIONS.has(second)) return first === left ? `*:${second}` : `${SINGULAR[second] ?? second}:*`;
  }
  return null;
}

/** A right: a canonical scope or wildcard, with the labels a target must carry when the right is limited. */
export interface Grant {
  readonly scope: string;
  readonly labels: Readonly<Record<string, string>> | null;
}

const COMMANDS = 'command:write';
/** The scopes whose routes look at the labels of the agents they act on; a limit on any other would limit nothing. */
const LABELLED: readonly string[] = [COMMANDS, 'ai:write', 'agent:admin'];
const LABEL = /^[a-z0-9][a-z0-9_.-]{0,62}=[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$/;

/** Reads a scope, or `command:write@env=development` (labels joined by `,`); null when it is neither. */
export function parseGrant(text: string): Grant | null {
  const at = text.indexOf('@');
  const scope = canonicalScope(at < 0 ? text : text.slice(0, at));
  if (scope === null) return null;
  if (at < 0) return { scope, labels: null };
  const pairs = text.slice(at + 1).split(',');
  if (!LABELLED.includes(scope) || pairs.some((pair) => !LABEL.test(pair))) return null;
  return { scope, labels: Object.fromEntries(pairs.map((pair) => pair.split('=') as [string, string]).sort()) };
}

export function formatGrant({ scope, labels }: Grant): string {
  if (labels === null) return scope;
  return `${scope}@${Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',')}`;
}

/** Stored texts to grants; a text this version does not know grants nothing. `admin:*` also means every `x:admin`. */
export function grantsOf(texts: readonly string[]): Grant[] {
  const grants = texts.map(parseGrant).filter((grant) => grant !== null);
  if (grants.some((grant) => grant.scope === 'admin:*')) grants.push({ scope: '*:admin', labels: null });
  return grants;
}

/** What both sides allow: a role's rights and those of the credential used. */
export function intersectGrants(left: readonly Grant[], right: readonly Grant[]): Grant[] {
  const found = new Map<string, Grant>();
  for (const a of left) {
    for (const b of right) {
      const scope = intersectScopes(a.scope, b.scope);
      const labels = mergeLabels(a.labels, b.labels);
      if (scope === null || labels === undefined) continue;
      const grant = { scope, labels };
      found.set(formatGrant(grant), grant);
    }
  }
  return [...found.values()];
}

function intersectScopes(a: string, b: string): string | null {
  if (a === '*' || a === b) return b;
  if (b === '*') return a;
  const [[aDomain, aAction], [bDomain, bAction]] = [a.split(':'), b.split(':')];
  const domain = meet(aDomain, bDomain);
  const action = meet(aAction, bAction);
  return domain && action ? `${domain}:${action}` : null;
}

function meet(a: string, b: string): string | null {
  if (a === '*' || a === b) return b;
  return b === '*' ? a : null;
}

/** Undefined when the two contradict each other: nothing can carry both. */
function mergeLabels(a: Grant['labels'], b: Grant['labels']): Grant['labels'] | undefined {
  if (a === null || b === null) return a ?? b;
  for (const [key, value] of Object.entries(b)) if ((a[key] ?? value) !== value) return undefined;
  return Object.fromEntries(Object.entries({ ...a, ...b }).sort());
}

/** Rights as an actor carries them: the scopes, and the labels of the agents they are limited to. */
export type Rights = Pick<Actor, 'scopes' | 'targetLabels' | 'agentLabels'>;
type AgentLabels = Rights['agentLabels'];

/** Whoever is limited to some agents by one scope changes only those with any other scope. */
export function rightsOf(grants: readonly Grant[]): Rights {
  const scopes = new Set(grants.map((grant) => grant.scope));
  const targetLabels = limitOf(grants, COMMANDS);
  const agentLabels = LABELLED.map((scope) => limitOf(grants, scope)).reduce<AgentLabels>(bothLimits, undefined);
  return { scopes, ...(targetLabels ? { targetLabels } : {}), ...(agentLabels ? { agentLabels } : {}) };
}

/** Rights of a credential with `given` scopes. Labels that limit its owner limit it, whichever scopes it was given. */
export function credentialRights(held: readonly Grant[], given: readonly Grant[]): Rights {
  const rights = rightsOf(intersectGrants(held, given));
  const agentLabels = bothLimits(rightsOf(held).agentLabels, rights.agentLabels);
  return agentLabels ? { ...rights, agentLabels } : rights;
}

/**
 * Labels that limit a scope; undefined when nothing does. Of several limits on the same scope the first one counts (in the
 * order of their spelling): the narrower reading is the safe one.
 */
function limitOf(grants: readonly Grant[], scope: string): Readonly<Record<string, string>> | undefined {
  const covering = grants.filter((grant) => covers(grant.scope, scope));
  if (covering.length === 0 || covering.some((grant) => grant.labels === null)) return undefined;
  const [first] = covering.map(formatGrant).sort();
  return parseGrant(first)?.labels ?? {};
}

/** Null stands for a label that the limits want with different values: no agent is within both. */
function bothLimits(a: AgentLabels, b: AgentLabels): AgentLabels {
  if (!a || !b) return a ?? b;
  return Object.fromEntries(
    Object.entries({ ...a, ...b }).map(([key, value]) => [key, (a[key] ?? value) === value ? value : null]),
  );
}

/** Whether a scope or wildcard includes all of another one. */
export function covers(wide: string, narrow: string): boolean {
  return intersectScopes(wide, narrow) === narrow;
}

/**
 * What is granted when somebody with `held` rights asks for `wanted`; a label limit of the asker goes over to it.
 * @returns null when it would be more than the asker has
 */
export function grantable(held: Rights, wanted: Grant): Grant | null {
  const enough = [...held.scopes].some((scope) => covers(scope, wanted.scope));
  // `admin:*` names two families of scopes.
  if (!enough || (wanted.scope === 'admin:*' && ![...held.scopes].some((scope) => covers(scope, '*:admin')))) {
    return null;
  }
  const wide = wanted.scope === 'admin:*' ? '*:admin' : wanted.scope;
  let { labels } = wanted;
  for (const scope of LABELLED.filter((one) => covers(wide, one))) {
    const limit = scope === COMMANDS ? held.targetLabels : held.agentLabels;
    if (!limit) continue;
    const merged = scope === wanted.scope && isPossible(limit) ? mergeLabels(limit, labels) : undefined;
    if (merged === undefined) return null;
    labels = merged;
  }
  return { scope: wanted.scope, labels };
}

function isPossible(limit: NonNullable<AgentLabels>): limit is Readonly<Record<string, string>> {
  return !Object.values(limit).includes(null);
}
