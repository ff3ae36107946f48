import { type DynamicModule, Injectable, type Type } from '@nestjs/common';
import { type Actor, actorHas } from '../context/index.js';
import { AppError } from '../errors/index.js';
import { Feature, Features } from '../features/index.js';
import type { EventDefinition } from './event-definition.js';
import { matcherOf } from './name-matcher.js';

/** Where events are streamed, and the scope that reading them takes, by whatever way. */
export interface EventAccess {
  channel: string;
  scope: string;
}

/** What holds for all events whose names these patterns stand for, also for those that are not defined yet. */
export interface EventFamily extends EventAccess {
  /** Names, or with `*` for one or more characters. The most specific one of all families counts. */
  types: readonly string[];
  /** Whether callers may emit such events too; else only the server does. */
  open?: boolean;
}

export interface DeclaredEvents {
  events?: readonly EventDefinition<object>[];
  families?: readonly EventFamily[];
}

export const declaredEvents = new Feature<DeclaredEvents>();

/** What callers emit under names of their own. */
const CUSTOM: Rule = { pattern: '*', channel: 'custom.events', scope: 'event:read', open: true, matches: () => true };
/** Kinds are defined in code; those that callers make up are not remembered without end. */
const MAX_REMEMBERED = 1000;

interface Rule extends EventAccess {
  pattern: string;
  open: boolean;
  matches: (type: string) => boolean;
}

/** Who may read which kinds of events: the first rule that names a kind holds. `*` in `pattern` is one or more characters. */
export interface ReadingRule {
  pattern: string;
  may: boolean;
}

/** All kinds of events: what their data are, who may read them, on which channel they are streamed, and who may emit them. */
@Injectable()
export class EventCatalogue {
  /** By name. */
  readonly events: readonly EventDefinition<object>[];
  private readonly byType: ReadonlyMap<string, EventDefinition<object>>;
  /** The most specific ones first; the last one names every kind. */
  private readonly rules: readonly Rule[];
  private readonly remembered = new Map<string, Rule>();

  /** @throws Error when two modules declare the same event or pattern */
  constructor(features: Features) {
    const declared = features.of(declaredEvents);
    const events = declared.flatMap((one) => one.events ?? []);
    this.events = [...events].sort((a, b) => (a.type < b.type ? -1 : 1));
    this.byType = new Map(events.map((event) => [event.type, event]));
    this.rules = [...declared.flatMap((one) => one.families ?? []).flatMap(rulesOf), CUSTOM].sort(bySpecificity);
    assertOnce(events.map(({ type }) => type));
    assertOnce(this.rules.map(({ pattern }) => pattern));
  }

  /** That of some modules, without an application. */
  static of(modules: readonly (Type | DynamicModule)[]): EventCatalogue {
    return new EventCatalogue(new Features(modules));
  }

  accessTo(type: string): EventAccess {
    return this.ruleOf(type);
  }

  /** The kind that includes events of this one; null: there is none. */
  broaderTypeOf(type: string): string | null {
    return this.byType.get(type)?.broaderType ?? null;
  }

  /** Whether only the server itself publishes events of this name. */
  isReserved(type: string): boolean {
    const rule = this.ruleOf(type);
    return rule === CUSTOM ? this.byType.has(type) : !rule.open;
  }

  /** The channels, each with the scopes of which one is needed to hear something on it. */
  channels(): Map<string, ReadonlySet<string>> {
    const channels = new Map<string, Set<string>>();
    for (const { channel, scope } of this.rules) {
      channels.set(channel, (channels.get(channel) ?? new Set()).add(scope));
    }
    return channels;
  }

  /** The rules of one reader; the last one names every kind. */
  readingRules(actor: Actor): ReadingRule[] {
    return this.rules.map(({ pattern, scope }) => ({ pattern, may: actorHas(actor, scope) }));
  }

  /** Scopes of the actor that make kinds of events readable. */
  readingScopes(actor: Pick<Actor, 'scopes'>): string[] {
    return [...new Set(this.rules.map(({ scope }) => scope))].filter((scope) => actorHas(actor, scope));
  }

  /**
   * A name, or a pattern that stands only for kinds that may not be read, is refused; of other patterns what may be read is sent.
   * @throws AppError `forbidden` naming the scopes that are missing, with the kinds in `details` under the name of their field
   */
  assertMayRead(actor: Actor, patterns: readonly string[], field: string): void {
    const refused = patterns.flatMap((pattern) => {
      const rule = this.ruleOf(pattern);
      const isBroader = rule === CUSTOM && pattern.includes('*');
      return isBroader || actorHas(actor, rule.scope) ? [] : [{ pattern, scope: rule.scope }];
    });
    if (refused.length === 0) return;
    const scopes = [...new Set(refused.map(({ scope }) => scope))];
    throw AppError.forbidden(`These events need the scope ${scopes.join(' and ')}`, {
      required_scopes: scopes,
      [field]: refused.map(({ pattern }) => pattern),
    });
  }

  private ruleOf(type: string): Rule {
    let rule = this.remembered.get(type);
    if (!rule) {
      rule = this.rules.find(({ matches }) => matches(type)) ?? CUSTOM;
      if (this.remembered.size < MAX_REMEMBERED) this.remembered.set(type, rule);
    }
    return rule;
  }
}

function rulesOf({ types, channel, scope, open = false }: EventFamily): Rule[] {
  return types.map((pattern) => ({ pattern, channel, scope, open, matches: matcherOf([pattern]) }));
}

function bySpecificity(one: Rule, other: Rule): number {
  const [a, b] = [one, other].map(({ pattern }) => (pattern.includes('*') ? pattern.length : Number.MAX_SAFE_INTEGER));
  return b - a;
}

function assertOnce(names: readonly string[]): void {
  const twice = names.find((name, n) => names.indexOf(name) !== n);
  if (twice !== undefined) throw new Error(`Event ${twice} is declared twice`);
}
