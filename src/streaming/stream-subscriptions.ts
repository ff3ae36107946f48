import { Injectable } from '@nestjs/common';
import { EventCatalogue, matcherOf, EventFeed } from '../platform/events/index.js';
import { parsePublicId, publicIdForm } from '../platform/ids/index.js';
import { ALL_EVENTS, Channels, checked, isTelemetry } from './channels.js';
import { SavedSubscriptions } from './saved-subscriptions.js';
import type { StreamClient } from './stream-client.js';
import { CatalogueEvent, type StreamEvent } from './stream-event.js';
import { filtersBy, warningsOf } from './stream-filters.js';
import { PLACES, sinceOf, UUID } from './since.js';
import { StreamHub } from './stream-hub.js';
import { StreamProblem } from './stream-problem.js';
import { Subscription } from './subscription.js';
import { TelemetryFeed } from './telemetry-feed.js';

const MOST_NAMES = 50;
const MOST_SUBSCRIPTIONS = 100;
const FIRST_PAGE = 50;
const LARGEST_PAGE = 500;
/** After about this many bytes of missed events, the server waits until the reader has taken them. */
const WAIT_BYTES = 64 * 1024;
/** At most this many missed events are sent again. A client that missed more is told to read the lists instead. */
const MOST_REPLAYED = 20_000;

/** A client's request to subscribe, not yet checked. */
export interface Wish {
  channels?: unknown;
  /** Patterns of event types, for the channel `events`. */
  patterns?: unknown;
  filters?: unknown;
  /** A saved subscription (`sub_...`), instead of channels, patterns and filters. */
  subscription_id?: unknown;
  /** Id or `seq` of the last event that was seen. */
  since?: unknown;
}

/** Where a client resumes: after a place in the order of events and after a telemetry event; null where the place is unknown. */
interface Start {
  seq: string | null;
  telemetryId: string | null;
}

/** Starts and ends subscriptions. A client that resumes first gets the events it missed, in order and once each. */
@Injectable()
export class StreamSubscriptions {
  constructor(
    private readonly hub: StreamHub,
    private readonly feed: EventFeed,
    private readonly telemetry: TelemetryFeed,
    private readonly saved: SavedSubscriptions,
    private readonly channels: Channels,
    private readonly catalogue: EventCatalogue,
  ) {}

  /** Checks a request without subscribing. @throws StreamProblem when it is invalid or not allowed */
  async check(client: StreamClient, wish: Wish): Promise<void> {
    this.read(client, await this.complete(client, wish));
    sinceOf(wish.since);
  }

  /**
   * Resolves once the client has been sent what it missed.
   * @throws StreamProblem
   */
  async subscribe(client: StreamClient, asked: Wish): Promise<void> {
    const wish = await this.complete(client, asked);
    const { subscription, channels } = this.read(client, wish);
    const start = await this.startOf(wish.since);
    if (start && channels.some((channel) => this.hears(client, channel))) {
      throw new StreamProblem('ALREADY_SUBSCRIBED', 'Only channels that are not subscribed to can be resumed');
    }
    for (const channel of channels) subscription.catchingUp.add(channel);
    // Added before the feeds start, so that the hub does not stop them for lack of readers.
    this.hub.add(client, subscription);
    await this.hub.listenTo(channels);
    client.tell({
      type: 'subscription_confirmed',
      subscription_id: subscription.id,
      channels,
      ...(wish.patterns === undefined ? {} : { patterns: wish.patterns }),
      filters: wish.filters ?? {},
      ...warningsOf(this.channels, channels, wish.filters),
    });
    if (!start) {
      subscription.catchingUp.clear();
      return;
    }
    await this.resume(client, subscription, channels, start);
  }

  /** @throws StreamProblem */
  unsubscribe(client: StreamClient, wish: { channels?: unknown; subscription_id?: unknown }): void {
    const { subscription_id: id } = wish;
    const found = [...client.subscriptions.values()].filter((one) => id === undefined || one.id === id);
    if (id !== undefined && found.length === 0) {
      throw new StreamProblem('UNKNOWN_SUBSCRIPTION', 'There is no such subscription on this connection');
    }
    const names = wish.channels === undefined ? ['*'] : namesOf('channels', wish.channels);
    if (id === undefined && wish.channels === undefined) {
      throw new StreamProblem('VALIDATION_ERROR', 'channels or subscription_id is needed');
    }
    const named = matcherOf(names.map(checked));
    const ended = new Set<string>();
    for (const subscription of found) {
      const channels = [...subscription.channels].filter(named);
      for (const channel of channels) ended.add(channel);
      this.hub.remove(client, subscription, channels);
    }
    client.tell({ type: 'unsubscription_confirmed', channels: [...ended] });
  }

