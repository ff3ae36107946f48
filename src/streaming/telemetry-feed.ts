import { randomUUID } from 'node:crypto';
import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { systemActor } from '../platform/context/index.js';
import { Logger } from '../platform/observability/index.js';
import { Bus } from '../platform/realtime/index.js';
import { EventQueries, TelemetryIngest, type TelemetryRow } from '../telemetry/index.js';
import { TelemetryEvent, type TelemetryMessage } from './stream-event.js';

const INTEREST = 'streaming.interest';
const TELEMETRY = 'streaming.telemetry';
/** A message of the bus has at most 7000 bytes, its envelope included. */
const CHUNK_BYTES = 6500;
const ANNOUNCE_MS = 10_000;
const INTEREST_LASTS_MS = 3 * ANNOUNCE_MS;
/** How long the newest events are kept after the last reader has left, for readers that reconnect. */
const LINGER_MS = 60_000;
const KEPT_EVENTS = 2000;
const KEPT_CHARACTERS = 512 * 1024;

type Listener = (event: TelemetryEvent) => void;
/** An event sent to other processes, or only its id when it is too large for the bus. */
type Parcel = TelemetryMessage | string;

/**
 * Gives telemetry to the readers of this process soon after its commit: directly what this process stored, and in chunks over the
 * bus what others stored, only while this process has readers. Nothing is written for it. The newest events are kept to resume from.
 */
@Injectable()
export class TelemetryFeed implements OnModuleDestroy {
  private readonly process = randomUUID();
  /** For each other process with readers, until when it wants telemetry, epoch milliseconds. */
  private readonly interests = new Map<string, number>();
  private readonly listeners = new Set<Listener>();
  private kept: TelemetryEvent[] = [];
  private keptCharacters = 0;
  /** An id for the place before the first kept event. It is replaced when events are dropped, so that such a gap is noticed. */
  private begin = randomUUID();
  private announcing: NodeJS.Timeout | undefined;
  private lingering: NodeJS.Timeout | undefined;

  constructor(
    private readonly bus: Bus,
    private readonly queries: EventQueries,
    private readonly logger: Logger,
    ingest: TelemetryIngest,
  ) {
    ingest.onFlushed((rows) => this.stored(rows));
    bus.subscribe<{ process: string; lasts: number }>(INTEREST, ({ process, lasts }) => {
      if (process !== this.process) this.interests.set(process, Date.now() + lasts);
    });
    bus.subscribe<{ from: string; parcels: Parcel[] }>(TELEMETRY, ({ from, parcels }) => {
      if (from !== this.process && this.announcing) for (const parcel of parcels) this.unpack(parcel);
    });
  }

  /** @returns a function that ends the subscription */
  subscribe(listener: Listener): () => void {
    clearTimeout(this.lingering);
    this.listeners.add(listener);
    if (!this.announcing) {
      this.announce(INTEREST_LASTS_MS);
      this.announcing = setInterval(() => this.announce(INTEREST_LASTS_MS), ANNOUNCE_MS).unref();
    }
    return () => {
      this.listeners.delete(listener);
      if (this.listeners.size === 0) this.lingering = setTimeout(() => this.stop(), LINGER_MS).unref();
    };
  }

  /** The id to resume from after the newest event. */
  get place(): string {
    return this.kept.at(-1)?.id ?? this.begin;
  }

  /** The kept events after a place; null when the place is no longer known, so that events may be missing. */
  since(id: string): TelemetryEvent[] | null {
    if (id === this.begin) return this.kept.slice();
    const at = this.kept.findIndex((event) => event.id === id);
    return at < 0 ? null : this.kept.slice(at + 1);
  }

  onModuleDestroy(): void {
    clearTimeout(this.lingering);
    this.stop();
  }

  private stop(): void {
    if (!this.announcing) return;
    clearInterval(this.announcing);
    this.announcing = undefined;
    this.announce(0);
    this.kept = [];
    this.keptCharacters = 0;
    this.begin = randomUUID();
  }

  private announce(lasts: number): void {
    this.bus.publish(INTEREST, { process: this.process, lasts });
  }

  private stored(rows: readonly TelemetryRow[]): void {
    const elsewhere = this.wantedElsewhere();
    if (!this.announcing && !elsewhere) return;
    const events = rows.map((row) => TelemetryEvent.of(row));
    if (this.announcing) for (const event of events) this.take(event);
    if (elsewhere) this.post(events);
  }

  private take(event: TelemetryEvent): void {
    this.kept.push(event);
    this.keptCharacters += event.json.length;
    if (this.kept.length > 2 * KEPT_EVENTS || this.keptCharacters > 2 * KEPT_CHARACTERS) this.trim();
    for (const listener of this.listeners) listener(event);
  }

  /** Drops about half of the kept events, so that this does not run for every event. */
  private trim(): void {
    let from = Math.max(0, this.kept.length - KEPT_EVENTS);
    let characters = this.kept.slice(from).reduce((sum, { json }) => sum + json.length, 0);
    for (; characters > KEPT_CHARACTERS; from++) characters -= this.kept[from].json.length;
    if (from > 0) this.begin = randomUUID();
    this.kept = this.kept.slice(from);
    this.keptCharacters = characters;
  }

  private wantedElsewhere(): boolean {
    if (this.interests.size === 0) return false;
    const now = Date.now();
    for (const [process, until] of this.interests) if (until <= now) this.interests.delete(process);
    return this.interests.size > 0;
  }

  private post(events: readonly TelemetryEvent[]): void {
    let parcels: Parcel[] = [];
    let bytes = 0;
    const send = (): void => {
      if (parcels.length > 0) this.bus.publish(TELEMETRY, { from: this.process, parcels });
      parcels = [];
      bytes = 0;
    };
    for (const { id, json } of events) {
      const size = Buffer.byteLength(json) + 1;
      const fits = size <= CHUNK_BYTES;
      if (bytes + (fits ? size : id.length + 3) > CHUNK_BYTES) send();
      parcels.push(fits ? (JSON.parse(json) as TelemetryMessage) : id);
      bytes += fits ? size : id.length + 3;
    }
    send();
  }

  private unpack(parcel: Parcel): void {
    if (typeof parcel !== 'string') {
      this.take(TelemetryEvent.from(parcel));
      return;
    }
    this.queries.get(systemActor, parcel).then(
      ({ received_at: _received, ...message }) => this.take(TelemetryEvent.from(message)),
      (error: unknown) => this.logger.warn({ err: String(error) }, 'A large telemetry event did not reach its readers'),
    );
  }
}
