import type { Actor } from '../platform/context/index.js';
import { type EventPriority, SERVER_SOURCE } from '../platform/events/index.js';
import { type ReadingRule, readingRules } from '../streaming/index.js';
import type { EventStatus } from './events.dto.js';

/** Which events are meant; what is left out does not matter. */
export interface EventCriteria {
  /** UUID. */
  id?: string;
  /** A name, `orders.*`, `*.created` or `*`. */
  eventType?: string;
  source?: string;
  from?: Date;
  /** Exclusive. */
  to?: Date;
  correlationId?: string;
  priority?: EventPriority;
  /** Left out: all that are not expired. */
  status?: EventStatus | 'any';
}

export interface Conditions {
  /** SQL over `events`, never empty. */
  where: string;
  params: unknown[];
}

const ALIVE = '(expires_at IS NULL OR expires_at > now())';
const STATUS = {
  pending: `relayed_at IS NULL AND ${ALIVE}`,
  published: `relayed_at IS NOT NULL AND ${ALIVE}`,
  expired: 'expires_at <= now()',
  any: 'true',
};

/** The events that are meant and that the actor may read: each kind needs its scope, and an agent sees only its own (row EVT-02). */
export function conditionsFor(actor: Actor, criteria: EventCriteria): Conditions {
  const params: unknown[] = [];
  const clauses = [criteria.status ? STATUS[criteria.status] : ALIVE];
  const add = (clause: string, value: unknown): void => {
    params.push(value);
    clauses.push(clause.replaceAll('?', `$${params.length}`));
  };
  const { id, eventType = '*', source, from, to, correlationId, priority } = criteria;
  if (id !== undefined) add('id = ?', id);
  if (!eventType.includes('*')) add('type = ?', eventType);
  else if (eventType.endsWith('.*')) add('type LIKE ?', `${escaped(eventType.slice(0, -1))}_%`);
  else if (eventType.startsWith('*.')) add('reverse(type) LIKE ?', `${escaped(reversed(eventType.slice(1)))}_%`);
  if (source === SERVER_SOURCE) clauses.push('source IS NULL');
  else if (source !== undefined) add('source = ?', source);
  if (from) add('occurred_at >= ?', from);
  if (to) add('occurred_at < ?', to);
  if (correlationId !== undefined) add('correlation_id = ?', correlationId);
  // Named in full where it is rare, so that the index over the rare ones is of use.
  if (priority === 'normal') clauses.push(`priority = 'normal'`);
  else if (priority) add(`priority = ? AND priority <> 'normal'`, priority);
  const rules = readingRules(actor);
  if (!rules.every(({ may }) => may)) clauses.push(readable(rules));
  if (actor.type === 'agent') add(`(actor_id = ? OR subject = ? OR data ->> 'agent_id' = ?)`, actor.id);
  return { where: clauses.join(' AND '), params };
}

/** The patterns are ours, not a caller's. The first rule that names a kind holds. */
function readable(rules: readonly ReadingRule[]): string {
  const cases = rules.map(({ types, may }) => `WHEN ${types.map(named).join(' OR ')} THEN ${may}`);
  return `CASE ${cases.join(' ')} ELSE false END`;
}

function named(pattern: string): string {
  if (!pattern.includes('*')) return `type = '${pattern}'`;
  return `type LIKE '${pattern.split('*').map(escaped).join('_%')}'`;
}

function escaped(text: string): string {
  return text.replace(/[\\%_]/g, '\\$&');
}

function reversed(text: string): string {
  return [...text].reverse().join('');
}