  /** Replaces the id of a saved subscription by its patterns and filters. */
  private async complete(client: StreamClient, wish: Wish): Promise<Wish> {
    const { subscription_id: text } = wish;
    if (text === undefined) return wish;
    if ([wish.channels, wish.patterns, wish.filters].some((part) => part !== undefined)) {
      throw new StreamProblem('VALIDATION_ERROR', 'subscription_id goes without channels, patterns and filters');
    }
    const id = typeof text === 'string' ? parsePublicId('sub', text) : null;
    if (id === null) {
      throw new StreamProblem('UNKNOWN_SUBSCRIPTION', `subscription_id must be ${publicIdForm('sub')}`);
    }
    const saved = await this.saved.find(client.actor, id);
    if (!saved) throw new StreamProblem('UNKNOWN_SUBSCRIPTION', 'There is no such subscription');
    if (!saved.enabled) throw new StreamProblem('SUBSCRIPTION_DISABLED', 'The subscription is switched off');
    if (client.subscriptions.has(text as string)) {
      throw new StreamProblem('ALREADY_SUBSCRIBED', 'The connection has this subscription already');
    }
    return { ...wish, patterns: saved.patterns, filters: saved.filters ?? undefined };
  }

  private read(client: StreamClient, wish: Wish): { subscription: Subscription; channels: string[] } {
    if (client.subscriptions.size >= MOST_SUBSCRIPTIONS) {
      throw new StreamProblem('LIMIT_EXCEEDED', `At most ${MOST_SUBSCRIPTIONS} subscriptions per connection`);
    }
    const types = wish.patterns === undefined ? [] : namesOf('patterns', wish.patterns).map(checked);
    const names = wish.channels === undefined ? [] : namesOf('channels', wish.channels);
    if (types.length > 0) names.push(ALL_EVENTS);
    if (names.length === 0) throw new StreamProblem('VALIDATION_ERROR', 'channels or patterns is needed');
    const channels = this.channels.resolve(client.actor, names).filter((one) => client.only?.includes(one) ?? true);
    if (channels.length === 0) throw new StreamProblem('INSUFFICIENT_SCOPE', 'The ticket is for other channels');
    const id = typeof wish.subscription_id === 'string' ? wish.subscription_id : undefined;
    return {
      subscription: new Subscription(channels, types, filtersBy(this.channels, wish.filters, channels), id),
      channels,
    };
  }

  private hears(client: StreamClient, channel: string): boolean {
    return [...client.subscriptions.values()].some(({ channels }) => channels.has(channel));
  }

  private async startOf(since: unknown): Promise<Start | null> {
    const text = sinceOf(since);
    if (text === null) return null;
    if (UUID.test(text)) return { seq: null, telemetryId: text.toLowerCase() };
    const [, seq = text, telemetryId = null] = PLACES.exec(text.toLowerCase()) ?? [];
    const id = parsePublicId('evt', text);
    return { seq: id ? await this.feed.placeOf(id) : await this.knownPlace(seq), telemetryId };
  }

  /** The place when reading can go on from it without a gap: its event still exists, or it is 0 and no event was removed yet. */
  private async knownPlace(text: string): Promise<string | null> {
    if (!/^\d+$/.test(text)) return null;
    const before = BigInt(text) === 0n ? '0' : String(BigInt(text) - 1n);
    const [event] = await this.feed.since(before, 1);
    if (text === '0') return event === undefined || event.seq === '1' ? '0' : null;
    return event?.seq === String(BigInt(text)) ? event.seq : null;
  }

  private async resume(
    client: StreamClient,
    subscription: Subscription,
    channels: readonly string[],
    { seq, telemetryId }: Start,
  ): Promise<void> {
    const [telemetry, events] = [channels.filter(isTelemetry), channels.filter((channel) => !isTelemetry(channel))];
    // Channels that cannot be resumed go live first, so that the ids of resumed events contain their current place.
    if (telemetryId === null) this.goOn(client, subscription, telemetry);
    if (seq === null) this.goOn(client, subscription, events);
    else subscription.behind.seq = seq;
    if (telemetryId !== null && telemetry.length > 0) {
      await this.resumeTelemetry(client, subscription, telemetry, telemetryId);
    }
    if (seq !== null && events.length > 0) await this.resumeEvents(client, subscription, events, seq);
  }

