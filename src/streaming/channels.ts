import { Injectable } from '@nestjs/common';
import { type Actor, actorHas } from '../platform/context/index.js';
import { EventCatalogue, matcherOf } from '../platform/events/index.js';
import { nearestNames } from '../platform/http/index.js';
import { StreamProblem } from './stream-problem.js';

/** Telemetry as it is stored: metrics on one channel, every other event on the second. */
export const TELEMETRY_SCOPE = 'telemetry:read';
const TELEMETRY_CHANNELS = ['telemetry.metrics', 'telemetry.events'];

/** Every event of the kinds the reader may read, chosen by patterns of event types. */
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

/** The channels that can be listened to: those of the catalogue of events, and telemetry. */
@Injectable()
export class Channels {
  /** Each with the scopes of which one is needed. */
  private readonly scopes: Map<string, ReadonlySet<string>>;
  /** Names of the fields that events of a channel have, of those that are defined. */
  private readonly fields = new Map<string, Set<string>>();

  constructor(catalogue: EventCatalogue) {
    this.scopes = catalogue.channels();
    for (const channel of TELEMETRY_CHANNELS) this.scopes.set(channel, new Set([TELEMETRY_SCOPE]));
    for (const { type, schema } of catalogue.events) {
      const { channel } = catalogue.accessTo(type);
      const names = this.fields.get(channel) ?? new Set(FIELDS_OF_ALL);
      for (const name of Object.keys(schema.properties ?? {})) names.add(name);
      this.fields.set(channel, names);
    }
  }

  /**
   * Whether events of a channel may have a field, written as in filters: a filter on one that they never have is not applied to the
   * channel, so that one subscription may filter several channels.
   */
  mayHave(channel: string, field: string): boolean {
    const [first, second] = field.split('.');
    const name = first === 'data' && second !== undefined ? second : first === 'tag' ? 'tags' : first;
    if (isTelemetry(channel)) return first === 'data' || !NOT_OF_TELEMETRY.has(name);
    return OPEN.has(channel) || (this.fields.get(channel)?.has(name) ?? false);
  }

  /** Names of the fields that events of the server's own have. */
  knownFields(): string[] {
    return [...this.fields.values()].flatMap((names) => [...names]);
  }

  /** Whether no event of this channel exists yet: its domain is still to come. */
  isSilent(channel: string): boolean {
    return !OPEN.has(channel) && !isTelemetry(channel) && !this.fields.has(channel);
  }

  /**
   * The channels that names and wildcards stand for, of those the actor may listen to. A wildcard stands for channels that have events.
   * @throws StreamProblem INVALID_CHANNEL for a name or wildcard that stands for none, INSUFFICIENT_SCOPE
   */
  resolve(actor: Actor, names: readonly string[]): string[] {
    const found = new Set<string>();
    for (const name of names) {
      const matches = matcherOf([checked(name)]);
      const named = name === ALL_EVENTS ? [ALL_EVENTS] : this.offered(name, [...this.scopes.keys()].filter(matches));
      if (named.length === 0) {
        const there = [...this.scopes.keys(), ALL_EVENTS].filter((channel) => !this.isSilent(channel));
        throw new StreamProblem(
          'INVALID_CHANNEL',
          `There is no channel ${name}; there are ${nearestNames(name, there)}`,
        );
      }
      const allowed = named.filter((channel) => this.mayListen(actor, channel));
      if (allowed.length === 0) {
        throw new StreamProblem(
          'INSUFFICIENT_SCOPE',
          `${name} needs the scope ${this.scopesOf(named[0]).join(' or ')}`,
        );
      }
      for (const channel of allowed) found.add(channel);
    }
    return [...found];
  }

  /** A channel that has no events yet is found by its name alone. */
  private offered(name: string, channels: string[]): string[] {
    return channels.filter((channel) => channel === name || !this.isSilent(channel));
  }

  private mayListen(actor: Actor, channel: string): boolean {
    return this.scopesOf(channel).some((scope) => actorHas(actor, scope));
  }

  private scopesOf(channel: string): string[] {
    return channel === ALL_EVENTS ? [ALL_EVENTS_SCOPE] : [...(this.scopes.get(channel) ?? [])];
  }
}

export function isTelemetry(channel: string): boolean {
  return TELEMETRY_CHANNELS.includes(channel);
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
