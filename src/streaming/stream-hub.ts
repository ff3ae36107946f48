import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { isAppError } from '../platform/errors/index.js';
import { EventCatalogue, EventFeed } from '../platform/events/index.js';
import { HealthRegistry, Metrics } from '../platform/observability/index.js';
import { StreamPlaces } from '../platform/realtime/index.js';
import { isTelemetry } from './channels.js';
import type { StreamClient } from './stream-client.js';
import { CatalogueEvent, type StreamEvent } from './stream-event.js';
import { StreamProblem } from './stream-problem.js';
import type { Places, Subscription } from './subscription.js';
import { TelemetryFeed } from './telemetry-feed.js';
import { WritePulse } from './write-pulse.js';

const CLOSE_NORMAL = 1000;
/** A client that has had no subscription for this long is closed. */
const IDLE_MS = 5 * 60_000;
const BEAT_MS = 5000;

/** Holds the readers of this process and hands each event to those that subscribed to it and may read it. */
@Injectable()
export class StreamHub implements OnModuleDestroy {
  /** Each client, with the function that frees its place among the streams of its credential. */
  private readonly clients = new Map<StreamClient, () => void>();
  private readonly listeners = new Map<string, Map<StreamClient, Set<Subscription>>>();
  private readonly ends: { events?: () => void; telemetry?: () => void } = {};
  private readonly beating = setInterval(() => this.beatAll(), BEAT_MS).unref();
  private readonly pulse = new WritePulse();
  private sentBefore = 0;

  constructor(
    private readonly feed: EventFeed,
    private readonly telemetry: TelemetryFeed,
    private readonly streamPlaces: StreamPlaces,
    private readonly catalogue: EventCatalogue,
    metrics: Metrics,
    health: HealthRegistry,
  ) {
    const { clients } = this;
    const count = (): Record<string, number> => {
      const faces = { websocket: 0, sse: 0 };
      for (const { face } of clients.keys()) faces[face]++;
      return faces;
    };
    metrics.gauge('nexus_stream_clients', 'Readers of event streams connected to this process', ['face'], function () {
      for (const [face, n] of Object.entries(count())) this.set({ face }, n);
    });
    health.register('streams', async () => {
      if (feed.failing) throw new Error('Events cannot be read for the readers of streams');
      return count();
    });
    const sent = (): number => this.totalSent();
    metrics.counter('nexus_stream_events_sent_total', 'Events sent to readers', [], function () {
      this.reset();
      this.inc(sent());
    });
  }

  /**
   * Registers a client until {@link leave}.
   * @throws StreamProblem LIMIT_EXCEEDED when its credential holds as many connections as it may
   */
  enter(client: StreamClient): void {
    try {
      this.clients.set(client, this.streamPlaces.take(client.actor));
    } catch (error) {
      if (isAppError(error)) throw new StreamProblem('LIMIT_EXCEEDED', error.message);
      throw error;
    }
  }

  leave(client: StreamClient): void {
    const giveBack = this.clients.get(client);
    if (!giveBack) return;
    this.clients.delete(client);
    giveBack();
    this.sentBefore += client.sent;
    for (const subscription of [...client.subscriptions.values()]) this.remove(client, subscription);
  }

  all(): Iterable<StreamClient> {
    return this.clients.keys();
  }

  /** Resolves once the feeds of these channels run in this process, so that no later event is missed. */
  async listenTo(channels: Iterable<string>): Promise<void> {
    for (const channel of channels) {
      if (isTelemetry(channel)) this.ends.telemetry ??= this.telemetry.subscribe((event) => this.deliver(event));
      else {
        this.ends.events ??= this.feed.subscribe((event) =>
          this.deliver(new CatalogueEvent(event, this.catalogue.accessTo(event.type))),
        );
      }
    }
    if (this.ends.events) await this.feed.started();
  }

  get places(): Places {
    return { seq: this.feed.place ?? '0', telemetryId: this.telemetry.place };
  }

  add(client: StreamClient, subscription: Subscription): void {
    if (!this.clients.has(client)) return;
    client.subscriptions.set(subscription.id, subscription);
    for (const channel of subscription.channels) {
      const readers = this.listeners.get(channel) ?? new Map<StreamClient, Set<Subscription>>();
      readers.set(client, (readers.get(client) ?? new Set()).add(subscription));
      this.listeners.set(channel, readers);
    }
  }

  /** Ends a subscription, or only some of its channels. */
  remove(
    client: StreamClient,
    subscription: Subscription,
    channels: Iterable<string> = [...subscription.channels],
  ): void {
    for (const channel of channels) {
      subscription.channels.delete(channel);
      const readers = this.listeners.get(channel);
      const own = readers?.get(client);
      own?.delete(subscription);
      if (own?.size === 0) readers?.delete(client);
      if (readers?.size === 0) this.listeners.delete(channel);
    }
    if (subscription.channels.size === 0) client.subscriptions.delete(subscription.id);
    client.activeAt = Date.now();
    this.rest();
  }

  onModuleDestroy(): void {
    clearInterval(this.beating);
    this.pulse.flush();
    this.ends.events?.();
    this.ends.telemetry?.();
  }

  private deliver(event: StreamEvent): void {
    const { places } = this;
    for (const channel of event.channels) {
      const readers = this.listeners.get(channel);
      if (!readers) continue;
      for (const [client, subscriptions] of readers) {
        if (!client.mayRead(event)) continue;
        // A client gets an event once per channel, even when several of its subscriptions want it.
        for (const subscription of subscriptions) {
          if (!subscription.wants(event, channel)) continue;
          if (subscription.catchingUp.has(channel)) subscription.hold(event, channel);
          else this.pulse.send(client, event, channel, subscription.idOf(event, places));
          break;
        }
      }
    }
  }

  /** Stops the feeds that no client of this process reads any more. */
  private rest(): void {
    const channels = [...this.listeners.keys()];
    if (!channels.some(isTelemetry)) {
      this.ends.telemetry?.();
      this.ends.telemetry = undefined;
    }
    if (channels.every(isTelemetry)) {
      this.ends.events?.();
      this.ends.events = undefined;
    }
  }

  private beatAll(): void {
    const now = Date.now();
    for (const client of [...this.clients.keys()]) {
      client.beat(now);
      if (client.subscriptions.size === 0 && now - client.activeAt >= IDLE_MS) {
        client.close(CLOSE_NORMAL, 'Nothing was subscribed to');
      }
    }
  }

  private totalSent(): number {
    let sum = this.sentBefore;
    for (const { sent } of this.clients.keys()) sum += sent;
    return sum;
  }
}