  /** Tells the client that events may be missing, and sends live events from here on. */
  private goOn(client: StreamClient, subscription: Subscription, channels: readonly string[]): void {
    if (channels.length > 0) this.gap(client, channels);
    for (const channel of channels) subscription.catchingUp.delete(channel);
  }

  private async resumeTelemetry(
    client: StreamClient,
    subscription: Subscription,
    channels: readonly string[],
    since: string,
  ): Promise<void> {
    let id = since;
    while (client.open) {
      subscription.behind.telemetryId = id;
      // Events that arrive while the client is waited for are kept too, so the next round finds them.
      const missed = this.telemetry.since(id);
      if (!missed) {
        this.gap(client, channels);
        break;
      }
      const sent = this.sendMissed(client, subscription, missed);
      if (sent === missed.length) break;
      ({ id } = missed[sent - 1]);
      await client.flushed();
    }
    delete subscription.behind.telemetryId;
    for (const channel of channels) subscription.catchingUp.delete(channel);
    await client.flushed();
  }

  private async resumeEvents(
    client: StreamClient,
    subscription: Subscription,
    channels: readonly string[],
    seq: string,
  ): Promise<void> {
    await this.replay(client, subscription, channels, seq);
    // Nothing is awaited since the last missed event, so that no event arrives between it and the live events.
    delete subscription.behind.seq;
    for (const channel of channels) subscription.catchingUp.delete(channel);
    if (BigInt(seq) < BigInt(await this.feed.removedUpTo())) this.gap(client, channels);
  }

  /**
   * Sends the events after `seq`, page by page and no faster than the client takes them. Live events that arrive while the last page
   * is read are held and sent after it, so that nothing is missed or sent twice.
   */
  private async replay(
    client: StreamClient,
    subscription: Subscription,
    channels: readonly string[],
    seq: string,
  ): Promise<void> {
    let place = seq;
    let size = FIRST_PAGE;
    for (let replayed = 0; client.open;) {
      subscription.keep();
      const page = (await this.feed.since(place, size)).map(
        (event) => new CatalogueEvent(event, this.catalogue.accessTo(event.type)),
      );
      const kept = subscription.kept();
      let sent = this.sendMissed(client, subscription, page);
      const atOnce = sent === page.length;
      while (sent < page.length && client.open) {
        await client.flushed();
        sent += this.sendMissed(client, subscription, page.slice(sent));
      }
      place = page.at(-1)?.seq.toString() ?? place;
      // The page may contain events that the feed has not delivered yet; they must not be sent twice.
      subscription.sentUpTo = BigInt(place);
      if (page.length < size && atOnce && kept) {
        for (const { event, channel } of kept) {
          if (!subscription.wants(event, channel)) continue;
          client.send(event, channel, subscription.idOf(event, this.hub.places));
        }
        return;
      }
      if ((replayed += page.length) >= MOST_REPLAYED) {
        this.gap(client, channels);
        return;
      }
      await client.flushed();
      // Large events are read in small pages, so that a slow reader holds little memory.
      size = atOnce ? Math.min(2 * size, LARGEST_PAGE) : Math.ceil(size / 2);
    }
  }

  /** Sends the events that the client wants until {@link WAIT_BYTES} were sent. @returns how many events were handled, at least one */
  private sendMissed(client: StreamClient, subscription: Subscription, events: readonly StreamEvent[]): number {
    let bytes = 0;
    const { places } = this.hub;
    for (const [at, event] of events.entries()) {
      if (bytes >= WAIT_BYTES) return at;
      if (event.seq !== null) subscription.behind.seq = String(event.seq);
      for (const channel of event.channels) {
        if (!subscription.channels.has(channel)) continue;
        if (client.mayRead(event) && subscription.wants(event, channel)) {
          bytes += client.send(event, channel, subscription.idOf(event, places));
        }
      }
    }
    return events.length;
  }

  /** Tells the client that events may be missing, so that it reads the lists again. */
  private gap(client: StreamClient, channels: readonly string[]): void {
    client.tell({ type: 'gap', channels, message: 'relist', timestamp: new Date().toISOString() });
  }
}

function namesOf(field: string, value: unknown): string[] {
  const names: unknown[] = Array.isArray(value) ? value : [value];
  if (names.length === 0 || names.length > MOST_NAMES || !names.every((name) => typeof name === 'string')) {
    throw new StreamProblem('VALIDATION_ERROR', `${field} must be a list of 1 to ${MOST_NAMES} names`);
  }
  return names;
}
