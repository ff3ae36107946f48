import { type Actor } from '../platform/context/index.js';
import {
  type EventAccess,
  type Filterable,
  filterFields,
  isExpired,
  type StoredEvent,
} from '../platform/events/index.js';
import { publicId } from '../platform/ids/index.js';
import type { TelemetryRow } from '../telemetry/index.js';
import { ALL_EVENTS, TELEMETRY_SCOPE } from './channels.js';

/** A telemetry event as streams and the bus carry it. */
export interface TelemetryMessage {
  event_id: string;
  event_type: string;
  source: string;
  timestamp: string;
  data: Record<string, unknown>;
  metadata: Record<string, unknown> | null;
}

/** The bytes of one event on one channel, made once for all its readers. */
export class Frame {
  private asMessage: Buffer | undefined;
  private asServerSent: Buffer | undefined;

  constructor(
    readonly id: string,
    private readonly json: string,
  ) {}

  /** Characters. */
  get size(): number {
    return this.json.length;
  }

  /** For a WebSocket. */
  get message(): Buffer {
    return (this.asMessage ??= Buffer.from(this.json));
  }

  /** For server-sent events. */
  get serverSent(): Buffer {
    return (this.asServerSent ??= Buffer.from(`id: ${this.id}\ndata: ${this.json}\n\n`));
  }
}

/** An event as streams handle it: who may read it, the fields that filters compare, and its bytes. */
export abstract class StreamEvent implements Filterable {
  /** The id to resume from: `evt_...`, or the plain UUID of a telemetry event. */
  abstract readonly id: string;
  abstract readonly channels: readonly string[];
  abstract readonly fields: Readonly<Record<string, unknown>>;
  /** Place in the order of all events; null for telemetry, which has none. */
  abstract readonly seq: bigint | null;
  abstract readonly type: string;
  abstract readonly scope: string;
  private readonly frames = new Map<string, Frame>();
  /** Frames with the newest combined id of {@link Subscription.idOf}. All readers that are not catching up share it. */
  private readonly placedFrames = new Map<string, Frame>();

  frame(channel: string, id: string): Frame {
    const frames = id === this.id ? this.frames : this.placedFrames;
    let frame = frames.get(channel);
    if (frame?.id !== id) {
      frame = new Frame(id, this.textFor(channel, id));
      frames.set(channel, frame);
    }
    return frame;
  }

  /** True when the event is too old to be sent to anybody. */
  get expired(): boolean {
    return false;
  }

  /** True when the event is about this agent, which may read only such events. */
  abstract isOf(agent: Actor): boolean;

  protected abstract textFor(channel: string, id: string): string;
}

/** An event of the catalogue. */
export class CatalogueEvent extends StreamEvent {
  readonly id: string;
  readonly seq: bigint;
  readonly type: string;
  readonly scope: string;
  readonly channels: readonly string[];
  private known: Readonly<Record<string, unknown>> | undefined;

  constructor(
    private readonly event: StoredEvent,
    { channel, scope }: EventAccess,
  ) {
    super();
    this.id = publicId('evt', event.id);
    this.seq = BigInt(event.seq);
    this.type = event.type;
    this.scope = scope;
    this.channels = [channel, ALL_EVENTS];
  }

  get fields(): Readonly<Record<string, unknown>> {
    return (this.known ??= filterFields(this.event));
  }

  override get expired(): boolean {
    return isExpired(this.event);
  }

  isOf({ id }: Actor): boolean {
    const { data, subject, actorId } = this.event;
    return data.agent_id === id || subject === id || actorId === id;
  }

  protected textFor(channel: string, id: string): string {
    const { type: event_type, subject, seq, data, occurredAt: timestamp, source } = this.event;
    const { priority, correlationId: correlation_id, metadata } = this.event;
    const emitted = source === null ? {} : { source, priority, correlation_id, metadata };
    return JSON.stringify({
      type: 'event',
      channel,
      id,
      event_id: this.id,
      seq,
      event_type,
      subject,
      timestamp,
      ...emitted,
      data,
    });
  }
}

/** A stored telemetry event. */
export class TelemetryEvent extends StreamEvent {
  readonly seq = null;
  readonly scope = TELEMETRY_SCOPE;
  readonly channels: readonly string[];
  private parsed: TelemetryMessage | undefined;

  private constructor(
    readonly id: string,
    readonly type: string,
    private readonly source: string,
    private readonly timestamp: string,
    private readonly metric: { name: string; value: number } | null,
    /** The event as JSON. */
    readonly json: string,
  ) {
    super();
    this.channels = [metric ? 'telemetry.metrics' : 'telemetry.events'];
  }

  static of(row: TelemetryRow): TelemetryEvent {
    const timestamp = new Date(row.ts).toISOString();
    const json =
      `{"event_id":"${row.eventId}","event_type":"${row.eventType}","source":${JSON.stringify(row.source)},` +
      `"timestamp":"${timestamp}","data":${row.data},"metadata":${row.metadata}}`;
    return new TelemetryEvent(row.eventId, row.eventType, row.source, timestamp, row.metric, json);
  }

  static from(message: TelemetryMessage): TelemetryEvent {
    const { event_id: id, event_type: type, source, timestamp, data } = message;
    const { metric_name: name, value } = data;
    const metric = typeof name === 'string' && typeof value === 'number' ? { name, value } : null;
    const event = new TelemetryEvent(id, type, source, timestamp, metric, JSON.stringify(message));
    event.parsed = message;
    return event;
  }

  get fields(): Readonly<Record<string, unknown>> {
    return (this.parsed ??= JSON.parse(this.json) as TelemetryMessage) as unknown as Record<string, unknown>;
  }

  isOf({ name }: Actor): boolean {
    return this.source === name;
  }

  /** For a metric, `data` also has its name and value. */
  protected textFor(channel: string, id: string): string {
    const { timestamp, metric } = this;
    const named = metric ? `"metric_name":${JSON.stringify(metric.name)},"value":${metric.value},` : '';
    return `{"type":"event","channel":"${channel}","id":"${id}","timestamp":"${timestamp}","data":{${named}${this.json.slice(1)}}`;
  }
}
