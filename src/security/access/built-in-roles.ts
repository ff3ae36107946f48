const READS = [
  ...['telemetry', 'command', 'task', 'ai', 'plugin', 'workflow', 'session', 'event', 'webhook'].map(
    (d) => `${d}:read`,
  ),
  ...['system:read', 'metrics:read', 'job:read', 'cache:read', 'event:subscribe'],
];
const BUILDS = [
  ...['telemetry', 'task', 'ai', 'plugin', 'workflow', 'session', 'event', 'webhook'].map((d) => `${d}:write`),
  ...['workflow:execute', 'event:emit', 'metrics:write'],
];

export interface BuiltInRole {
  readonly name: string;
  readonly description: string;
  readonly scopes: readonly string[];
}

/** The roles every installation has. They are code, not rows: an upgrade changes them for everyone. */
export const BUILT_IN_ROLES: readonly BuiltInRole[] = [
  { name: 'admin', description: 'Everything', scopes: ['*'] },
  {
    name: 'developer',
    description: 'Builds and reads; commands and changes only agents labelled env=development',
    scopes: [...READS, ...BUILDS, 'command:write@env=development', 'agent:admin@env=development'],
  },
  {
    name: 'operator',
    description: 'Runs commands anywhere, submits telemetry, looks after jobs and caches',
    scopes: [...READS, 'telemetry:write', 'command:write', 'job:write', 'cache:write'],
  },
  { name: 'viewer', description: 'Reads', scopes: READS },
  {
    name: 'agent',
    description: 'The own side of an agent; what it reads is limited to what is its own',
    scopes: ['telemetry:read', 'telemetry:write', 'command:read', 'ai:agent', 'event:emit'],
  },
];

const byName = new Map(BUILT_IN_ROLES.map((role) => [role.name, role]));

export function builtInRole(name: string): BuiltInRole | undefined {
  return byName.get(name);
}

/** Scope texts of the built-in ones among these roles. */
export function builtInScopes(roles: readonly string[]): string[] {
  return roles.flatMap((name) => byName.get(name)?.scopes ?? []);
}
