import { randomUUID } from 'node:crypto';
import { type Filter, matcherOf } from '../platform/events/index.js';
import { publicId } from '../platform/http/index.js';
import { ALL_EVENTS, isTelemetry } from './channels.js';
import type { StreamEvent } from './stream-event.js';

const MOST_PENDING = 5000;

/** How far this process has come: `seq` of the newest event, id of the newest telemetry event. */
export interface Places {
  readonly seq: string;
  readonly telemetryId: string;
}

/** What one client asked to hear. */
export class Subscription {
  readonly channels: Set<string>;
  /** Channels whose missed events are being sent; what goes by on them meanwhile waits or is read again. */
  readonly catchingUp = new Set<string>();
  /** While missed events are being sent: up to where, in the order of events and of telemetry. */
  readonly behind: { seq?: string; telemetryId?: string } = {};
  /** Place in the order of events up to which all was sent. */
  sentUpTo = 0n;
  private readonly ofBoth: boolean;
  private readonly typeFits: ((type: string) => boolean) | null;
  private pending: { event: StreamEvent; channel: string }[] | null = null;

  constructor(
    channels: readonly string[],
    types: readonly string[],
    /** By channel. */
    private readonly filters: ReadonlyMap<string, Filter | null>,
    /** `sub_...`: of a saved subscription its own. */
    readonly id = publicId('sub', randomUUID()),
  ) {
    this.channels = new Set(channels);
    this.ofBoth = channels.some(isTelemetry) && !channels.every(isTelemetry);
    this.typeFits = types.length > 0 ? matcherOf(types) : null;
  }

  /** What an event is resumed from: its id, or `<seq>.<telemetry id>` where events and telemetry, each in an order of its own, are followed. */
  idOf(event: StreamEvent, places: Places): string {
    if (!this.ofBoth) return event.id;
    const { seq = places.seq, telemetryId = places.telemetryId } = this.behind;
    return event.seq === null ? `${seq}.${event.id}` : `${event.seq}.${telemetryId}`;
  }

  wants(event: StreamEvent, channel: string): boolean {
    if (event.seq !== null && event.seq <= this.sentUpTo) return false;
    if (event.expired) return false;
    if (channel === ALL_EVENTS && this.typeFits && !this.typeFits(event.type)) return false;
    return this.filters.get(channel)?.(event) ?? true;
  }

  /** Keeps the events that go by from now on, until {@link kept}. */
  keep(): void {
    this.pending = [];
  }

  hold(event: StreamEvent, channel: string): void {
    if (this.pending && this.pending.length <= MOST_PENDING) this.pending.push({ event, channel });
  }

  /** What went by since {@link keep}; null when it was too much and some of it is lost. */
  kept(): { event: StreamEvent; channel: string }[] | null {
    const { pending } = this;
    this.pending = null;
    return pending && pending.length <= MOST_PENDING ? pending : null;
  }
}
