import { type Actor, actorHas } from '../platform/context/index.js';
import { AppError } from '../platform/errors/index.js';
import { declaredEvents } from '../platform/events/index.js';
import { nearestNames } from '../platform/http/index.js';
import { StreamProblem } from './stream-problem.js';

/** Where an event is heard, and the scope that reading it takes. */
interface Home {
  channel: string;
  scope: string;
}

/**
 * The channels (row STR-08) and the kinds of events each one carries. An event is heard on the first channel that names it, so
 * that nobody who listens to several hears it twice. A new domain adds its line here.
 */
const HOMES: readonly (Home & { types: readonly string[] })[] = [
  { channel: 'tasks.created', scope: 'task:read', types: ['task.created'] },
  { channel: 'tasks.updates', scope: 'task:read', types: ['task.*'] },
  { channel: 'commands.status', scope: 'command:read', types: ['command.*'] },
  { channel: 'ai.requests', scope: 'ai:read', types: ['ai.request_*'] },
  { channel: 'ai.coordination', scope: 'ai:read', types: ['ai.workflow_*'] },
  { channel: 'agents.status', scope: 'ai:read', types: ['ai.*'] },
  { channel: 'system.alerts', scope: 'telemetry:read', types: ['telemetry.*', 'metric.*'] },
  { channel: 'system.alerts', scope: 'security:read', types: ['security.alert'] },
  { channel: 'system.alerts', scope: 'system:read', types: ['system.alert', 'system.error'] },
  { channel: 'plugins.events', scope: 'plugin:read', types: ['plugin.*'] },
  { channel: 'jobs.events', scope: 'job:read', types: ['job.*'] },
  { channel: 'workflows.events', scope: 'workflow:read', types: ['workflow.*'] },
  { channel: 'sessions.events', scope: 'session:read', types: ['session.*'] },
  { channel: 'webhooks.events', scope: 'webhook:read', types: ['webhook.*'] },
  { channel: 'hooks.events', scope: 'webhook:read', types: ['hook.*'] },
  { channel: 'security.events', scope: 'user:read', types: ['user.*'] },
  { channel: 'security.events', scope: 'security:read', types: ['token.*', 'security.*'] },
  {
    channel: 'system.events',
    scope: 'system:read',
    types: ['system.*', 'config.*', 'service.*', 'backup.*', 'restore.*'],
  },
  { channel: 'custom.events', scope: 'event:read', types: ['*'] },
];

/** Telemetry as it is stored (row TEL-12): metrics on one channel, every other event on the second. */
export const TELEMETRY_SCOPE = 'telemetry:read';
const TELEMETRY_CHANNELS = ['telemetry.metrics', 'telemetry.events'];

/** Every event of the kinds the reader may read, chosen by patterns of event types (row EVT-05). */
export const ALL_EVENTS = 'events';
export const ALL_EVENTS_SCOPE = 'event:subscribe';

/** Channels of events that callers emit, with any data. */
const OPEN = new Set([ALL_EVENTS, 'custom.events', 'hooks.events', 'security.events']);
/** What events of the catalogue have and telemetry has not; any other field may be one of its data. */
const NOT_OF_TELEMETRY = new Set(['subject', 'priority', 'correlation_id']);
/** Fields of every event, whatever it tells. */
const FIELDS_OF_ALL = ['event_type', 'subject', 'metadata', 'data'];

const NAME = /^[a-z0-9_*]+(\.[a-z0-9_*]+)*$/;
const LONGEST = 100;

const channelScopes = new Map<string, Set<string>>();
for (const { channel, scope } of HOMES) {
  channelScopes.set(channel, (channelScopes.get(channel) ?? new Set()).add(scope));
}
for (const channel of TELEMETRY_CHANNELS) channelScopes.set(channel, new Set([TELEMETRY_SCOPE]));

const homes = HOMES.map((home) => ({ home, matches: matcherOf(home.types) }));
const known = new Map<string, Home>();

/** The channel of a kind of event and the scope that reading it takes. */
export function homeOf(eventType: string): Home {
  let home = known.get(eventType);
  if (!home) {
    home = (homes.find(({ matches }) => matches(eventType)) as { home: Home }).home;
    // Kinds are declared in code; those that callers make up are not remembered without end.
    if (known.size < 1000) known.set(eventType, home);
  }
  return home;
}

/** Who may read which kinds of events: the first rule that names a kind holds. `*` in `types` is one or more characters. */
export interface ReadingRule {
  types: readonly string[];
  may: boolean;
}

/** The rules of one reader; the last one names every kind. */
export function readingRules(actor: Actor): ReadingRule[] {
  return HOMES.map(({ types, scope }) => ({ types, may: actorHas(actor, scope) }));
}

/** The scope that reading events of this kind takes. */
export function scopeOfEvent(eventType: string): string {
  return homeOf(eventType).scope;
}

/**
 * Of patterns only what may be read is sent; a kind that is asked for by name and may not be read is refused.
 * @throws AppError `forbidden` naming the scopes that are missing, with the kinds in `details` under the name of their field
 */
