import { randomUUID } from 'node:crypto';
import { type Filter, matcherOf } from '../platform/events/index.js';
import { publicId } from '../platform/ids/index.js';
import { ALL_EVENTS, isTelemetry } from './channels.js';
import type { StreamEvent } from './stream-event.js';

const MOST_PENDING = 5000;

/** How far this process has come: `seq` of the newest event, id of the newest telemetry event. */
export interface Places {
  readonly seq: string;
  readonly telemetryId: string;
}

/** One subscription of one client. */
export class Subscription {
  readonly channels: Set<string>;
  /** Channels whose missed events are being sent. Live events on them are held, or read again later. */
  readonly catchingUp = new Set<string>();
  /** How far the missed events have been sent, in the order of events and in that of telemetry; empty once all were. */
  readonly behind: { seq?: string; telemetryId?: string } = {};
  /** The `seq` up to which all events were sent. */
  sentUpTo = 0n;
  private readonly ofBoth: boolean;
  private readonly typeFits: ((type: string) => boolean) | null;
  private pending: { event: StreamEvent; channel: string }[] | null = null;

  constructor(
    channels: readonly string[],
    types: readonly string[],
    /** By channel. */
    private readonly filters: ReadonlyMap<string, Filter | null>,
    /** `sub_...`; a saved subscription keeps its own id. */
    readonly id = publicId('sub', randomUUID()),
  ) {
    this.channels = new Set(channels);
    this.ofBoth = channels.some(isTelemetry) && !channels.every(isTelemetry);
    this.typeFits = types.length > 0 ? matcherOf(types) : null;
  }

  /**
   * The id to resume from after this event: its own, or `<seq>.<telemetry event id>` when the subscription has events and telemetry,
   * which have separate orders.
   */
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

  /** Collects live events from now on, until {@link kept}. */
  keep(): void {
    this.pending = [];
  }

  hold(event: StreamEvent, channel: string): void {
    if (this.pending && this.pending.length <= MOST_PENDING) this.pending.push({ event, channel });
  }

  /** The live events since {@link keep}; null when there were too many and some were dropped. */
  kept(): { event: StreamEvent; channel: string }[] | null {
    const { pending } = this;
    this.pending = null;
    return pending && pending.length <= MOST_PENDING ? pending : null;
  }
}