export function assertMayRead(actor: Actor, patterns: readonly string[], field: string): void {
  const refused = patterns.filter((one) => !one.includes('*') && !actorHas(actor, scopeOfEvent(one)));
  if (refused.length === 0) return;
  const scopes = [...new Set(refused.map(scopeOfEvent))];
  throw AppError.forbidden(`These events need the scope ${scopes.join(' and ')}`, {
    required_scopes: scopes,
    [field]: refused,
  });
}

/** Scopes of the actor that make kinds of events readable. */
export function readingScopes(actor: Pick<Actor, 'scopes'>): string[] {
  return [...new Set(HOMES.map(({ scope }) => scope))].filter((scope) => actorHas(actor, scope));
}

/**
 * Whether events of a channel may have a field, written as in filters: a filter on one that they never have is not applied to the
 * channel, so that one subscription may filter several channels.
 */
export function mayHave(channel: string, field: string): boolean {
  const [first, second] = field.split('.');
  const name = first === 'data' && second !== undefined ? second : first === 'tag' ? 'tags' : first;
  if (isTelemetry(channel)) return first === 'data' || !NOT_OF_TELEMETRY.has(name);
  return OPEN.has(channel) || (fields().get(channel)?.has(name) ?? false);
}

/** Names of the fields that events of the server's own have. */
export function knownFields(): string[] {
  return [...fields().values()].flatMap((names) => [...names]);
}

/** Whether no event of this channel exists yet: its domain is still to come. */
export function isSilent(channel: string): boolean {
  return !OPEN.has(channel) && !isTelemetry(channel) && !fields().has(channel);
}

let declaredFields: Map<string, Set<string>> | undefined;

/** Fields by channel, of what is declared; all is when the server runs. */
function fields(): Map<string, Set<string>> {
  if (declaredFields) return declaredFields;
  declaredFields = new Map();
  for (const { type, schema } of declaredEvents()) {
    const { channel } = homeOf(type);
    const names = declaredFields.get(channel) ?? new Set(FIELDS_OF_ALL);
    for (const name of Object.keys(schema.properties ?? {})) names.add(name);
    declaredFields.set(channel, names);
  }
  return declaredFields;
}

export function isTelemetry(channel: string): boolean {
  return TELEMETRY_CHANNELS.includes(channel);
}

/**
 * The channels that names and wildcards stand for, of those the actor may listen to. A wildcard stands for channels that have events.
 * @throws StreamProblem INVALID_CHANNEL for a name or wildcard that stands for none, INSUFFICIENT_SCOPE
 */
export function resolveChannels(actor: Actor, names: readonly string[]): string[] {
  const found = new Set<string>();
  for (const name of names) {
    const matches = matcherOf([checked(name)]);
    const named = name === ALL_EVENTS ? [ALL_EVENTS] : offered(name, [...channelScopes.keys()].filter(matches));
    if (named.length === 0) {
      const there = [...channelScopes.keys(), ALL_EVENTS].filter((channel) => !isSilent(channel));
      throw new StreamProblem('INVALID_CHANNEL', `There is no channel ${name}; there are ${nearestNames(name, there)}`);
    }
    const allowed = named.filter((channel) => mayListen(actor, channel));
    if (allowed.length === 0) {
      throw new StreamProblem('INSUFFICIENT_SCOPE', `${name} needs the scope ${scopesOf(named[0]).join(' or ')}`);
    }
    for (const channel of allowed) found.add(channel);
  }
  return [...found];
}

/** A channel that has no events yet is found by its name alone. */
function offered(name: string, channels: string[]): string[] {
  return channels.filter((channel) => channel === name || !isSilent(channel));
}

/** True for names that any of the patterns stands for; `*` is one or more of any characters (row EVT-10). */
export function matcherOf(patterns: readonly string[]): (name: string) => boolean {
  const exact = new Set(patterns.filter((pattern) => !pattern.includes('*')));
  const wild = patterns.filter((pattern) => pattern.includes('*')).map((pattern) => pattern.split('*'));
  return (name) => exact.has(name) || wild.some((pieces) => fits(name, pieces));
}

/** @throws StreamProblem INVALID_CHANNEL */
export function checked(name: unknown): string {
  if (typeof name !== 'string' || name.length > LONGEST || !NAME.test(name)) {
    throw new StreamProblem(
      'INVALID_CHANNEL',
      'Channels and patterns are lower-case words joined by dots, or wildcards',
    );
  }
  return name;
}

/** Matches without a regular expression: no pattern can make it slow. */
function fits(name: string, pieces: readonly string[]): boolean {
  const last = pieces.length - 1;
  if (!name.startsWith(pieces[0])) return false;
  let at = pieces[0].length;
  for (const piece of pieces.slice(1, last)) {
    const next = name.indexOf(piece, at + 1);
    if (next < 0) return false;
    at = next + piece.length;
  }
  return name.endsWith(pieces[last]) && name.length - pieces[last].length > at;
}

function mayListen(actor: Actor, channel: string): boolean {
  return scopesOf(channel).some((scope) => actorHas(actor, scope));
}

function scopesOf(channel: string): string[] {
  return channel === ALL_EVENTS ? [ALL_EVENTS_SCOPE] : [...(channelScopes.get(channel) ?? [])];
}
